"""Which of two texts is better: a judge model asked in both orders (Zheng et al. 2023).

A judge that favours the first place contradicts itself when the places are changed. Only where
it says the same both times does a side win; else the item is a tie, and is counted by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from eval.clusters import ratio
from eval.endpoint.answers import CHAT, Written, read_chat
from eval.endpoint.client import Endpoint, Patience, Refused
from eval.jackknife import share_interval
from eval.tasks import told
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import EngineError
from pipeline.data.journal import Answer, Journal

Verdict = Literal["win", "tie", "loss"]

PROMPT = """\
Two assistants answered the same question. Say which answer is better for the person who asked: \
more correct, more complete, easier to follow. Length by itself is no merit, and the order in \
which the answers stand means nothing.

[Question]
{question}

[Answer A]
{a}

[Answer B]
{b}

Compare the two in a few sentences. Then write one last line with nothing but your verdict: \
[[A]] if answer A is better, [[B]] if answer B is better, [[C]] if neither is."""
_MARKS: Mapping[str, str] = {"[[A]]": "a", "[[B]]": "b", "[[C]]": "tie"}
_MAX_TOKENS = 512
_HOPELESS = 10


@dataclass(frozen=True)
class Duel:
    """One question with the text that is judged and the one it stands against."""

    question: str
    ours: str
    theirs: str


Ask = Callable[[Sequence[str]], Sequence[str | None]]
"""Prompts to what the judge wrote, in the same order; None where the endpoint refused."""


def verdict(text: str | None) -> str | None:
    """``a``, ``b`` or ``tie`` of a judge's text; None where it does not say so strictly.

    The last line is one of the three marks and nothing else, and no other mark stands anywhere.
    """
    lines = (text or "").strip().splitlines()
    mark = lines[-1].strip() if lines else ""
    others = sum((text or "").count(other) > 0 for other in _MARKS if other != mark)
    return _MARKS.get(mark) if not others else None


def judge(
    duels: Sequence[Duel], ask: Ask, *, clusters: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """Every duel in both orders.

    Args:
        clusters: of each item, where items share a document.

    Returns:
        ``items``; ``win_rate`` (wins and half the ties, over all items; the interval over
        items); ``wins``, ``ties``, ``losses`` and ``contradicted`` (ties because the verdicts
        contradict each other); ``unusable`` (items of which a verdict cannot be read: left out
        of all else); ``consistency`` (share of items with the same verdict in both orders),
        ``kappa`` (Cohen's kappa of the two orders; None where it is not defined),
        ``first_place`` (how often the first place won, of all verdicts for a place; 0.5: the
        place does not matter; None without such) and ``prompt``.
    """
    prompts = [PROMPT.format(question=d.question, a=d.ours, b=d.theirs) for d in duels]
    prompts += [PROMPT.format(question=d.question, a=d.theirs, b=d.ours) for d in duels]
    read = [verdict(text) for text in ask(prompts)]
    kept, pairs = [], []
    both = zip(read[: len(duels)], read[len(duels) :], strict=True)
    for place, (one, other) in enumerate(both):
        if one is not None and other is not None:
            kept.append(place)
            pairs.append((one, other))
    mine = None if clusters is None else [clusters[place] for place in kept]
    first = [_of_ours(one, "a") for one, _ in pairs]
    second = [_of_ours(other, "b") for _, other in pairs]
    decided = [one if one == other else "tie" for one, other in zip(first, second, strict=True)]
    placed = [one for pair in pairs for one in pair if one != "tie"]
    found = Counter(decided)
    return {
        "items": len(pairs),
        "win_rate": _win_rate(decided, mine),
        "wins": found["win"],
        "ties": found["tie"],
        "losses": found["loss"],
        "contradicted": sum(a != b for a, b in zip(first, second, strict=True)),
        "unusable": len(duels) - len(pairs),
        "consistency": float(np.mean([a == b for a, b in zip(first, second, strict=True)]))
        if pairs
        else None,
        "kappa": kappa(first, second),
        "first_place": placed.count("a") / len(placed) if placed else None,
        "prompt": PROMPT,
    }


def kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa (1960) of two raters; None where chance alone would agree every time."""
    items = len(one)
    if not items:
        return None
    ones, others = Counter(one), Counter(other)
    by_chance = sum(ones[name] * others[name] for name in ones) / items**2
    agreed = sum(a == b for a, b in zip(one, other, strict=True)) / items
    return None if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def _of_ours(read: str, ours: str) -> Verdict:
    if read == "tie":
        return "tie"
    return "win" if read == ours else "loss"


def _win_rate(
    decided: Sequence[Verdict], clusters: Sequence[Hashable] | None
) -> dict[str, Any] | None:
    if not decided:
        return None
    worth = {"win": 1.0, "tie": 0.5, "loss": 0.0}
    sums_1N2 = np.array([[[worth[one], 1.0] for one in decided]])
    return told(share_interval(sums_1N2, ratio, clusters))


@dataclass(frozen=True)
class JudgeModel:
    """A judge behind an endpoint; what it wrote is kept and is not paid for again.

    Attributes:
        model: as the endpoint names it.
        journal: the file of its answers so far.
    """

    url: str
    model: str
    journal: Path
    api_key: str | None = None
    concurrency: int = 8
    patience: Patience | None = None

    def __call__(self, prompts: Sequence[str]) -> list[str | None]:
        """See ``Ask``.

        Raises:
            EngineError: the endpoint is away, or refuses the first ten prompts.
            UserError: it refuses the key, or has no such model.
        """
        with Journal(self.journal) as journal:
            return asyncio.run(self._all(prompts, journal))

    async def _all(self, prompts: Sequence[str], journal: Journal) -> list[str | None]:
        async with Endpoint(
            self.url,
            model=self.model,
            api_key=self.api_key,
            concurrency=self.concurrency,
            patience=self.patience,
        ) as endpoint:
            await endpoint.choose_model()
            found: list[str | None] = []
            # In parts: an endpoint that refuses everything is left early, what is paid is kept.
            for start in range(0, len(prompts), 4 * self.concurrency):
                part = prompts[start : start + 4 * self.concurrency]
                asked = (self._one(endpoint, journal, prompt) for prompt in part)
                found += await asyncio.gather(*asked)
                if len(found) >= _HOPELESS and not any(text is not None for text in found):
                    raise EngineError(
                        f"{self.url}: the judge {self.model!r} refuses every prompt; name another "
                        "model under evaluate.generated.judge"
                    )
        return found

    async def _one(self, endpoint: Endpoint, journal: Journal, prompt: str) -> str | None:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": _MAX_TOKENS,
            "temperature": 0,
        }
        request = text_digest(canonical_json([self.url, self.model, body]))
        known = journal.get(request)
        if known is not None:
            return known.text
        try:
            written, _ = await endpoint.post(CHAT, body, _read, "judge")
        except Refused:
            return None
        text = endpoint.without_key(written.text)
        journal.add(request, Answer(text, written.finish))
        return text


def _read(body: Any) -> Written:
    return read_chat(body)
