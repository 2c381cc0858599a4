"""All items of a suite asked of a served model, in one form after another; what is done is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from eval.costs import Cost
from eval.drawing import drawn
from eval.endpoint.answers import Chooser, Writer, room_for
from eval.endpoint.client import Endpoint, Refused
from eval.endpoint.items import Asked, Item
from eval.endpoint.likely import Joint, Likelihood
from eval.journal import Journal
from eval.record import Prediction
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import DataError, IntegrityError

ARMS = ("generate", "constrained", "likelihood", "joint")
"""The forms in which an endpoint may be asked."""
ALONG: Mapping[str, tuple[str, ...]] = {"likelihood": ("likelihood", "likelihood_mean")}
"""What one pass gives beside its own arm."""
Earlier = Literal["check", "keep", "drop"]
"""What becomes of the answers of a run that did not end: they count once some of them are
answered alike again, or without a look, or not at all."""
MAX_NEW_TOKENS = 24
"""Of a free answer, where neither the user nor a recipe says it; what a recipe says by itself."""
_VERSION = 3
# Of a label's log-probability, in nats.
_ALIKE = 1e-3
# Two models of equal answers to so many drawn questions differ on few of the rest. Scores tell
# models apart by one.
_ASKED_AGAIN = 20
_SHOWN = 40

OnProgress = Callable[[str, int, int], None]


class Asker(Protocol):
    """One form of asking."""

    async def probe(self) -> str | None:
        """Why the endpoint cannot be asked so, or None."""

    async def answer(self, item: Item) -> dict[str, Prediction]:
        """One answer by arm."""


@dataclass(frozen=True)
class Answers:
    """What came of one arm.

    Attributes:
        predictions: in the order of the items; None where the arm is not available.
        cost: of all runs that it took, the killed ones in; by the clock of this machine.
        reason: why it is not available.
        earlier: how many of them an earlier run left.
        since: when that was, for people.
        journal: where they are kept until they stand elsewhere.
    """

    predictions: list[Prediction] | None
    cost: Cost | None = None
    reason: str | None = None
    earlier: int = 0
    since: str = ""
    journal: Journal | None = None


async def ask_suite(
    endpoint: Endpoint,
    asked: Asked,
    arms: Sequence[str],
    folder: Path,
    *,
    max_new_tokens: int | None = None,
    on_progress: OnProgress,
    earlier: Earlier = "check",
) -> dict[str, Answers]:
    """Every item in every arm; answers by arm, ``likelihood_mean`` beside ``likelihood``.

    Args:
        folder: of the journals. What one holds is not asked for again; whoever has put all
            answers elsewhere takes it away.
        max_new_tokens: of a free answer; None: what the suite's recipe says, else
            MAX_NEW_TOKENS.
        earlier: what becomes of answers that a journal holds already.
        on_progress: told (arm, items done, items) at the start and after each batch.

    Raises:
        EngineError, UserError, DataError: of the endpoint, or of one row; what was answered
            is kept.
        IntegrityError: the endpoint answers otherwise than in the earlier run.
    """
    found: dict[str, Answers] = {}
    most = max_new_tokens or asked.max_new_tokens or MAX_NEW_TOKENS
    for arm in arms:
        names = ALONG.get(arm, (arm,))
        why = _no_meaning(asked, arm)
        if why is not None:
            found |= {name: Answers(None, reason=why) for name in names}
            continue
        key = _key(endpoint, asked, arm, most)
        journals = {n: Journal(folder / f"journal-{asked.suite}@{n}.jsonl", key) for n in names}
        if earlier == "drop":
            for journal in journals.values():
                journal.begin_anew()
        done = set.intersection(*(set(journal.done()) for journal in journals.values()))
        left = [item for item in asked.items if item.example_id not in done]
        kept = len(asked.items) - len(left)
        on_progress(arm, kept, len(asked.items))
        asker = _asker(endpoint, asked, arm, most)
        reason = await asker.probe()
        if reason is None:
            if kept and earlier == "check":
                await _require_alike(asker, asked, journals)
            await _ask(asker, asked, left, journals, endpoint.concurrency, on_progress, arm)
        for name, journal in journals.items():
            known = journal.done()
            if reason is not None:
                found[name] = Answers(None, reason=reason)
                if not known:
                    journal.remove()
            else:
                rows = [known[item.example_id] for item in asked.items]
                since = _minute(journal.written_at)
                found[name] = Answers(rows, journal.cost, None, kept, since, journal)
    return found


def _no_meaning(asked: Asked, arm: str) -> str | None:
    """Why rows cannot be asked in an arm, whatever the endpoint gives."""
    if arm != "generate" and asked.labels is None:
        return "the rows have open answers: there are no labels to choose from"
    if asked.channel and arm != "joint":
        return "the recipe's model writes a text for a label, and is asked in joint alone"
    return None


def _asker(endpoint: Endpoint, asked: Asked, arm: str, max_new_tokens: int) -> Asker:
    if arm == "generate":
        return Writer(endpoint, asked, max_new_tokens)
    if arm == "constrained":
        return Chooser(endpoint, asked, max_new_tokens)
    return Likelihood(endpoint, asked) if arm == "likelihood" else Joint(endpoint, asked)


async def _ask(
    asker: Asker,
    asked: Asked,
    left: Sequence[Item],
    journals: Mapping[str, Journal],
    concurrency: int,
    on_progress: OnProgress,
    arm: str,
) -> None:
    total, done = len(asked.items), len(asked.items) - len(left)
    rest = iter(left)
    waiting: set[asyncio.Task[dict[str, Prediction]]] = set()
    began = time.perf_counter()
    try:
        while True:
            while len(waiting) < concurrency and (item := next(rest, None)) is not None:
                waiting.add(asyncio.create_task(_one(asker, asked, item)))
            if not waiting:
                return
            over, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            good = [task.result() for task in over if task.exception() is None]
            now = time.perf_counter()
            for name, journal in journals.items() if good else ():
                made = [answer[name] for answer in good]
                journal.add(made, _cost(made, now - began))
            began = now
            done += len(good)
            on_progress(arm, done, total)
            for task in over:
                task.result()
    finally:
        await _called_off(waiting)


async def _called_off(tasks: Collection[asyncio.Task[dict[str, Prediction]]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _one(asker: Asker, asked: Asked, item: Item) -> dict[str, Prediction]:
    try:
        return await asker.answer(item)
    except Refused as refusal:
        raise DataError(
            f"suite {asked.suite}: row {item.example_id}: the endpoint refuses it ({refusal}); "
            "shorten the row, or serve the model with a longer context"
        ) from None


async def _require_alike(asker: Asker, asked: Asked, journals: Mapping[str, Journal]) -> None:
    """Asks some of an earlier run's items again: behind a name there may be other weights.

    Raises:
        IntegrityError: one answer or more is another.
    """
    earlier = {name: journal.done() for name, journal in journals.items()}
    common = set.intersection(*(set(answers) for answers in earlier.values()))
    kept = [item for item in asked.items if item.example_id in common]
    scored = any(answers[kept[0].example_id].scores is not None for answers in earlier.values())
    some = drawn(kept, 1 if scored else _ASKED_AGAIN)
    tasks = [asyncio.create_task(_one(asker, asked, item)) for item in some]
    try:
        again = await asyncio.gather(*tasks)
    finally:
        await _called_off(tasks)
    for name, journal in journals.items():
        pairs = [(earlier[name][i.example_id], a[name]) for i, a in zip(some, again, strict=True)]
        unlike = [(was.example_id, told) for was, now in pairs if (told := _unlike(was, now))]
        if unlike:
            row, told = unlike[0]
            raise IntegrityError(
                f"suite {asked.suite}, {name}: row {row} is answered otherwise than in the run of "
                f"{_minute(journal.written_at)} that did not end ({told}; {len(unlike)} of "
                f"{len(some)} asked again differ); if the model has changed, give --earlier drop "
                "to ask all anew; if it never answers twice alike, give --earlier keep to go on"
            )


def _unlike(was: Prediction, now: Prediction) -> str | None:
    """How two answers to one question differ; None where they do not."""
    if was.scores is None or now.scores is None:
        if was.raw_text == now.raw_text:
            return None
        return f"{(was.raw_text or '')[:_SHOWN]!r} then, {(now.raw_text or '')[:_SHOWN]!r} now"
    apart = {label: abs(score - now.scores[label]) for label, score in was.scores.items()}
    label = max(apart, key=lambda one: apart[one])
    if apart[label] <= _ALIKE:
        return None
    return f"the log-probability of {label!r} is {apart[label]:.4f} nats from that of then"


def _minute(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _cost(rows: Sequence[Prediction], wall_s: float) -> Cost:
    """By this machine's clock alone: nobody tells what the endpoint's processors did."""
    read, written = sum(r.prompt_tokens for r in rows), sum(r.output_tokens for r in rows)
    return Cost(len(rows), wall_s, 0.0, 0, "cpu", read, written)


def _key(endpoint: Endpoint, asked: Asked, arm: str, max_new_tokens: int) -> str:
    """Changes where an answer of this arm could, and with nothing that it does not read.

    The address, the model, the rows, the labels and the template are read by all.
    """
    labels = list(asked.labels or ())
    told = [_VERSION, endpoint.url, endpoint.model, arm, asked.identity, labels]
    own: dict[str, Any] = {}
    if arm == "generate":
        own["max_new_tokens"] = max_new_tokens
        own["answer_after"] = asked.answer_after if asked.labels is None else None
    if arm == "constrained":
        own["max_new_tokens"] = room_for(labels, max_new_tokens)
    if arm == "joint":
        own["prior"] = dict(asked.prior or {})
    return text_digest(canonical_json([*told, dict(asked.template_kwargs), own]))
