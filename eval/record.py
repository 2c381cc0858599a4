"""The one table that every predictor writes, and the losses on text, as JSON lines.

An answer that is no label is kept as ``label=None``: it counts as wrong, and by itself.

What is asked and answered is always text, so that one table holds every kind of task:

- ``label``: the label itself;
- ``labels``: JSON of the sorted list of all labels of the item, ``["card", "pin"]``;
- ``tags``: JSON of the list of tags, one for each judged token, ``["O", "B-PER"]``;
- ``value``: JSON of the number, exact to the last bit, ``3.25``;
- ``preference``: ``chosen``; the answer is the one of the pair that the model came to prefer.

Of kind ``channel`` (texts told by their label) there are losses alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from pipeline.core.errors import DataError, IntegrityError

OUT_OF_SCOPE = "out_of_scope"
"""What rows of a suite are labelled that belong to none of a model's labels: no answer is right,
and how sure a model is of its answer, or how likely it holds the text for, should tell them."""

TEXT_WINDOW = 512
"""Tokens of a text that a model reads at once, where its context holds so many: models of
another context are compared on the same stretches, and the logits of long ones fill the memory."""

Kind = Literal["label", "labels", "tags", "value", "preference", "channel"]


@dataclass(frozen=True)
class Prediction:
    """One answer to one item of a task.

    Attributes:
        example_id: names the item; the same over all models that are compared.
        gold: the right answer.
        label: what the model answered, or None where its answer was no label (of a
            preference: where it holds both answers for equal).
        scores: natural log-probability of every label, or None where the form gives none. Of
            one label their exponentials sum to 1; of several each label has its own (log of the
            sigmoid). Logs, because temperatures and likelihoods need what a probability that
            was rounded to 0 or 1 has lost. Of a preference the rewards of ``chosen`` and
            ``rejected``: log-probability of the answer under the model less that under the
            model below, in nats.
        raw_text: what a generative arm wrote, unparsed.
        latency_s: seconds for this item (in a batch: the batch's seconds over its items).
        prompt_tokens: tokens read.
        output_tokens: tokens written, the stop token included; 0 for a head.
        evidence: log P(text) in nats where an arm gives it (`joint`): low for a text that
            belongs to no label.
    """

    example_id: str
    gold: str
    label: str | None
    scores: dict[str, float] | None
    raw_text: str | None
    latency_s: float
    prompt_tokens: int
    output_tokens: int
    evidence: float | None = None


@dataclass(frozen=True)
class TextLoss:
    """How well a model foresees one document, teacher-forced.

    Attributes:
        example_id: names the document.
        nll_sum: negative log-likelihood in nats, summed over the scored tokens.
        tokens: scored tokens: all of them, the first given the id that texts begin with; without
            such an id, all but the first.
        utf8_bytes: length of the text that the scored tokens hold; 0 where it is not known, as
            without an id that texts begin with.
    """

    example_id: str
    nll_sum: float
    tokens: int
    utf8_bytes: int


_Record = TypeVar("_Record", Prediction, TextLoss)


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


# Python's own reader takes NaN and Infinity, which JSON does not know.
_STRICT = json.JSONDecoder(parse_constant=_refused)


def tables_in(folder: Path, split: str = "predictions") -> Iterator[tuple[str, str, Path]]:
    """Suite, arm and file of each table of answers in an evaluation's folder.

    Args:
        split: ``predictions`` (test rows), ``validation`` or ``train``.

    Yields:
        The arm as the file names it: nothing for the evaluation's own.
    """
    for path in sorted(folder.glob(f"{split}-*.jsonl")):
        suite, _, arm = path.stem.removeprefix(f"{split}-").partition("@")
        yield suite, arm, path


def as_text(answer: Sequence[str] | float) -> str:
    """Several labels, tags, or a number as the table holds them."""
    return json.dumps(answer, ensure_ascii=False)


def list_of(text: str) -> list[str]:
    """Labels or tags of an answer.

    Raises:
        IntegrityError: the text holds no list.
    """
    found = json.loads(text)
    if not isinstance(found, list):
        raise IntegrityError(f"{text!r} is no list of labels; evaluate the model again")
    return found


def value_of(text: str) -> float:
    """The number of an answer."""
    return float(json.loads(text))


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Writes one JSON object for each prediction, in the given order."""
    _write(path, predictions)


def read_predictions(path: Path) -> list[Prediction]:
    """Reads what ``write_predictions`` wrote.

    Raises:
        IntegrityError: a line is not a prediction; names file and line.
    """
    return _read(path, Prediction)


def write_losses(path: Path, losses: Iterable[TextLoss]) -> None:
    """Writes one JSON object for each document, in the given order."""
    _write(path, losses)


def read_losses(path: Path) -> list[TextLoss]:
    """Reads what ``write_losses`` wrote.

    Raises:
        IntegrityError: a line is not a loss; names file and line.
    """
    return _read(path, TextLoss)


def _write(path: Path, records: Iterable[Prediction] | Iterable[TextLoss]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for record in records:
            row = vars(record)
            try:
                # NaN is no JSON, and a NaN score would turn into a wrong answer without a word.
                line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            except ValueError as error:
                raise DataError(
                    f"{path}: {record.example_id}: {_no_number(row)}; "
                    "look at the model, its weights or its precision gave no number"
                ) from error
            out.write(line + "\n")


def _no_number(row: Mapping[str, Any]) -> str:
    """Which of a record's numbers is none."""
    bad = (f"{name} is {number}" for name, number in _numbers(row) if not math.isfinite(number))
    return next(bad, "a value is no number")


def _numbers(row: Mapping[str, Any]) -> Iterable[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from ((f"{name}[{key!r}]", number) for key, number in value.items())
        elif isinstance(value, (int, float)):
            yield name, value


def _read(path: Path, kind: type[_Record]) -> list[_Record]:
    names = {field.name for field in fields(kind)}
    records: list[_Record] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = _STRICT.decode(line)
            except ValueError as error:
                raise IntegrityError(
                    f"{path}:{number}: not JSON ({error}); evaluate the model again"
                ) from error
            if not isinstance(row, dict) or set(row) != names:
                found = sorted(row) if isinstance(row, dict) else type(row).__name__
                raise IntegrityError(
                    f"{path}:{number}: {found} where {sorted(names)} belongs; "
                    "evaluate the model again"
                )
            records.append(kind(**row))
    return records
