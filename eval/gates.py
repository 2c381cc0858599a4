"""Gates: promises of a recipe, each judged on an interval: pass, fail or undecided.

A gate passes only when the whole interval keeps the promise and fails only when none of it
does. What lies between is undecided, and what was not measured too: luck promotes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pipeline.core.arms import Arm
from pipeline.core.errors import RecipeError
from pipeline.core.gate_bounds import BOUNDS, NAMES, OF_TEXT, TEXT_RUNGS, Metric, Rung

if TYPE_CHECKING:
    from eval.statistics import Interval

UNQUANTISED: Literal["unquantised"] = "unquantised"
"""The same weights before they were exported in fewer bits: no rung that a recipe's gates name."""
Against = Rung | Arm | Literal["unquantised"]
Status = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class Gate:
    """One promise. Exactly one of the five bounds is set.

    Attributes:
        suite: the evaluation suite, as the recipe names it.
        metric: what is measured.
        arm: the way of answering it holds for; None for the first of each form.
        against: what it is compared with: a rung of the ladder, a reference, another arm of the
            same model; `none` for an absolute bound.
        superior_by: the figure less that of the other is above this (superiority).
        not_worse_by: the figure is below that of the other by less than this margin
            (non-inferiority); above 0.
        at_most_ratio: the figure over that of the other is at most this.
        at_least: the figure is at least this.
        at_most: the figure is at most this.
    """

    suite: str
    metric: Metric
    arm: Arm | None = None
    against: Against = "none"
    superior_by: float | None = None
    not_worse_by: float | None = None
    at_most_ratio: float | None = None
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        place = f"gates: {self.metric} on {self.suite} against {self.against}"
        relative, absolute = BOUNDS[self.metric]
        fit = absolute if self.against == "none" else relative
        if not fit or (self.metric in OF_TEXT and self.against not in (*TEXT_RUNGS, UNQUANTISED)):
            raise RecipeError(f"{place}: this has no such rung; leave `against` out")
        if self.against == "chance" and self.metric != "accuracy":
            raise RecipeError(f"{place}: chance is known of accuracy alone; leave `against` out")
        if self.arm is not None and self.against == self.arm:
            raise RecipeError(f"{place}: an arm stands against itself; name another")
        given = [name for name in NAMES if getattr(self, name) is not None]
        if len(given) != 1 or given[0] not in fit:
            raise RecipeError(
                f"{place}: its bounds are {', '.join(given) or 'missing'}; "
                f"give {' or '.join(f'`{name}`' for name in fit)} alone"
            )
        if self.superior_by is not None and self.superior_by < 0:
            raise RecipeError(
                f"{place}: superior_by {self.superior_by:g} promises not to be worse; "
                f"write not_worse_by: {-self.superior_by:g}"
            )
        if self.not_worse_by is not None and self.not_worse_by <= 0:
            raise RecipeError(
                f"{place}: not_worse_by {self.not_worse_by:g} leaves no margin; "
                "give one above 0, or promise superior_by: 0"
            )

    @property
    def bound(self) -> float:
        """The one bound that is set."""
        given: tuple[float | None, ...] = tuple(getattr(self, name) for name in NAMES)
        return next(bound for bound in given if bound is not None)

    @property
    def compares(self) -> bool:
        """Whether a difference to another rung is judged."""
        return self.superior_by is not None or self.not_worse_by is not None


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
        measured: the difference (`superior_by`, `not_worse_by`), the ratio (`at_most_ratio`) or
            the figure itself; None where it was not measured.
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
    bound = -gate.bound if gate.not_worse_by is not None else gate.bound
    if gate.compares:
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
    sign = "+" if gate.compares else ""
    return (
        f"{measured.estimate:{sign}.3f} [{measured.low:{sign}.3f}, {measured.high:{sign}.3f}]"
        f" {_unit(gate)}over {measured.covers}"
    )


def _unit(gate: Gate) -> str:
    if gate.metric == "contamination":
        return "rows"
    if gate.compares:
        return f"against {gate.against} "
    return f"times {gate.against} " if gate.at_most_ratio is not None else ""


def _promise(gate: Gate) -> str:
    if gate.not_worse_by is not None:
        return f"promised non-inferiority: worse by less than the margin of {gate.bound:g}"
    if gate.superior_by is not None:
        return f"promised superiority: better by more than {gate.bound:g}"
    return f"promised {'at least' if gate.at_least is not None else 'at most'} {gate.bound:g}"
