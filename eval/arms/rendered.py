"""Labels and rows as ids, by the one Renderer that prepared them. Knows no torch.

An answer is what is learned of an assistant's turn, up to the token that ends it. What a
template puts between its prompt and the answer (an empty thought) belongs to what is given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.arms.trie import require_known, require_labels
from eval.batching import Row
from eval.record import OUT_OF_SCOPE
from pipeline.core.errors import DataError, ModelError

Ids = tuple[int, ...]
_PROBE = "Question"


def offered(labels: Sequence[str], train: Path | None) -> list[str]:
    """The labels that a model chooses from.

    All of train where those of the suite are among them: a suite that happens to hold some of
    them would else be easier than the task, and than it is for a head. Rows out of scope are
    outside of train's. Those of the suite where it is another task.

    Args:
        labels: of the suite's Dataset.
        train: the Dataset that the model was trained on.
    """
    if not labels or train is None:
        return list(labels)
    known: list[str] = json.loads((train / "labels.json").read_text(encoding="utf-8"))
    mine = {*labels} - {OUT_OF_SCOPE}
    return known if OUT_OF_SCOPE in labels or mine <= {*known} else list(labels)


class Turn(NamedTuple):
    """A question and its answer as ids."""

    given: Ids
    answer: Ids


def answers_of(renderer: Any, labels: Sequence[str], stop_ids: Sequence[int]) -> dict[str, Ids]:
    """Label to the ids of its answer, end of turn included.

    Args:
        renderer: pipeline.data.rendering.Renderer, as `prepare` had it.
        stop_ids: ids that end a turn.

    Raises:
        DataError: labels that are no set of answers, or one that cannot be rendered.
        ModelError: no stop id ends an answer.
    """
    require_labels(labels)
    asked = [renderer.messages(_PROBE, label) for label in labels]
    return _by_label(labels, [turn.answer for turn in turns_of(renderer, labels, asked, stop_ids)])


def prompts_of(renderer: Any, labels: Sequence[str], stop_ids: Sequence[int]) -> dict[str, Ids]:
    """Label to the ids after which a channel model writes its text.

    Raises:
        DataError: as `answers_of`, or two labels have the same ids.
        ModelError: no stop id ends an answer.
    """
    require_labels(labels)
    asked = [renderer.messages(label, _PROBE) for label in labels]
    prompts = _by_label(
        labels, [turn.given for turn in turns_of(renderer, labels, asked, stop_ids)]
    )
    owner: dict[Ids, str] = {}
    for label, ids in prompts.items():
        other = owner.setdefault(ids, label)
        if other != label:
            raise DataError(
                f"labels: {label!r} and {other!r} have the same ids for this tokenizer and chat "
                "template, so no text could tell them apart; rename one"
            )
    return prompts


def turn_of(row: Row, stop_ids: Sequence[int]) -> Turn:
    """What of a prepared row is given, and what is answered.

    Args:
        row: ``input_ids``, ``supervised`` and, of a test row, ``prompt``.

    Raises:
        DataError: nothing of the row is an answer.
    """
    first = _first_learned(row["supervised"], row.get("prompt") or 0)
    if first is None:
        raise DataError(f"{row['example_id']}: it has no answer to compare; prepare it again")
    return Turn(tuple(row["input_ids"][:first]), _ended(row["input_ids"][first:], stop_ids))


def with_prompts(
    rows: Sequence[Row], answers: Mapping[str, Ids], stop_ids: Sequence[int]
) -> list[Row]:
    """Rows with ``prompt_ids``, after which an answer stands.

    Raises:
        DataError: a row's label is not among the answers, or has other ids in the row.
    """
    found: list[Row] = []
    for row in rows:
        turn = turn_of(row, stop_ids)
        _require_same(row, answers, turn.answer, "its answer")
        found.append({**row, "prompt_ids": turn.given})
    return found


def with_texts(
    rows: Sequence[Row], prompts: Mapping[str, Ids], stop_ids: Sequence[int]
) -> list[Row]:
    """Rows of render ``channel`` with ``text_ids``, which a label is to explain.

    Raises:
        DataError: a row's label is not among the prompts, or is asked with other ids.
    """
    found: list[Row] = []
    for row in rows:
        turn = turn_of(row, stop_ids)
        _require_same(row, prompts, turn.given, "what it is told")
        found.append({**row, "text_ids": turn.answer})
    return found


def label_counts(folder: Path, prompts: Mapping[str, Ids]) -> dict[str, int]:
    """How many rows of train each label has, in a Dataset of render ``channel``.

    Rows that share a block have no label beside them: the ids that they begin with tell it.

    Raises:
        DataError: no train rows, or one that begins as none of the labels is asked.
    """
    from pipeline.data.arrow import Split
    from pipeline.data.writing import segments

    counts = Counter[str]()
    owner = {ids: label for label, ids in prompts.items()}
    for block in Split(folder / "train.arrow"):
        for row in segments(block):
            first = _first_learned(row["supervised"], 0)
            label = owner.get(tuple(row["input_ids"][:first]))
            if label is None:
                raise DataError(
                    f"train: row {row['example_id']} is told no label of this suite, so the "
                    "labels of model and data differ; judge a suite with the labels of train"
                )
            counts[label] += 1
    if not counts:
        raise DataError("train: there are no rows from which labels could be counted; give some")
    return {label: counts[label] for label in prompts}


def turns_of(
    renderer: Any,
    labels: Sequence[str],
    asked: Sequence[Any],
    stop_ids: Sequence[int],
    what: str = "labels",
) -> list[Turn]:
    """Conversations of one question and one answer as ids.

    Args:
        labels: what to call each in an error.
        asked: the messages of each.
        what: they are.

    Raises:
        DataError: one cannot be rendered.
        ModelError: no stop id ends an answer.
    """
    made = renderer.conversations([{"messages": messages} for messages in asked], "last")
    turns = []
    for label, found in zip(labels, made, strict=True):
        if not isinstance(found, list):
            raise DataError(f"{what}: {label!r} cannot be rendered: {found}; rename it")
        row = found[-1]
        first = _first_learned(row.supervised, row.prompt or 0) or 0
        answer = _ended(row.input_ids[first:], stop_ids)
        if answer[-1] not in stop_ids:
            raise ModelError(
                f"{what}: the chat template ends the answer {label!r} with none of the ids that "
                f"end a turn for this model ({', '.join(map(str, stop_ids)) or 'none'}); set "
                "eos_token_id in generation_config.json to the id that ends its turns"
            )
        turns.append(Turn(tuple(row.input_ids[:first]), answer))
    return turns


def _by_label(labels: Sequence[str], ids: Sequence[Ids]) -> dict[str, Ids]:
    return dict(zip(labels, ids, strict=True))


def _first_learned(supervised: Sequence[int], start: int) -> int | None:
    return next((i for i in range(start, len(supervised)) if supervised[i]), None)


def _ended(ids: Sequence[int], stop_ids: Sequence[int]) -> Ids:
    """Ids up to the first that ends a turn, as serving stops there."""
    end = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids) - 1)
    return tuple(ids[: end + 1])


def _require_same(row: Row, known: Mapping[str, Ids], ids: Ids, what: str) -> None:
    require_known(row, known)
    label = row["label"]
    if known.get(label, ids) != ids:
        raise DataError(
            f"{row['example_id']}: {what} has other ids than label {label!r} has for this model; "
            "prepare the data again with the model's own tokenizer and chat template"
        )
