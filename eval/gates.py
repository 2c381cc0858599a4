"""Gates: promises of a recipe, each judged on an interval: pass, fail or undecided.

A gate passes only when the whole interval keeps the promise and fails only when none of it
does. What lies between is undecided, and what was not measured too: luck promotes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.core.arms import Arm
from pipeline.core.errors import RecipeError

if TYPE_CHECKING:
    from eval.statistics import Interval

Metric = Literal[
    "accuracy", "loss", "contamination",
    "macro_f1", "micro_f1", "entity_f1", "mae", "preference_accuracy",
]  # fmt: skip
Against = Literal["base", "parent", "control", "chance", "none"]
Status = Literal["pass", "fail", "undecided"]

# The bounds that make sense for a metric, with a rung to stand against and without one.
_BOUNDS: dict[tuple[str, bool], tuple[str, ...]] = {
    ("accuracy", True): ("superior_by",),
    ("accuracy", False): ("at_least",),
    ("loss", True): ("at_most_ratio",),
    ("loss", False): ("at_most",),
    ("contamination", False): ("at_most",),
    ("macro_f1", False): ("at_least",),
    ("micro_f1", False): ("at_least",),
    ("entity_f1", False): ("at_least",),
    ("preference_accuracy", False): ("at_least",),
    ("mae", False): ("at_most",),
}


@dataclass(frozen=True)
class Gate:
    """One promise. Exactly one of the four bounds is set.

    Attributes:
        suite: the evaluation suite, as the recipe names it.
        metric: what is measured.
        arm: the form of answering it holds for; None for every form that was measured.
        against: the rung it is compared with; `none` for an absolute bound.
        superior_by: accuracy less that of the other rung is above this; a negative value
            makes it a promise not to be worse by more (non-inferiority).
        at_most_ratio: loss over that of the other rung is at most this.
        at_least: the figure is at least this.
        at_most: the figure is at most this.
    """

    suite: str
    metric: Metric
    arm: Arm | None = None
    against: Against = "none"
    superior_by: float | None = None
    at_most_ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        place = f"gates: {self.metric} on {self.suite} against {self.against}"
        fit = _BOUNDS.get((self.metric, self.against != "none"))
        if fit is None or (self.metric == "loss" and self.against == "chance"):
            raise RecipeError(f"{place}: this has no such rung; leave `against` out")
        given = [
            name
            for name in ("superior_by", "at_most_ratio", "at_least", "at_most")
            if getattr(self, name) is not None
        ]
        if len(given) != 1 or given[0] not in fit:
            raise RecipeError(
                f"{place}: its bounds are {', '.join(given) or 'missing'}; give `{fit[0]}` alone"
            )

    @property
    def bound(self) -> float:
        """The one bound that is set."""
        bounds = (self.superior_by, self.at_most_ratio, self.at_least, self.at_most)
        return next(bound for bound in bounds if bound is not None)


@dataclass(frozen=True)
class GateResult:
    """How a gate ended for one arm, with the figure it was judged on.

    Attributes:
        gate: the promise.
        arm: the form it was judged for, where the metric has forms.
        status: pass, fail or undecided.
        estimate: the figure; None where it was not measured.
        low: lower end of its 95 % interval.
        high: upper end.
        text: the whole of it in one line of words.
    """

    gate: Gate
    arm: Arm | None
    status: Status
    estimate: float | None
    low: float | None
    high: float | None
    text: str


def judge(
    gate: Gate, measured: Interval | None, *, arm: Arm | None = None, missing: str = ""
) -> GateResult:
    """Holds a figure against a gate.

    Args:
        gate: the promise.
        measured: the difference (`superior_by`), the ratio (`at_most_ratio`) or the figure
            itself; None where it was not measured.
        arm: the form that was measured.
        missing: why nothing was measured, in words.
    """
    if measured is None:
        text = f"{_subject(gate, arm)}: not measured ({missing or 'no figures'})"
        return GateResult(gate, arm, "undecided", None, None, None, text)
    status = _status(gate, measured)
    text = f"{_subject(gate, arm)}: {_figure(gate, measured)}; {_promise(gate)}: {status}"
    return GateResult(gate, arm, status, measured.estimate, measured.low, measured.high, text)


def verdict(results: list[GateResult]) -> Status | Literal["ungated"]:
    """All gates together: the worst of them; a recipe without gates is `ungated`."""
    found = {result.status for result in results}
    for status in ("fail", "undecided", "pass"):
        if status in found:
            return status
    return "ungated"


def _status(gate: Gate, measured: Interval) -> Status:
    bound = gate.bound
    if gate.superior_by is not None:
        # Strictly above: equal is not superior.
        kept, broken = measured.low > bound, measured.high <= bound
    elif gate.at_least is not None:
        kept, broken = measured.low >= bound, measured.high < bound
    else:
        kept, broken = measured.high <= bound, measured.low > bound
    return "pass" if kept else "fail" if broken else "undecided"


def _subject(gate: Gate, arm: Arm | None) -> str:
    if gate.metric == "contamination":
        return f"contamination of {gate.suite}"
    form = f" of {arm}" if arm else ""
    return f"{gate.metric}{form} on {gate.suite}"


def _figure(gate: Gate, measured: Interval) -> str:
    if measured.low == measured.high == measured.estimate:
        return f"{measured.estimate:g} {_unit(gate)}"
    sign = "+" if gate.superior_by is not None else ""
    return (
        f"{measured.estimate:{sign}.3f} [{measured.low:{sign}.3f}, {measured.high:{sign}.3f}]"
        f" {_unit(gate)}over {measured.covers}"
    )


def _unit(gate: Gate) -> str:
    if gate.metric == "contamination":
        return "rows"
    if gate.superior_by is not None:
        return f"against {gate.against} "
    return f"times {gate.against} " if gate.at_most_ratio is not None else ""


def _promise(gate: Gate) -> str:
    if gate.superior_by is not None and gate.superior_by < 0:
        return f"promised not to be worse by {-gate.superior_by:g} or more"
    if gate.superior_by is not None:
        return f"promised to be better by more than {gate.superior_by:g}"
    return f"promised {'at least' if gate.at_least is not None else 'at most'} {gate.bound:g}"
