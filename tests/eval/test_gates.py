"""Gates: pass and fail need the whole interval."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from eval.gates import Gate, GateResult, judge, verdict
from eval.statistics import Interval, exact
from pipeline.core.errors import RecipeError
from pipeline.core.gate_bounds import NAMES, Metric, Rung
from pipeline.core.schema_evaluate import GateSpec


def superior(by: float) -> Gate:
    return Gate("test", "accuracy", "generate", "control", superior_by=by)


@pytest.mark.parametrize(
    ("low", "high", "margin", "status"),
    [
        (0.01, 0.20, 0.0, "pass"),
        (0.00, 0.20, 0.0, "undecided"),  # Equal is not superior.
        (-0.10, 0.10, 0.0, "undecided"),
        (-0.20, 0.00, 0.0, "fail"),
        (0.01, 0.04, 0.05, "fail"),
    ],
)
def test_superiority_needs_the_lower_end_above_the_margin(
    low: float, high: float, margin: float, status: str
) -> None:
    middle = (low + high) / 2
    assert judge(superior(margin), Interval(middle, low, high)).status == status


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (-0.01, 0.02, "pass"),
        (-0.02, 0.02, "undecided"),  # Worse by the margin is not by less than the margin.
        (-0.30, 0.01, "undecided"),
        (-0.30, -0.02, "fail"),
        (-0.019, -0.001, "pass"),  # Worse for certain, and by less than the margin.
    ],
)
def test_non_inferiority_needs_the_lower_end_within_the_margin(
    low: float, high: float, status: str
) -> None:
    gate = Gate("test", "accuracy", "classifier", "generate", not_worse_by=0.02)
    found = judge(gate, Interval((low + high) / 2, low, high), arm="classifier")
    assert found.status == status
    assert "promised non-inferiority: worse by less than the margin of 0.02" in found.text


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(1.00, 1.03, "pass"), (1.01, 1.04, "undecided"), (1.031, 1.05, "fail")],
)
def test_ratio_needs_the_upper_end_within(low: float, high: float, status: str) -> None:
    gate = Gate("general", "loss", None, "base", at_most_ratio=1.03)
    assert judge(gate, Interval((low + high) / 2, low, high)).status == status


@pytest.mark.parametrize(
    ("low", "high", "status"), [(0.9, 0.95, "pass"), (0.8, 0.95, "undecided"), (0.7, 0.8, "fail")]
)
def test_floor_needs_the_lower_end_on_it(low: float, high: float, status: str) -> None:
    gate = Gate("test", "accuracy", at_least=0.9)
    assert judge(gate, Interval((low + high) / 2, low, high)).status == status


@pytest.mark.parametrize(("rows", "status"), [(0, "pass"), (1, "fail")])
def test_contamination_is_a_count_and_never_undecided(rows: int, status: str) -> None:
    assert judge(Gate("test", "contamination", at_most=0), exact(rows)).status == status


def test_unmeasured_is_undecided_and_says_why() -> None:
    found = judge(superior(0.0), None, arm="generate", missing="no control answered")
    assert (found.status, found.estimate) == ("undecided", None)
    assert found.text.endswith("not measured (no control answered)")


def test_text_is_one_line_with_figure_promise_and_end() -> None:
    text = judge(superior(0.05), Interval(0.21, 0.15, 0.27), arm="generate").text
    assert text == (
        "accuracy of generate on test: +0.210 [+0.150, +0.270] against control over "
        "items, for these weights; promised superiority: better by more than 0.05: pass"
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"metric": "accuracy", "against": "control"},
        {"metric": "accuracy", "against": "control", "superior_by": 0.0, "at_least": 0.5},
        {"metric": "accuracy", "against": "none", "superior_by": 0.0},
        {"metric": "accuracy", "against": "base", "at_most_ratio": 1.0},
        {"metric": "loss", "against": "chance", "at_most_ratio": 1.0},
        {"metric": "contamination", "against": "base", "at_most": 0.0},
        {"metric": "loss", "against": "base", "superior_by": 0.0},
        {"metric": "loss", "against": "tfidf_logreg", "at_most_ratio": 1.0},
        {"metric": "ece", "against": "base", "at_most": 0.1},
        {"metric": "macro_f1", "against": "chance", "superior_by": 0.0},
        {"metric": "accuracy", "against": "control", "superior_by": -0.01},
        {"metric": "accuracy", "against": "control", "not_worse_by": 0.0},
        {"metric": "accuracy", "against": "control", "not_worse_by": -0.01},
        {"metric": "accuracy", "arm": "joint", "against": "joint", "superior_by": 0.0},
    ],
)
def test_senseless_gate_is_refused_by_name(keys: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"gates: .* on test against .*"):
        Gate("test", **keys)


def test_a_margin_written_as_a_negative_superiority_is_told_how_to_write_it() -> None:
    with pytest.raises(RecipeError, match=r"write not_worse_by: 0\.01"):
        Gate("test", "accuracy", None, "control", superior_by=-0.01)


def test_verdict_is_the_worst_gate() -> None:
    def ended(*statuses: str) -> list[GateResult]:
        at = {"pass": (0.1, 0.2), "undecided": (-0.1, 0.1), "fail": (-0.2, -0.1)}
        return [judge(superior(0.0), Interval(sum(at[s]) / 2, *at[s])) for s in statuses]

    assert verdict([]) == "ungated"
    assert verdict(ended("pass", "pass")) == "pass"
    assert verdict(ended("pass", "undecided")) == "undecided"
    assert verdict(ended("undecided", "fail", "pass")) == "fail"


def test_gates_and_comparison_import_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, eval.gates, eval.compare, eval.report, eval.arms.generate; "
        "print([name for name in ('torch', 'transformers', 'scipy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_recipe_takes_the_very_gates_that_can_be_judged(metric: Metric) -> None:
    """The schema and the judge refuse alike: no promise is taken that ends in an error."""

    def refused(kind: type, error: type[Exception], **given: Any) -> bool:
        try:
            kind(suite="test", metric=metric, **given)
        except error:
            return True
        return False

    rungs = [*get_args(Rung), "tfidf_logreg", "likelihood"]
    taken = 0
    for against, bound in itertools.product(rungs, NAMES):
        given = {"against": against, bound: 0.5}
        alike = refused(Gate, RecipeError, **given), refused(GateSpec, ValidationError, **given)
        assert alike[0] == alike[1], given
        taken += not alike[0]
    assert taken
