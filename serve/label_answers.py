"""The ids of the labels that a model was trained to write, for a bundle that is being made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError

_QUESTION = "Question"


def label_answers(base: Path, data: Artifact) -> dict[str, Any] | None:
    """Each label as an answer, by the one renderer that prepared the rows.

    Args:
        base: the folder of the base.
        data: the prepared Dataset that the model was trained on.

    Returns:
        ``opening``: ids between a prompt and its answer, the same for all; ``answers``: label to
        ids, the end of its turn last. None where the rows have no two labels, or the answers do
        not open alike.

    Raises:
        DataError: a label that cannot be rendered.
    """
    from pipeline.data.rendering import renderer_of
    from pipeline.modeling.endings import ends_in
    from pipeline.modeling.loading import load_tokenizer

    place = data.path / "labels.json"
    labels = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else []
    if len(labels) < 2:
        return None
    tokenizer = load_tokenizer(base)
    renderer = renderer_of(data.path, tokenizer, causal=True)
    ends = {*ends_in(base, tokenizer)}
    asked = [{"messages": renderer.messages(_QUESTION, label)} for label in labels]
    openings, answers = set(), {}
    for label, found in zip(labels, renderer.conversations(asked, "last"), strict=True):
        if not isinstance(found, list):
            raise DataError(f"labels: {label!r} cannot be rendered: {found}; rename it")
        row = found[-1]
        prompt = row.prompt or 0
        first = next(i for i, one in enumerate(row.supervised) if i >= prompt and one)
        openings.add(tuple(row.input_ids[prompt:first]))
        rest = row.input_ids[first:]
        end = next((place for place, token in enumerate(rest) if token in ends), len(rest) - 1)
        answers[label] = list(rest[: end + 1])
    if len(openings) != 1:
        return None
    return {"opening": list(openings.pop()), "answers": answers}
