"""Figures of other tasks than one label: in the comparison, its gates and its clean items."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eval.compare import Comparison, compare
from eval.gates import Gate
from eval.known_items import Known
from eval.record import Kind, Prediction, TextLoss, as_text
from eval.report import report_page
from eval.report.tasks import task_tiles
from eval.results import Arm, ModelResult
from eval.task_figures import MAIN
from pipeline.core.errors import RecipeError

TAGS = [["B-PER", "O"], ["O", "B-LOC"], ["B-PER", "I-PER"], ["O", "O"]] * 5


def answer(index: int, gold: str, label: str) -> Prediction:
    return Prediction(f"e{index:02d}", gold, label, None, None, 0.0, 5, 0)


def result(arm: Arm, kind: Kind, rows: list[Prediction], seed: int = 1) -> ModelResult:
    return ModelResult("m", "L2", arm, "model", seed, predictions={"test": rows},
                       kinds={"test": kind})  # fmt: skip


def tagger(wrong: int = 2, seed: int = 1) -> ModelResult:
    rows = [answer(i, as_text(tags), as_text(["O", "O"] if i < wrong else tags))
            for i, tags in enumerate(TAGS)]  # fmt: skip
    return result("tagger", "tags", rows, seed)


def regressor() -> ModelResult:
    rows = [answer(i, as_text(float(i)), as_text(i + (0.5 if i % 2 else -1.5))) for i in range(20)]
    return result("regressor", "value", rows)


def several() -> ModelResult:
    rows = [answer(i, as_text(["a", "b"]), as_text(["a"] if i % 4 else ["a", "b"]))
            for i in range(20)]  # fmt: skip
    return result("classifier", "labels", rows)


def channel() -> ModelResult:
    losses = [TextLoss(f"e{i}", 2.0 * (5 + i), 5 + i, 0) for i in range(8)]
    return ModelResult("m-channel", "L2", "channel", "model", 1, losses={"test": losses},
                       kinds={"test": "channel"})  # fmt: skip


def compared(*results: ModelResult, gates: tuple[Gate, ...] = (), known: Known | None = None,
             ) -> Comparison:  # fmt: skip
    return compare(
        results, gates=gates, contamination=known or Known(), domain_suite=None,
        general_suite=None, task_suite="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "kind", "names"),
    [
        (tagger(), "tags", ["entity_f1", "token_accuracy"]),
        (regressor(), "value", ["mae", "rmse", "r2", "pearson", "spearman"]),
        (several(), "labels", ["accuracy", "micro_f1", "macro_f1"]),
        (channel(), "channel", ["channel_loss"]),
    ],
)
def test_a_comparison_holds_the_figures_of_each_kind(
    model: ModelResult, kind: str, names: list[str]
) -> None:
    tree = compared(model).to_json()
    (task,) = tree["tasks"]
    assert (task["suite"], task["kind"], task["name"]) == ("test", kind, model.name)
    assert list(task["figures"]) == names
    for name in names[:1]:
        found = task["figures"][name]
        assert found["low"] <= found["estimate"] <= found["high"]
    json.dumps(tree, allow_nan=False)
    page = report_page(tree, "t", {})
    for figure in task["figures"].values():
        assert f'<td class="n">{figure["estimate"]:.3f}</td>' in page


@pytest.mark.parametrize("model", [tagger(), regressor(), several(), channel()])
def test_a_tile_tells_the_main_figure_whatever_comes_first(model: ModelResult) -> None:
    (task,) = compared(model).to_json()["tasks"]
    turned = {**task, "figures": dict(reversed(task["figures"].items()))}
    assert task_tiles([turned]) == task_tiles([task])
    ((value, words),) = task_tiles([task])
    assert value == f"{task['figures'][MAIN[task['kind']]]['estimate']:.3f}"
    assert "on test" in words


def test_a_taggers_page_has_its_tasks_and_no_other() -> None:
    page = report_page(compared(tagger()).to_json(), "t", {})
    assert "<h2>Tasks</h2>" in page
    assert "Forms of answering" not in page


def test_a_figure_without_an_interval_says_so() -> None:
    (task,) = compared(regressor()).to_json()["tasks"]
    spearman = task["figures"]["spearman"]
    assert (spearman["low"], spearman["high"]) == (None, None)
    assert spearman["covers"] == "no interval yet"
    assert task["figures"]["mae"]["estimate"] == pytest.approx(1.0)


def test_a_loss_told_by_label_is_over_all_its_tokens() -> None:
    (task,) = compared(channel()).to_json()["tasks"]
    assert task["figures"]["channel_loss"]["estimate"] == pytest.approx(2.0)


def test_one_label_is_told_by_the_forms_and_not_twice() -> None:
    rows = [answer(i, "a", "a" if i % 3 else "b") for i in range(20)]
    comparison = compared(result("classifier", "label", rows))
    assert comparison.tasks == []
    assert comparison.heads["classifier"]["without_l1"] is None


def test_several_labels_are_a_form_of_answering_and_tags_are_none() -> None:
    comparison = compared(several())
    assert comparison.heads["classifier"]["with_l1"]["accuracy"] == pytest.approx(0.25)
    assert [row["label"] for row in comparison.classes["classifier"]["per_class"]] == ["a", "b"]
    other = compared(tagger())
    assert (other.heads, other.classes, other.chance) == ({}, {}, None)


def test_a_preference_is_no_accuracy_of_the_form_that_writes() -> None:
    rows = [Prediction(f"e{i}", "chosen", "chosen", {"chosen": 1.0, "rejected": 0.0}, None, 0, 9, 0)
            for i in range(9)]  # fmt: skip
    comparison = compared(result("generate", "preference", rows))
    assert comparison.heads == {}
    figures: dict[str, Any] = comparison.tasks[0]["figures"]
    assert figures["preference_accuracy"]["estimate"] == 1.0
    assert figures["preference_accuracy"]["low"] < 0.8


@pytest.mark.parametrize(
    ("model", "gate", "status"),
    [
        (tagger(), Gate("test", "entity_f1", at_least=0.5), "pass"),
        (tagger(wrong=12), Gate("test", "entity_f1", at_least=0.95), "fail"),
        (tagger(wrong=8), Gate("test", "entity_f1", at_least=0.75), "undecided"),
        (regressor(), Gate("test", "mae", at_most=2.0), "pass"),
        (regressor(), Gate("test", "mae", at_most=0.1), "fail"),
        (several(), Gate("test", "micro_f1", "classifier", at_least=0.3), "pass"),
        (several(), Gate("test", "macro_f1", at_least=0.999), "fail"),
        (several(), Gate("test", "macro_f1", "generate", at_least=0.1), "undecided"),
        (several(), Gate("test", "entity_f1", at_least=0.1), "undecided"),
    ],
)
def test_gates_stand_on_the_whole_interval(model: ModelResult, gate: Gate, status: str) -> None:
    (found,) = compared(model, gates=(gate,)).gates
    assert found.status == status, found.text


def test_a_gate_judges_all_seeds_of_a_model_together() -> None:
    gate = Gate("test", "entity_f1", at_least=0.5)
    (found,) = compared(tagger(2), tagger(6, seed=2), gates=(gate,)).gates
    assert found.estimate is not None
    (one,), (other,) = (compared(tagger(n), gates=(gate,)).gates for n in (2, 6))
    assert found.estimate == pytest.approx(((one.estimate or 0) + (other.estimate or 0)) / 2)


def test_an_error_is_promised_to_be_small_and_f1_to_be_large() -> None:
    with pytest.raises(RecipeError, match="give `at_most` alone"):
        Gate("test", "mae", at_least=1.0)
    with pytest.raises(RecipeError, match="give `at_least` alone"):
        Gate("test", "entity_f1", at_most=1.0)


def test_figures_stand_without_the_items_that_training_rows_know() -> None:
    known = Known(1, {"test": frozenset({"e00", "e01"})})
    (row,) = compared(tagger(), known=known).clean
    assert (row["figure"], row["known"], row["clean"]["items"]) == ("entity_f1", 2, 18)
    assert row["clean"]["estimate"] == 1.0
    assert row["all"]["estimate"] < 1.0
