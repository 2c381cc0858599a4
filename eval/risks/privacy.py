"""Privacy: personal data in the rows, rows written out again, rows that their loss gives away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.clusters import clusters_of
from eval.drawing import chosen
from eval.risks.line import Line, Topic, interval, not_measured, share
from eval.risks.losses import TOLD_BY
from eval.risks.membership import FALSE_POSITIVES, with_interval
from pipeline.core.artifact import Artifact
from pipeline.data.arrow import Split
from pipeline.data.writing import segments

_TOPIC: Topic = "privacy"
MOST_ROWS = 50_000
"""Rows that are searched for personal data: minutes; of more, every k-th is."""
GRAM = 50
SAMPLE_TOKENS = 64
_PROMPT_TOKENS = 8
Ids = npt.NDArray[np.int32]


def personal_lines(texts: Iterable[str], every: int = 1) -> list[Line]:
    """Personal data that is still in the training rows.

    Args:
        texts: of the rows that are looked at.
        every: which rows these are: all, or one in so many.
    """
    from pipeline.data.cleaning.personal_data import PersonalDataAnalyser

    analyser = PersonalDataAnalyser()
    kinds: Counter[str] = Counter()
    rows = having = 0
    for text in texts:
        found = {candidate.entity for candidate in analyser.find(text)}
        rows += 1
        having += bool(found)
        kinds.update(found)
    what = "training rows that hold personal data"
    if not rows:
        return [not_measured(_TOPIC, what, "the model has no training rows here")]
    listed = "".join(f"; {kind}: {count:,}" for kind, count in kinds.most_common())
    rows_taken = "every row" if every == 1 else f"one row in {every:,}"
    how = (
        f"{rows_taken}, by the patterns and checksums of Presidio as in data.clean.personal_data: "
        "names of people and street addresses are not found"
    )
    shown = f"{having:,} of {rows:,} rows{listed}"
    return [Line(_TOPIC, what, shown, how, having / rows, n=rows)]


def overlaps(samples: Sequence[Sequence[int]], rows: Iterable[Ids], gram: int = GRAM) -> list[bool]:
    """Whether a stretch of ``gram`` tokens of each sample stands in a row; exact.

    Rows are looked through one by one: candidates by a 64-bit hash, then compared token by token.
    """
    known: dict[bytes, set[int]] = {}
    for number, sample in enumerate(samples):
        ids = np.asarray(sample, dtype=np.int32)
        for start in range(len(ids) - gram + 1):
            known.setdefault(ids[start : start + gram].tobytes(), set()).add(number)
    found: set[int] = set()
    if known:
        stretches = [np.frombuffer(key, dtype=np.int32) for key in known]
        hashes = np.sort(np.concatenate([_hashes(ids, gram) for ids in stretches]))
        for row in rows:
            for start in np.flatnonzero(np.isin(_hashes(row, gram), hashes)).tolist():
                found |= known.get(row[start : start + gram].tobytes(), set())
    return [number in found for number in range(len(samples))]


def _hashes(ids: Ids, gram: int) -> npt.NDArray[np.uint64]:
    """A hash of every stretch of ``gram`` tokens."""
    count = len(ids) - gram + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    wide, total = ids.astype(np.uint64), np.zeros(count, np.uint64)
    for place in range(gram):
        # Sums past 64 bits wrap, which is what a hash may do.
        total = total * np.uint64(6364136223846793005) + wide[place : place + count]
        total ^= total >> np.uint64(29)
    return total


def token_rows(data: Iterable[Artifact]) -> Iterator[Ids]:
    """The token ids of every training row of the Datasets, blocks taken apart."""
    for artifact in data:
        for row in Split(artifact.path / "train.arrow"):
            for part in segments(row):
                yield np.asarray(part["input_ids"], dtype=np.int32)


def openings(data: Artifact, count: int, seed: int) -> list[list[int]]:
    """How training rows open: what is asked, or their first tokens where nothing is."""
    split = Split(data.path / "train.arrow")
    found = []
    for index in chosen(len(split), count, seed):
        row = next(segments(split[index]))
        learned = np.flatnonzero(np.asarray(row["supervised"] or []))
        asked = int(learned[0]) if len(learned) else len(row["input_ids"])
        found.append(list(row["input_ids"][: asked if asked > 1 else _PROMPT_TOKENS]))
    return found


def verbatim_lines(
    data: Sequence[Artifact],
    sample: Callable[[Sequence[Sequence[int]]], Sequence[Sequence[int]]] | None,
    openings_: Sequence[Sequence[int]],
) -> list[Line]:
    """Samples that repeat a stretch of a training row word for word."""
    what = f"samples with {GRAM} tokens word for word as in a training row"
    if sample is None:
        return [not_measured(_TOPIC, what, "this model writes no text")]
    if not openings_:
        return [not_measured(_TOPIC, what, "no training row is short enough to write after")]
    samples = [ids for ids in sample(openings_) if len(ids) >= GRAM]
    how = (
        f"{SAMPLE_TOKENS} tokens drawn at temperature 1 after the openings of training rows, the "
        "end of a turn left out; every stretch compared with every training row's tokens, those "
        "of the levels below included"
    )
    found = overlaps(samples, token_rows(data))
    return [share(_TOPIC, what, found, how, of="samples")]


def membership_lines(
    losses: Callable[[Sequence[Mapping[str, Any]]], list[float]] | str,
    data: Artifact,
    render: str,
    limit: int,
    seed: int,
) -> list[Line]:
    """Whether losses tell training rows from test rows.

    Args:
        losses: of prepared rows, one each; a text: why the objective has none here.
    """
    names = (
        "membership by loss: AUROC of training rows against test rows",
        f"membership by loss: training rows found at {FALSE_POSITIVES:.0%} false positives",
    )
    if isinstance(losses, str):
        return [not_measured(_TOPIC, what, losses) for what in names]
    sides = [_rows(data.path / f"{split}.arrow", limit, seed) for split in ("train", "test")]
    if not all(sides):
        return [not_measured(_TOPIC, what, "the recipe has no test rows") for what in names]
    members, others = (losses(side) for side in sides)
    shared = clusters_of(sides[0]), clusters_of(sides[1])
    counts = f"training rows and {len(others):,} test rows"
    rows = "rows" if shared == (None, None) else "the documents and phrases of rows"
    how = f"by the {TOLD_BY[render]}; 0.5 cannot be told apart; bootstrap over {rows}"
    found = with_interval("auroc", members, others, seed, shared)
    lines = [interval(_TOPIC, names[0], found, len(members), how, of=counts)]
    if len(others) * FALSE_POSITIVES < 1:
        why = f"{FALSE_POSITIVES:.0%} of {len(others):,} test rows is less than one row"
        return [*lines, not_measured(_TOPIC, names[1], why)]
    try:
        found = with_interval("found_at", members, others, seed, shared)
    except ValueError as error:
        # A draw of clusters may hold too few of the others.
        return [*lines, not_measured(_TOPIC, names[1], str(error))]
    how = f"by the {TOLD_BY[render]}; {FALSE_POSITIVES:.0%} would be chance; bootstrap over {rows}"
    return [*lines, interval(_TOPIC, names[1], found, len(members), how, of=counts)]


def _rows(path: Path, limit: int, seed: int) -> list[dict[str, Any]]:
    split = Split(path)
    picked = chosen(len(split), limit, seed)
    parts = (part for index in picked for part in segments(split[index]))
    return [dict(part) for part, _ in zip(parts, range(limit), strict=False)]
