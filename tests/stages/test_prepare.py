"""Rows to ids through the stage itself: what is judged is kept out of what is trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import Qwen3Config

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from pipeline.stages.prepare import Prepare
from pipeline.stages.scratch import train_tokenizer

TEXTS = [f"{a} {b} sails at dawn" for a in ("one", "two", "three") for b in ("ship", "boat")]


def artifact(path: Path, inputs: Mapping[str, Mapping[str, str]] | None = None) -> Artifact:
    return Artifact(
        path, Manifest("Dataset", path.name, path.name, "", 1, {}, {}, inputs or {}, {}, {})
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("store") / "root"
    train_tokenizer(TEXTS, 300).save_pretrained(str(folder))
    Qwen3Config(architectures=["Qwen3ForCausalLM"], max_position_embeddings=256).save_pretrained(
        str(folder)
    )
    return artifact(folder)


def prepare(
    folder: Path,
    root: Artifact,
    splits: dict[str, list[dict[str, Any]]],
    inputs: dict[str, Artifact] | None = None,
    source: dict[str, Any] | None = None,
    **config: Any,
) -> tuple[Artifact, Mapping[str, Any]]:
    """Runs the stage over rows given as lists."""
    (folder / "out").mkdir(parents=True)
    files, sources = {}, {}
    for name, rows in splits.items():
        role = "train0" if name == "train" else name
        files[role] = folder / f"{name}.jsonl"
        files[role].write_text("".join(json.dumps(row) + "\n" for row in rows))
        form = "classification" if "label" in rows[0] else "text"
        one = {"format": form, "columns": {}, "suffix": ".jsonl", "seed": 0, **(source or {})}
        sources[name] = [one] if name == "train" else one
    settings = {
        "sources": sources, "carve": None, "replay": None, "render": "text", "system": None,
        "chat_template_kwargs": {}, "contamination": "drop", "max_length": 64,
        "over_length": "error", "packing": False, **config,
    }  # fmt: skip
    context = StageContext(folder / "out", folder, {}, files, lambda _event: None)
    facts = Prepare().run({"tokenizer": root, **(inputs or {})}, settings, context)
    made = artifact(folder / "out", {"tokenizer": {"key": "root", "digest": root.digest}})
    return made, facts


def documents(texts: list[str]) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def test_a_prompt_does_not_hide_a_copy(root: Artifact, tmp_path: Path) -> None:
    made, facts = prepare(
        tmp_path, root, {"train": documents(TEXTS), "test": documents(TEXTS[:2])},
        source={"prompt": "Customer: {text}"},
    )  # fmt: skip
    assert facts["contaminated"] == 2
    assert len(read_rows(made.path / "train.arrow")) == len(TEXTS) - 2


def test_replayed_rows_that_are_judged_are_refused(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS)})
    with pytest.raises(DataError, match=r"data\.replay: 1 of its training rows"):
        prepare(
            tmp_path / "leak", root,
            {"train": documents(["other words"]), "test": documents(TEXTS[:1])},
            {"replay": pool}, replay={"share": 0.5, "seed": 1},
        )  # fmt: skip


def test_replayed_rows_count_as_trained_on(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS)})
    made, facts = prepare(
        tmp_path / "l1", root, {"train": documents(["other words"])},
        {"replay": pool}, replay={"share": 0.5, "seed": 1},
    )  # fmt: skip
    assert facts["kept"]["replay"] >= 1
    with pytest.raises(DataError, match="ancestor's training rows"):
        prepare(
            tmp_path / "l2", root,
            {"train": documents(["third words"]), "test": documents(TEXTS[:1])},
            {"ancestor0": made},
        )  # fmt: skip


def test_more_replay_than_there_is_is_refused(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS[:1])})
    with pytest.raises(DataError, match=r"lower data\.replay\.share"):
        prepare(
            tmp_path / "l1", root, {"train": documents(TEXTS[1:])},
            {"replay": pool}, replay={"share": 0.9, "seed": 1},
        )  # fmt: skip


def test_a_classifier_reads_the_question_and_never_the_label(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": text, "label": text.split()[1]} for text in TEXTS]
    asked, _ = prepare(tmp_path / "c", root, {"test": rows}, render="classify")
    told, _ = prepare(tmp_path / "g", root, {"test": rows}, render="sft")
    for question, whole in zip(
        read_rows(asked.path / "test.arrow"), read_rows(told.path / "test.arrow"), strict=True
    ):
        until = whole["supervised"].index(1)
        assert question["input_ids"] == whole["input_ids"][:until]
        assert question["label"] == whole["label"]


def test_over_length_rows_stop_a_run_by_default_and_are_listed_otherwise(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": "ship " * n, "label": "ab"[n % 2]} for n in (3, 4, 300)]
    with pytest.raises(DataError, match=r"row 2 has \d+ tokens, train\.max_length is 64"):
        prepare(tmp_path / "e", root, {"train": rows}, render="sft")
    made, facts = prepare(tmp_path / "d", root, {"train": rows}, render="sft", over_length="drop")
    assert facts["over_length"] == 1
    assert len(read_rows(made.path / "train.arrow")) == 2
    assert json.loads((made.path / "dropped.jsonl").read_text())["id"] == "2"


def test_packing_loses_no_token(root: Artifact, tmp_path: Path) -> None:
    single, _ = prepare(tmp_path / "s", root, {"train": documents(TEXTS)})
    packed, _ = prepare(tmp_path / "p", root, {"train": documents(TEXTS)}, packing=True,
                        max_length=16)  # fmt: skip
    ids = [i for row in read_rows(single.path / "train.arrow") for i in row["input_ids"]]
    blocks = read_rows(packed.path / "train.arrow")
    assert [i for row in blocks for i in row["input_ids"]] == ids
    assert {len(row["input_ids"]) for row in blocks[:-1]} == {16}


def test_ids_of_another_tokenizer_are_not_replayed(root: Artifact, tmp_path: Path) -> None:
    pool, _ = prepare(tmp_path / "pool", root, {"train": documents(TEXTS)})
    other = {"tokenizer": {"key": "elsewhere", "digest": "elsewhere"}}
    foreign = Artifact(pool.path, replace(pool.manifest, inputs=other))
    with pytest.raises(DataError, match="another tokenizer"):
        prepare(
            tmp_path / "l1", root, {"train": documents(["other words"])},
            {"replay": foreign}, replay={"share": 0.5, "seed": 1},
        )  # fmt: skip


def test_labels_of_a_text_source_play_no_part(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "label": f"label {index}"} for index, text in enumerate(TEXTS)]
    made, facts = prepare(
        tmp_path, root, {"train": rows, "test": [{"text": "x y z", "label": "never seen"}]},
        source={"format": "text"},
    )  # fmt: skip
    assert facts["labels"] == 0
    assert {row["label"] for row in read_rows(made.path / "train.arrow")} == {None}


def test_a_test_row_beyond_the_context_is_refused_before_training(
    root: Artifact, tmp_path: Path
) -> None:
    config = json.loads((root.path / "config.json").read_text())
    limit = config["max_position_embeddings"]
    rows = [{"text": "ship " * limit, "label": "a"}, {"text": "sail", "label": "b"}]
    with pytest.raises(
        DataError, match=rf"row 0 has \d+ tokens, and the base's context is {limit}"
    ):
        prepare(tmp_path, root, {"test": rows}, render="classify")


def test_a_conversation_is_no_row_for_a_classifier(root: Artifact, tmp_path: Path) -> None:
    """Its rendering holds the assistant's answer: a head would read what it should tell."""
    talk = [{"role": "user", "content": "one ship"}, {"role": "assistant", "content": "ship"}]
    rows = [{"messages": talk, "label": "ship"}]
    with pytest.raises(DataError, match="needs format classification"):
        prepare(tmp_path, root, {"test": rows}, render="classify", source={"format": "messages"})
