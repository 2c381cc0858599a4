"""The learning rate of each update: a warm-up, then transformers' own decays by their names."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.core.errors import TrainingError

_WHOLE = ("num_decay_steps", "num_stable_steps", "timescale")
_INVERSE_SQRT_TIMESCALE = 10_000


def learning_rate_factor(config: Mapping[str, Any], total: int) -> Callable[[int], float]:
    """Update number (from 0) to the share of the peak learning rate.

    The warm-up climbs in equal steps and wastes no update on zero; what follows is
    ``transformers.get_scheduler`` counted from its end. ``constant`` has no warm-up, as there.

    Args:
        config: lr_scheduler_type, lr_scheduler_kwargs, warmup_ratio, warmup_steps and
            learning_rate of a recipe.
        total: updates of the whole training.

    Raises:
        TrainingError: an option that the schedule does not take, or more updates than there are.
    """
    import torch
    from transformers import get_scheduler

    kind = config["lr_scheduler_type"]
    warmup = config.get("warmup_steps")
    if warmup is None:
        warmup = math.ceil(config["warmup_ratio"] * total)
    warmup = 0 if kind == "constant" else min(int(warmup), total)
    left = max(1, total - warmup)
    given = dict(config.get("lr_scheduler_kwargs") or {})
    options = {n: int(v) if n in _WHOLE else v for n, v in given.items()}
    if kind == "inverse_sqrt":
        options.setdefault("timescale", warmup or _INVERSE_SQRT_TIMESCALE)
    if kind == "warmup_stable_decay":
        rest = left - options.get("num_stable_steps", left - left // 5)
        options.setdefault("num_decay_steps", max(1, rest))
    if kind == "cosine_with_min_lr" and not {"min_lr", "min_lr_rate"} & options.keys():
        options["min_lr_rate"] = 0.1
    if options.get("num_decay_steps", 0) + options.get("num_stable_steps", 0) > left:
        raise TrainingError(
            f"train.lr_scheduler_kwargs: {given}: more updates than the {left} after the warm-up; "
            "lower num_decay_steps and num_stable_steps"
        )
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=config["learning_rate"])
    try:
        with warnings.catch_warnings():
            # That num_stable_steps is used where it is given.
            warnings.simplefilter("ignore")
            scheduler: Any = get_scheduler(
                kind, optimizer, num_warmup_steps=0, num_training_steps=left,
                scheduler_specific_kwargs=options,
            )  # fmt: skip
    except (TypeError, ValueError, ArithmeticError) as error:
        raise TrainingError(
            f"train.lr_scheduler_kwargs: {given}: {kind} does not take them ({error}); "
            "leave them out or name those of transformers.get_scheduler"
        ) from None
    decay = scheduler.lr_lambdas[0]

    def factor(step: int) -> float:
        return (step + 1) / (warmup + 1) if step < warmup else float(decay(step - warmup))

    return factor
