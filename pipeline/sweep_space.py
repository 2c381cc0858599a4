"""What a sweep tries next: drawn by Optuna from the space, the seed and the trials before.

Nothing else decides it, so a sweep that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.core.schema_sweep import DEFAULT_TRIALS, Dimension, Sweep

# Digits of a drawn number: a setting is read, written down and typed again.
_DIGITS = 4
_WORD = re.compile(r"[A-Za-z][\w./@-]*")
Draw = dict[str, int | float]


def trials_of(sweep: Sweep) -> int:
    """Trials for each arm; of a grid, all its points."""
    if sweep.sampler == "grid":
        return math.prod(len(dimension.points or ()) for dimension in sweep.space.values())
    return sweep.trials or DEFAULT_TRIALS


def proposals(
    sweep: Sweep,
    before: Sequence[tuple[Draw, float | None]],
    count: int,
    *,
    lower_is_better: bool,
) -> list[Draw]:
    """The next draws of one arm, none of them knowing what the others come to.

    Args:
        before: draw and figure of every trial so far, in order; None for one that failed.
        count: how many.
        lower_is_better: of the figures.

    Returns:
        Key to a number; of a choice, the place of the value in its list.
    """
    first = len(before)
    if sweep.sampler == "grid":
        last = min(first + count, trials_of(sweep))
        return [_grid_draw(sweep, number) for number in range(first, last)]
    return _drawn(sweep, before, count, lower_is_better)


def values_of(sweep: Sweep, draw: Mapping[str, int | float]) -> dict[str, Any]:
    """The values that a draw stands for."""
    return {
        key: number if (choice := sweep.space[key].choice) is None else choice[int(number)]
        for key, number in draw.items()
    }


def override(key: str, value: Any) -> str:
    """``KEY=VALUE`` as `--set` takes it."""
    if isinstance(value, float):
        # YAML takes 1e-05 for a word.
        mantissa, e, power = repr(value).partition("e")
        text = f"{mantissa}{'' if '.' in mantissa or not e else '.0'}{e}{power}"
        return f"{key}={text}"
    if isinstance(value, str) and _WORD.fullmatch(value) and yaml.safe_load(value) == value:
        return f"{key}={value}"
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _grid_draw(sweep: Sweep, number: int) -> Draw:
    """The point of a grid with this number; the last key changes first."""
    places = []
    for dimension in reversed(sweep.space.values()):
        number, place = divmod(number, len(dimension.points or ()))
        # A draw holds the number of a range, and of a choice its place.
        places.append(place if dimension.choice is not None else int(dimension.ends[0]) + place)
    return dict(zip(sweep.space, reversed(places), strict=True))


def _drawn(
    sweep: Sweep, before: Sequence[tuple[Draw, float | None]], count: int, lower_is_better: bool
) -> list[Draw]:
    import optuna
    from optuna.trial import TrialState, create_trial

    distributions = {key: _distribution(d) for key, d in sweep.space.items()}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        # Of its experimental parts; what holds of them is tested.
        warnings.simplefilter("ignore")
        study = optuna.create_study(direction="minimize" if lower_is_better else "maximize")
        for draw, figure in before:
            state = TrialState.FAIL if figure is None else TrialState.COMPLETE
            study.add_trial(
                create_trial(state=state, value=figure, params=draw, distributions=distributions)
            )
        found = []
        for number in range(len(before), len(before) + count):
            # A sampler of its own for each trial: no generator state that a stop could lose.
            seed = int(hashlib.sha256(f"{sweep.seed} {number}".encode()).hexdigest()[:8], 16)
            random = sweep.sampler == "random"
            samplers = optuna.samplers
            study.sampler = (
                samplers.RandomSampler(seed) if random else samplers.TPESampler(seed=seed)
            )
            asked = study.ask(distributions).params
            found.append({key: _rounded(sweep.space[key], asked[key]) for key in sweep.space})
    return found


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if dimension.choice is not None:
        return CategoricalDistribution(range(len(dimension.choice)))
    if dimension.whole is not None:
        return IntDistribution(*dimension.whole)
    low, high = dimension.ends
    return FloatDistribution(low, high, log=dimension.log is not None)


def _rounded(dimension: Dimension, drawn: int | float) -> int | float:
    if dimension.points is not None:
        return int(drawn)
    low, high = dimension.ends
    return min(max(float(f"{drawn:.{_DIGITS}g}"), low), high)
