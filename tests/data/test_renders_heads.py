"""Rows to ids for heads: several labels, numbers, hand-made features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from tests.data.preparing import TEXTS, adds_up, entries, prepare
from tests.data.render_case import PREFERENCE, classes, pairs, read, told

SEVERAL = [
    {"text": text, "labels": ["sea", "dawn", "calm"][: n % 4]} for n, text in enumerate(TEXTS)
]


def test_several_labels_are_a_sorted_union_for_a_head(root: Artifact, tmp_path: Path) -> None:
    source = {"format": "classification"}
    made, facts = prepare(
        tmp_path / "c", root, {"train": SEVERAL}, render="classify", source=source
    )
    assert told(made, "labels") == ["calm", "dawn", "sea"]
    assert told(made, "render")["multi_label"] is True
    assert [row["labels"] for row in read(made)] == [sorted(row["labels"]) for row in SEVERAL]
    counts = {label: sum(label in row["labels"] for row in SEVERAL) for label in ("sea", "dawn")}
    assert counts.items() <= facts["balance"]["counts"].items()
    written, _ = prepare(tmp_path / "s", root, {"train": SEVERAL}, render="sft", source=source)
    assert told(written, "labels") == []
    assert told(written, "render")["multi_label"] is False
    one, _ = prepare(tmp_path / "o", root, {"train": classes()}, render="classify")
    assert told(one, "render")["multi_label"] is False
    assert {row["labels"] is None for row in read(one)} == {True}


@pytest.mark.parametrize(("row", "words"), [
    ({"text": "a gull", "labels": ["gull", "sea"]}, "data.test: label 'gull' is unseen"),
    ({"text": "a gull", "label": "sea"}, "write labels, a list, in every row"),
])  # fmt: skip
def test_labels_that_no_head_could_tell_are_refused(
    root: Artifact, tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words.replace(".", r"\.")):
        prepare(tmp_path, root, {"train": SEVERAL, "test": [row]}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_one_of_several_labels_written_in_two_ways_is_refused(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [*SEVERAL, {"text": "a gull", "labels": ["Sea", "calm"]}]
    with pytest.raises(DataError, match=r"data\.train: labels .* differ by case"):
        prepare(tmp_path, root, {"train": rows}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_no_label_at_all_leaves_a_head_nothing(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "labels": []} for text in TEXTS]
    with pytest.raises(DataError, match="no row has a label"):
        prepare(tmp_path, root, {"train": rows}, render="classify",
                source={"format": "classification"})  # fmt: skip


def test_a_number_stands_beside_the_question(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": text, "value": n / 3} for n, text in enumerate(TEXTS)]
    made, facts = prepare(
        tmp_path / "r", root, {"train": rows, "test": [{"text": "a gull", "value": "-2.5e1"}]},
        render="regress", source={"format": "regression"},
    )  # fmt: skip
    asked, _ = prepare(tmp_path / "c", root, {"train": classes()}, render="classify")
    assert [row["value"] for row in read(made)] == [n / 3 for n in range(16)]
    assert [row["value"] for row in read(made, "test")] == [-25.0]
    assert [row["input_ids"] for row in read(made)] == [row["input_ids"] for row in read(asked)]
    assert told(made, "labels") == []
    assert {row["label"] for row in read(made)} == {None}
    assert adds_up(facts)


@pytest.mark.parametrize("render", ["sft", "classify", "tag", "preference", "hybrid", "channel"])
def test_a_number_is_no_answer_for_another_objective(
    root: Artifact, tmp_path: Path, render: str
) -> None:
    rows = [{"text": text, "value": 1.5} for text in TEXTS]
    with pytest.raises(DataError, match=r"row 0:? .*(needs|no answer)"):
        prepare(tmp_path, root, {"train": rows}, render=render, source={"format": "regression"})


FEATURES = [
    {"name": "amount", "column": "amount"},
    {"name": "digits", "pattern": r"\d"},
    {"name": "shouts", "pattern": "[A-Z]{2,}|!"},
]


def test_features_are_columns_and_counts_in_the_rows_own_text(
    root: Artifact, tmp_path: Path
) -> None:
    given: list[dict[str, Any]] = [
        {"text": f"{text} {n}!", "label": "ab"[n % 2], "amount": [n, n + 0.5, f" {n}.25 "][n % 3]}
        for n, text in enumerate(TEXTS)
    ]
    judged = [{"text": "GULLS above 12 piers!", "label": "a", "amount": "-7e2"}]
    made, _ = prepare(
        tmp_path / "f", root, {"train": given, "test": judged}, render="classify",
        features=FEATURES, source={"prompt": "NOT 123 COUNTED! {text}"}, max_length=128,
    )  # fmt: skip
    wanted = [
        [float(row["amount"]), float(sum(c.isdigit() for c in row["text"])), 1.0] for row in given
    ]
    assert [row["features"] for row in read(made)] == wanted
    assert [row["features"] for row in read(made, "test")] == [[-700.0, 2.0, 2.0]]
    assert told(made, "features") == FEATURES
    plain, _ = prepare(tmp_path / "plain", root, {"train": classes()}, render="classify")
    assert not (plain.path / "features.json").exists()


@pytest.mark.parametrize(("value", "reason"), [
    ("high", "amount is text, not a number"),
    (True, "amount is true, not a number"),
    (None, "amount is null"),
    ([1], "amount is no number"),
    (float("nan"), "NaN is not JSON"),
    ("1e999", "amount is no finite number"),
])  # fmt: skip
def test_a_row_without_a_features_number_is_quarantined(
    root: Artifact, tmp_path: Path, value: Any, reason: str
) -> None:
    rows = [{**row, "amount": n} for n, row in enumerate(classes())]
    rows[5]["amount"] = value
    made, facts = prepare(tmp_path, root, {"train": rows}, render="classify",
                          features=FEATURES[:1], max_quarantined=1)  # fmt: skip
    assert len(read(made)) == 15
    (entry,) = entries(made, "quarantined")
    assert reason in entry["reason"]
    assert adds_up(facts)


def test_the_same_bytes_whatever_the_number_of_workers(root: Artifact, tmp_path: Path) -> None:
    many = [f"{TEXTS[n % 16]} {n}" for n in range(2500)]
    several = [{"text": text, "labels": ["a", "b", "c"][: n % 4]} for n, text in enumerate(many)]
    marked = [{"text": text, "entities": [{"start": 0, "end": 3, "label": "N"}] * (n % 2)}
              for n, text in enumerate(many)]  # fmt: skip
    carve = {"carve": 0.1, "by": None, "time": None, "seed": 3}
    alone = {"action": "report", "threshold": 1.0}
    for render, rows, source in (
        ("preference", pairs(many), PREFERENCE),
        ("classify", several, {"format": "classification"}),
        ("tag", marked, {"format": "tagging"}),
    ):
        features = FEATURES[1:] if render == "classify" else []
        made = [
            prepare(tmp_path / f"{render}{workers}", root, {"train": rows}, render=render,
                    source=source, carve=carve, workers=workers, features=features,
                    max_length=128, clean={"near_duplicates": alone})[0]
            for workers in (1, 2)
        ]  # fmt: skip
        files = [{p.name: p.read_bytes() for p in sorted(one.path.iterdir())} for one in made]
        assert files[0] == files[1]
        assert 240 <= len(read(made[0], "validation")) <= 260
