"""Which way to deploy: the cheapest that is not worse than the best by more than a margin."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from eval.arm_figures import cost_of
from eval.conclusions import ENOUGH_SEEDS
from eval.significance import Pair, holm
from eval.ways import Way, compare_ways, spoken_interval

MARGIN = 0.01
_ONE_SIDED = 0.025

Standing = Literal["best", "not worse", "worse", "undecided"]


@dataclass(frozen=True)
class _Rung:
    """One way that could be deployed.

    Attributes:
        cost: seconds for 1,000 items; None where that is not known.
        pair: against the best; None of the best itself, and where they share no seed.
    """

    way: Way
    cost: float | None
    pair: Pair | None = None
    standing: Standing = "best"

    @property
    def quality(self) -> float:
        return self.way.accuracy.estimate


def recommendation_of(
    ways: Sequence[Way], chance: float | None, margin: float = MARGIN
) -> dict[str, Any] | None:
    """The way to deploy with its evidence; None where no model was asked.

    The best has the highest accuracy. Another is not worse, or worse, where the paired interval
    lies above the margin, or below it, over all of them by Holm's method; which one is the best
    is itself read from these items. What is cheaper and undecided is said to be so.

    Args:
        ways: all that answered the task.
        chance: accuracy of always giving the commonest label.
        margin: of accuracy, by which the recommended one may be worse.

    Returns:
        ``key``, ``arm``, ``name``, ``trained``, ``margin``, ``undecided`` (keys), ``words``;
        ``deploy``: False where none is shown to be better than chance, and ``key`` tells the
        least bad;
        ``cost_is``, what costs are counted in; ``frontier``: of each way ``key``, ``arm``,
        ``name``, ``role``, ``level``, ``quality``, ``low``, ``high``, ``cost_s_per_1000``,
        ``standing`` and ``on_frontier``: no other is both as good and as cheap.
    """
    choices = [way for way in ways if way.first.role in ("model", "reference")]
    if not choices:
        return None
    costs, cost_is = _costs(choices)
    rungs = [_Rung(way, cost) for way, cost in zip(choices, costs, strict=True)]
    best = min(rungs, key=lambda rung: (-rung.quality, rung.cost or 0.0))
    rungs = _against(best, rungs, margin)
    fit = [rung for rung in rungs if rung.standing in ("best", "not worse")]
    # What has no known cost is not taken for cheap.
    chosen = min((r for r in fit if r.cost is not None), key=lambda r: r.cost or 0.0, default=best)
    cheaper = [
        rung
        for rung in rungs
        if rung.cost is not None and chosen.cost is not None and rung.cost < chosen.cost
    ]
    undecided = [rung for rung in cheaper if rung.standing == "undecided"]
    first = chosen.way.first
    return {
        "key": chosen.way.key,
        "arm": first.arm,
        "name": first.name,
        "trained": chosen.way.trained,
        "deploy": not _by_chance(best, chance),
        "margin": margin,
        "undecided": [rung.way.key for rung in undecided],
        "words": _words(chosen, best, rungs, cheaper, chance, margin, cost_is),
        "cost_is": cost_is,
        "frontier": [_point(rung, rungs) for rung in rungs],
    }


def _costs(ways: Sequence[Way]) -> tuple[list[float | None], str]:
    """Seconds for 1,000 items of each, all counted in the same."""
    told = [cost_of(way) for way in ways]
    devices = {cost["device"] for cost in told}
    if len(devices) == 1 and None not in devices:
        unit = "GPU" if devices == {"cuda"} else "processor"
        return [cost["compute_s_per_1000"] for cost in told], f"{unit} seconds"
    # Seconds of a GPU and of a processor cannot be set off against each other.
    return [cost["latency_s_per_1000"] or None for cost in told], "seconds by the clock"


def _against(best: _Rung, rungs: Sequence[_Rung], margin: float) -> list[_Rung]:
    """How each stands to the best."""
    pairs = {
        rung.way.key: pair
        for rung in rungs
        if rung is not best and (pair := compare_ways(rung.way, best.way)) is not None
    }
    by_luck = [pair.chance_worse_by(margin) for pair in pairs.values()]
    not_worse = _shown_of(pairs, by_luck)
    worse = _shown_of(pairs, [1 - p for p in by_luck])
    found = []
    for rung in rungs:
        key = rung.way.key
        standing: Standing = "best" if rung is best else "undecided"
        if key in not_worse or key in worse:
            standing = "not worse" if key in not_worse else "worse"
        found.append(_Rung(rung.way, rung.cost, pairs.get(key), standing))
    return found


def _shown_of(keys: Iterable[str], chances: Sequence[float]) -> set[str]:
    """Those whose one-sided p holds by Holm's method over all of them."""
    return {key for key, p in zip(keys, holm(chances), strict=True) if p <= _ONE_SIDED}


def _point(rung: _Rung, rungs: Sequence[_Rung]) -> dict[str, Any]:
    accuracy, first = rung.way.accuracy, rung.way.first
    return {
        "key": rung.way.key, "arm": first.arm, "name": first.name, "role": first.role,
        "level": first.level, "quality": accuracy.estimate, "low": accuracy.low,
        "high": accuracy.high, "cost_s_per_1000": rung.cost, "standing": rung.standing,
        "on_frontier": rung.cost is not None and not any(_beats(o, rung) for o in rungs),
    }  # fmt: skip


def _beats(other: _Rung, rung: _Rung) -> bool:
    if other.cost is None or rung.cost is None:
        return False
    as_good = other.quality >= rung.quality and other.cost <= rung.cost
    return as_good and (other.quality > rung.quality or other.cost < rung.cost)


def _words(
    chosen: _Rung,
    best: _Rung,
    rungs: Sequence[_Rung],
    cheaper: Sequence[_Rung],
    chance: float | None,
    margin: float,
    cost_is: str,
) -> list[str]:
    alone = sum(rung.quality >= best.quality for rung in rungs) == 1
    top = "the most accurate" if alone else "as accurate as any"
    said = [_lead(chosen, best, cheaper, chance, margin, cost_is, top)]
    if chosen.way is not best.way and chosen.pair is not None:
        said.append(
            f"Against the best, {_name(best)} with {_quality(best)}{_price(best, cost_is)}: "
            f"{spoken_interval(chosen.pair.difference)} accuracy, {_basis(chosen.pair)}."
        )
    said += _open(cheaper, best, margin)
    worse = [rung for rung in cheaper if rung.standing == "worse" and rung.pair is not None]
    if worse:
        told = ", ".join(f"{r.way.title} ({_shown(r)})" for r in worse)
        said.append(
            f"Cheaper, and shown to be worse than the best by more than {margin:g}: {told}."
        )
    if best.pair is None and len(rungs) > 1 and not any(r.way.trained for r in rungs):
        said.append("No trained model was measured here.")
    seeds = len(best.way.results)
    if best.way.trained and seeds < ENOUGH_SEEDS:
        plural = "" if seeds == 1 else "s"
        said.append(
            f"This holds for these weights ({seeds} seed{plural}); whether the training does so "
            f"again needs {ENOUGH_SEEDS} seeds."
        )
    return said


def _lead(
    chosen: _Rung,
    best: _Rung,
    cheaper: Sequence[_Rung],
    chance: float | None,
    margin: float,
    cost_is: str,
    top: str,
) -> str:
    if chance is not None and _by_chance(best, chance):
        return (
            f"Deploy none: the best, {_name(best)}, is not shown to be better than always giving "
            f"the commonest label ({chance:.3f}): {_quality(best)}."
        )
    figures = f"{_quality(chosen)}{_price(chosen, cost_is)}"
    how = f"the cheapest that is not worse than the best by more than {margin:g}"
    if chosen.way is best.way:
        how = f"{top}, and none that is cheaper is shown to be within {margin:g} of it"
        if not cheaper:
            how = f"{top}, and none is cheaper"
        if chosen.cost is None:
            how = f"{top}; what it costs was not measured"
    if not chosen.way.trained:
        return f"Do not fine-tune: {_name(chosen)} is {how}; {figures}."
    return f"Deploy {_name(chosen)}: {how}; {figures}."


def _by_chance(best: _Rung, chance: float | None) -> bool:
    return chance is not None and best.way.accuracy.low <= chance


def _open(cheaper: Sequence[_Rung], best: _Rung, margin: float) -> list[str]:
    """What is cheaper and may or may not be good enough."""
    undecided = [rung for rung in cheaper if rung.standing == "undecided"]
    if not undecided:
        return []
    told = ", ".join(f"{rung.way.title} ({_shown(rung)})" for rung in undecided)
    verb = "is" if len(undecided) == 1 else "are"
    return [
        f"Undecided: {told} {verb} cheaper, and neither shown to be within {margin:g} of "
        f"{best.way.title} nor to be worse by more; more test items or seeds would tell."
    ]


def _name(rung: _Rung) -> str:
    first = rung.way.first
    # A rung of words has no model of its own.
    return rung.way.title if first.name == first.arm else f"{rung.way.title} of {first.name}"


def _quality(rung: _Rung) -> str:
    accuracy = rung.way.accuracy
    return f"accuracy {accuracy.estimate:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"


def _price(rung: _Rung, cost_is: str) -> str:
    return "" if rung.cost is None else f" at {rung.cost:.3g} {cost_is} for 1,000 items"


def _shown(rung: _Rung) -> str:
    if rung.pair is None:
        return "no seed in common"
    return spoken_interval(rung.pair.difference)


def _basis(pair: Pair) -> str:
    if pair.seeds >= ENOUGH_SEEDS:
        return f"over {pair.seeds} paired seeds and the same items"
    return "on the same items, for these weights"
