"""Rows with entities through `prepare`: tags beside their tokens, whatever is cut or carved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import adds_up, entries, names, prepare
from tests.data.tagging_case import TAGS, entity

TAGGING = {"format": "tagging"}
ROWS: list[dict[str, Any]] = [
    {"text": "Ann sails home", "entities": [entity(0, 3)]},
    {"text": "two ships off Kiel", "entities": [entity(14, 18, "LOC")]},
    {"text": "Bo Lee sails to Bonn at dawn",
     "entities": [entity(16, 20, "LOC"), entity(0, 6)]},
    {"text": "nobody sails", "entities": []},
]  # fmt: skip


def test_a_row_is_the_plain_text_with_tags_of_its_entities(root: Artifact, tmp_path: Path) -> None:
    judged = [{"text": "Cy sailed from Rome", "entities": [entity(15, 19, "LOC"), entity(0, 2)]}]
    out, facts = prepare(tmp_path, root, {"train": ROWS, "test": judged}, source=TAGGING,
                         render="tag", system="be brief")  # fmt: skip
    tokenizer = load_tokenizer(root.path)
    names_ = json.loads((out.path / "labels.json").read_text())
    assert names_ == TAGS
    train, test = (read_rows(out.path / f"{split}.arrow") for split in ("train", "test"))
    for row, given_ in zip([*train, *test], [*ROWS, *judged], strict=True):
        assert row["input_ids"] == tokenizer(given_["text"])["input_ids"]
        assert len(row["tags"]) == len(row["input_ids"])
        assert (row["supervised"], row["label"], row["prompt"]) == ([], None, None)
        opened = [names_[tag] for tag in row["tags"] if names_[tag].startswith("B-")]
        ordered = sorted(given_["entities"], key=lambda one: int(one["start"]))
        assert opened == [f"B-{one['label']}" for one in ordered]
    assert test[0]["text"] == judged[0]["text"]
    assert facts["funnel"]["train"]["details"]["rows without an entity"] == 1
    assert facts["balance"]["counts"] == {"LOC": 2, "PER": 2}
    assert adds_up(facts)


def test_an_entity_label_that_training_never_sees_is_refused(
    root: Artifact, tmp_path: Path
) -> None:
    judged = [{"text": "a gull", "entities": [entity(2, 6, "BIRD")]}]
    with pytest.raises(DataError, match=r"data\.test: label 'BIRD' is unseen in training"):
        prepare(tmp_path, root, {"train": ROWS, "test": judged}, source=TAGGING, render="tag")


def test_rows_without_any_entity_leave_nothing_to_learn(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "entities": []} for row in ROWS]
    with pytest.raises(DataError, match=r"data\.train: no row has a label"):
        prepare(tmp_path, root, {"train": rows}, source=TAGGING, render="tag")


@pytest.mark.parametrize("policy", ["truncate-left", "truncate-right", "split", "drop"])
def test_tags_are_cut_with_their_tokens(root: Artifact, tmp_path: Path, policy: str) -> None:
    rows = [*ROWS, {"text": "ship " * 60 + "Ann", "entities": [entity(300, 303)]}]
    whole_, _ = prepare(tmp_path / "w", root, {"train": rows}, source=TAGGING, render="tag",
                        max_length=2000)  # fmt: skip
    out, facts = prepare(tmp_path / "c", root, {"train": rows}, source=TAGGING, render="tag",
                         over_length=policy)  # fmt: skip
    every = list(zip(*(read_rows(whole_.path / "train.arrow")[-1][name]
                       for name in ("input_ids", "tags")), strict=True))  # fmt: skip
    cut = [row for row in read_rows(out.path / "train.arrow") if row["example_id"][0] == "4"]
    found = [list(zip(row["input_ids"], row["tags"], strict=True)) for row in cut]
    wanted = {
        "truncate-left": [every[-64:]],
        "truncate-right": [every[:64]],
        "split": [every[start : start + 64] for start in range(0, len(every), 64)],
        "drop": [],
    }[policy]
    assert found == wanted
    assert facts["over_length"] == 1
    assert adds_up(facts)


@pytest.mark.parametrize("seed", range(6))
def test_a_carved_split_leaves_every_entity_label_in_train(
    root: Artifact, tmp_path: Path, seed: int
) -> None:
    """Combinations of labels stand once each: no share of each could be held out."""
    labels = ["PER", "LOC", "ORG", "DAY", "SUM"]
    rows = []
    for number in range(31):
        text, entities = f"row {number}:", []
        for bit, label in enumerate(labels):
            if (number + 1) >> bit & 1:
                entities.append(entity(len(text) + 1, len(text) + 1 + len(label), label))
                text += f" {label}"
        rows.append({"text": text, "entities": entities})
    out, facts = prepare(
        tmp_path, root, {"train": rows}, source=TAGGING, render="tag",
        carve={"carve": 0.2, "by": None, "time": None, "seed": seed},
        clean={"near_duplicates": {"action": "report", "threshold": 1.0}},
    )  # fmt: skip
    held = len(names(out, "validation"))
    assert 3 <= held <= 9
    assert json.loads((out.path / "labels.json").read_text())[0] == "O"
    learned = {
        one["label"] for row in rows for one in row["entities"]
        if str(rows.index(row)) in names(out, "train")
    }  # fmt: skip
    assert learned == set(labels)
    assert adds_up(facts)


def test_rows_that_no_tag_fits_are_quarantined_with_their_reason(
    root: Artifact, tmp_path: Path
) -> None:
    bad = [
        ({"text": "Ann Lee", "entities": [entity(0, 5), entity(4, 7, "LOC")]}, "entities overlap"),
        ({"text": "Ann Lee", "entities": [entity(0, 7), entity(0, 3)]}, "entities overlap"),
        ({"text": "Ann Lee", "entities": [entity(0, 8)]}, "out of range"),
        ({"text": "Ann Lee", "entities": [entity(-1, 3)]}, "out of range"),
        ({"text": "Ann Lee", "entities": [entity(3, 3)]}, "out of range"),
        ({"text": "Ann Lee", "entities": [entity(3, 4)]}, "covers blanks only"),
        ({"text": "Ann Lee", "entities": [{"start": 0, "end": "3", "label": "PER"}]}, "is text"),
        ({"text": "Ann Lee", "entities": [{"start": True, "end": 3, "label": "PER"}]},
         "is true or false"),
        ({"text": "Ann Lee", "entities": [{"start": 0, "end": 3}]}, "label is null"),
        ({"text": "Ann Lee", "entities": [entity(0, 3, "O")]}, "which means: no entity"),
        ({"text": "Ann Lee", "entities": [entity(0, 3, "A, B")]}, "separates several"),
        ({"text": "Ann Lee", "entities": {"start": 0}}, "entities are an object"),
        ({"text": "Ann Lee", "entities": ["Ann"]}, "an entity is text"),
        ({"text": "Ann Lee"}, "no column 'entities'"),
        ({"text": " ", "entities": []}, "text is empty"),
    ]  # fmt: skip
    rows = [*ROWS, *(row for row, _ in bad)]
    out, facts = prepare(tmp_path, root, {"train": rows}, source=TAGGING, render="tag",
                         max_quarantined=len(bad))  # fmt: skip
    told = entries(out, "quarantined")
    assert len(told) == len(bad)
    for entry, (_, words) in zip(told, bad, strict=True):
        assert words in entry["reason"], entry
    assert adds_up(facts)
