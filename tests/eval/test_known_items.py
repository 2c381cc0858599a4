"""What is left of contamination, and the figures with and without the items it touches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ladder_case import ITEMS, ladder

from eval.compare import compare
from eval.known_items import Known, read_known, with_and_without
from eval.metrics import label_figures, token_loss
from eval.record import TextLoss
from eval.report import report_page
from eval.results import ModelResult
from pipeline.core.errors import IntegrityError

KNOWN = Known(
    7,
    {
        "test": frozenset(f"item{index}" for index in range(40)),
        "general": frozenset({"doc1", "doc5"}),
        "an ancestor's": frozenset({"0"}),
    },
)


def hit(**changes: Any) -> dict[str, Any]:
    return {
        "split": "train", "row": "4", "row_text": "r", "suite": "test", "item": "9",
        "item_text": "i", "kind": "exact", "score": 1.0, "where": "own", "dropped": False,
        **changes,
    }  # fmt: skip


def dataset(folder: Path, *hits: dict[str, Any]) -> Path:
    folder.mkdir()
    lines = "".join(json.dumps(one) + "\n" for one in hits)
    (folder / "contaminated.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_a_row_counts_once_and_a_dropped_one_does_not(tmp_path: Path) -> None:
    hits = [
        hit(),
        hit(item="10"),
        hit(where="l1"),
        hit(row="5", dropped=True, item="11"),
        hit(split="validation", suite="general", item="0"),
    ]
    one, other = dataset(tmp_path / "a", *hits), dataset(tmp_path / "b", hits[0])
    known = read_known([one, other])
    assert known.rows == 3
    assert known.items == {"general": {"0"}, "test": {"9", "10"}}
    assert read_known([dataset(tmp_path / "c")]) == Known()


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"where": "own"}'])
def test_a_spoilt_list_of_hits_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    folder = dataset(tmp_path / "a", hit())
    with (folder / "contaminated.jsonl").open("a", encoding="utf-8") as out:
        out.write(line + "\n")
    with pytest.raises(IntegrityError, match=r"contaminated\.jsonl:2: .*prepare the data again"):
        read_known([folder])


def test_a_dataset_without_a_list_of_hits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is missing; prepare the data again"):
        read_known([tmp_path])


def by_name(results: list[ModelResult]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(r["suite"], r["name"], r["figure"]): r for r in with_and_without(results, KNOWN)}


def test_accuracy_is_given_on_all_items_and_on_clean_ones() -> None:
    results = ladder()
    found = by_name(results)["test", "demo-model-generate", "accuracy"]
    rows = [r.predictions["test"] for r in results if r.name == "demo-model-generate"]
    clean = [[p for p in one if p.example_id not in KNOWN.items["test"]] for one in rows]
    assert (found["seeds"], found["known"]) == (3, 40)
    assert (found["all"]["items"], found["clean"]["items"]) == (ITEMS, ITEMS - 40)
    for part, tables in (("all", rows), ("clean", clean)):
        expected = sum(label_figures(table)["accuracy"] for table in tables) / len(tables)
        assert found[part]["estimate"] == pytest.approx(expected)
        assert found[part]["low"] < expected < found[part]["high"]


def test_loss_is_given_on_all_documents_and_on_clean_ones() -> None:
    results = ladder()
    found = by_name(results)["general", "demo-l1", "loss"]
    losses = results[1].losses["general"]
    clean = [loss for loss in losses if loss.example_id not in {"doc1", "doc5"}]
    assert found["all"]["estimate"] == pytest.approx(token_loss(losses))
    assert found["clean"]["estimate"] == pytest.approx(token_loss(clean))
    assert (found["clean"]["items"], found["known"]) == (len(losses) - 2, 2)


def test_every_model_of_a_touched_suite_is_told_and_no_other_suite() -> None:
    found = by_name(ladder())
    assert {(suite, figure) for suite, _, figure in found} == {
        ("test", "accuracy"), ("general", "loss"),
    }  # fmt: skip
    assert len([key for key in found if key[0] == "test"]) == 4
    assert with_and_without(ladder(), Known()) == []


def test_where_every_item_is_known_no_clean_figure_is_given() -> None:
    items = frozenset(f"item{index}" for index in range(ITEMS))
    (found,) = with_and_without([replace(ladder()[4], losses={})], Known(9, {"test": items}))
    assert found["clean"] is None
    assert found["all"]["items"] == ITEMS


def test_report_shows_both_figures_and_says_so() -> None:
    told = compare(
        ladder(),
        gates=[],
        contamination=KNOWN,
        domain_suite="domain",
        general_suite="general",
        task_suite="test",
    ).to_json()
    assert told["contamination"] == 7
    json.dumps(told["clean"], allow_nan=False)
    page = report_page(told, "Demo", {})
    assert "With and without items that training rows know" in page
    assert "(figures without them stand beside: 40 of test, 2 of general)" in page
    for record in told["clean"]:
        assert f"{record['clean']['estimate']:.3f}" in page
    untouched = compare(ladder(), gates=[], contamination=Known(), domain_suite="domain",
                        general_suite="general", task_suite="test").to_json()  # fmt: skip
    assert "With and without" not in report_page(untouched, "Demo", {})


def test_clean_documents_without_a_scored_token_give_no_loss() -> None:
    losses = [TextLoss("doc1", 9.0, 3, 9), TextLoss("doc2", 0.0, 0, 1)]
    reader = replace(ladder()[0], losses={"general": losses})
    (found,) = with_and_without([reader], KNOWN)
    assert (found["all"]["estimate"], found["clean"]) == (3.0, None)
