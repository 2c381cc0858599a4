"""Rows to ids for the forms that write: the text of a label, and both heads at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.rendering import Renderer
from tests.data.preparing import TEXTS, prepare
from tests.data.render_case import assistant, classes, read, told, user


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_channel_row_asks_the_label_and_learns_the_text(
    root: Artifact, tokenizer: Any, tmp_path: Path, split: str
) -> None:
    """Oracle: transformers' rendering of the turned exchange."""
    given = [{"text": text, "label": ["calm sea", "storm"][n % 2]} for n, text in enumerate(TEXTS)]
    made, _ = prepare(tmp_path, root, {split: given}, render="channel")
    for row, one in zip(read(made, split), given, strict=True):
        turns = [user(one["label"]), assistant(one["text"])]
        whole = tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        asked = tokenizer.apply_chat_template(turns[:1], add_generation_prompt=True,
                                              return_dict=True)["input_ids"]  # fmt: skip
        ids = row["input_ids"]
        assert ids == whole[: len(ids)]
        assert row["supervised"] == [0] * len(asked) + [1] * (len(ids) - len(asked))
        assert row["label"] == one["label"]
        assert row["prompt"] == len(asked)
    assert told(made, "labels") == ["calm sea", "storm"]


def test_a_channel_row_has_all_its_labels_and_not_the_recipes_prompt(
    root: Artifact, tokenizer: Any, tmp_path: Path
) -> None:
    rows = [{"text": text, "labels": ["sea", "calm"]} for text in TEXTS]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="channel",
        source={"format": "classification", "prompt": "Which? {text}"},
    )  # fmt: skip
    decoded = tokenizer.decode(read(made)[0]["input_ids"])
    assert "calm, sea" in decoded
    assert TEXTS[0] in decoded
    assert "Which?" not in decoded


def test_a_conversation_has_no_text_to_write_for_a_label(root: Artifact, tmp_path: Path) -> None:
    rows = [{"messages": [user("a"), assistant("b")], "label": "ab"[n % 2]} for n in range(4)]
    with pytest.raises(DataError, match=r"row 0: objective channel needs format classification"):
        prepare(tmp_path, root, {"train": rows}, render="channel")


@pytest.mark.parametrize("system", [None, "be brief"])
def test_a_hybrid_row_opens_with_what_the_classifier_reads_in_every_split(
    root: Artifact, tokenizer: Any, tmp_path: Path, system: str | None
) -> None:
    carve = {"carve": 0.2, "by": None, "time": None, "seed": 0}
    rows = classes([*TEXTS, *(f"{text} {n}" for n, text in enumerate(TEXTS))])
    test = classes([f"gulls above pier {n}" for n in range(6)])
    made, _ = prepare(
        tmp_path / "h", root, {"train": rows, "test": test}, render="hybrid", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    read_by_head, _ = prepare(
        tmp_path / "c", root, {"train": rows, "test": test}, render="classify", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    written, _ = prepare(
        tmp_path / "s", root, {"train": rows, "test": test}, render="sft", system=system,
        carve=carve, max_length=128,
    )  # fmt: skip
    renderer = Renderer(tokenizer, causal=True, system=system)
    for split in ("train", "validation", "test"):
        three = (read(one, split) for one in (made, read_by_head, written))
        for both, head, writer in zip(*three, strict=True):
            assert both["input_ids"][: both["prompt"]] == head["input_ids"]
            assert {**both, "prompt": None} == {**writer, "prompt": None}
            assert both["label"] == head["label"]
            assert not any(both["supervised"][: both["prompt"]])
    assert told(made, "labels") == ["a", "b"]
    asked = renderer.question({"text": test[0]["text"]})
    assert read(made, "test")[0]["input_ids"][: len(asked)] == asked


def test_a_hybrid_row_has_one_label(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "labels": ["a", "b"]} for text in TEXTS]
    with pytest.raises(DataError, match="objective hybrid needs format classification with one"):
        prepare(tmp_path, root, {"train": rows}, render="hybrid",
                source={"format": "classification"})  # fmt: skip
