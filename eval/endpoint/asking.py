"""All items of a suite asked of a served model, in one form after another; what is done is kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eval.costs import Cost
from eval.endpoint.answers import Chooser, Writer
from eval.endpoint.client import Endpoint, Refused
from eval.endpoint.items import Asked, Item
from eval.endpoint.likely import Joint, Likelihood
from eval.journal import Journal
from eval.record import Prediction
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import DataError

ARMS = ("generate", "constrained", "likelihood", "joint")
"""The forms in which an endpoint may be asked."""
ALONG: Mapping[str, tuple[str, ...]] = {"likelihood": ("likelihood", "likelihood_mean")}
"""What one pass gives beside its own arm."""
_VERSION = 1

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
    """

    predictions: list[Prediction] | None
    cost: Cost | None = None
    reason: str | None = None


async def ask_suite(
    endpoint: Endpoint,
    asked: Asked,
    arms: Sequence[str],
    folder: Path,
    *,
    max_new_tokens: int,
    on_progress: OnProgress,
) -> dict[str, Answers]:
    """Every item in every arm; answers by arm, ``likelihood_mean`` beside ``likelihood``.

    Args:
        folder: where finished answers lie: they are not asked for again.
        on_progress: told (arm, items done, items) at the start and after each batch.

    Raises:
        EngineError, UserError, DataError: of the endpoint, or of one row; what was answered
            is kept.
    """
    found: dict[str, Answers] = {}
    for arm in arms:
        names = ALONG.get(arm, (arm,))
        if arm != "generate" and asked.labels is None:
            why = "the rows have open answers: there are no labels to choose from"
            found |= {name: Answers(None, reason=why) for name in names}
            continue
        key = _key(endpoint, asked, arm, max_new_tokens)
        journals = {n: Journal(folder / f"journal-{asked.suite}@{n}.jsonl", key) for n in names}
        done = set.intersection(*(set(journal.done()) for journal in journals.values()))
        left = [item for item in asked.items if item.example_id not in done]
        on_progress(arm, len(asked.items) - len(left), len(asked.items))
        reason: str | None = None
        if left:
            asker = _asker(endpoint, asked, arm, max_new_tokens)
            reason = await asker.probe()
            if reason is None:
                await _ask(asker, asked, left, journals, endpoint.concurrency, on_progress, arm)
        for name, journal in journals.items():
            known = journal.done()
            if reason is not None:
                found[name] = Answers(None, reason=reason)
            else:
                rows = [known[item.example_id] for item in asked.items]
                found[name] = Answers(rows, journal.cost)
    return found


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
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _one(asker: Asker, asked: Asked, item: Item) -> dict[str, Prediction]:
    try:
        return await asker.answer(item)
    except Refused as refusal:
        raise DataError(
            f"suite {asked.suite}: row {item.example_id}: the endpoint refuses it ({refusal}); "
            "shorten the row, or serve the model with a longer context"
        ) from None


def _cost(rows: Sequence[Prediction], wall_s: float) -> Cost:
    """By this machine's clock alone: nobody tells what the endpoint's processors did."""
    read, written = sum(r.prompt_tokens for r in rows), sum(r.output_tokens for r in rows)
    return Cost(len(rows), wall_s, 0.0, 0, "cpu", read, written)


def _key(endpoint: Endpoint, asked: Asked, arm: str, max_new_tokens: int) -> str:
    """Changes where an answer could: the address, the model, the rows, the labels, the form."""
    told = [_VERSION, endpoint.url, endpoint.model, arm, asked.identity, list(asked.labels or ())]
    kwargs = [dict(asked.template_kwargs), asked.answer_after, max_new_tokens]
    return text_digest(canonical_json([*told, *kwargs, dict(asked.prior or {})]))
