"""The first setting under which a training would fit, each tried through the same account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.core.launch import own_config
from pipeline.core.objectives import cell_problem
from pipeline.price_estimate import estimate
from pipeline.price_terms import Case, Terms, wrapper_of

_WORLDS = (2, 4, 8, 16, 32, 64)
Change = tuple[tuple[str, ...], Case]


def first_that_fits(case: Case, terms: Terms) -> dict[str, Any] | None:
    """The first single setting that fits, else the first row of settings, each added to the last.

    In this order: micro_batch_size 1, gradient checkpointing, 4-bit weights, 8-bit and paged
    optimisers, half the length, FSDP over more and more GPUs.

    Returns:
        settings and total bytes; None where none of them helps.
    """
    for change in _CHANGES:
        for words, changed in change(case):
            total = _fitting(changed, terms)
            if total is not None:
                return {"settings": [*words], "total_bytes": total}
    settings: list[str] = []
    for change in _CHANGES:
        for words, changed in change(case):
            total = _fitting(changed, terms)
            if total is not None:
                return {"settings": [*settings, *words], "total_bytes": total}
            last = words, changed
        if any(True for _ in change(case)) and change is not _sharded:
            settings += last[0]
            case = last[1]
    return None


def _fitting(case: Case, terms: Terms) -> int | None:
    try:
        found = estimate(case, terms)
    except ModelError:
        return None
    return int(found["memory_bytes"]["total"]) if found["fits"] else None


def _single(case: Case) -> Iterator[Change]:
    if case.options.get("micro_batch_size") != 1:
        yield ("train.micro_batch_size=1",), _with_options(case, micro_batch_size=1)


def _checkpointing(case: Case) -> Iterator[Change]:
    if not case.options.get("gradient_checkpointing"):
        changed = _with_options(case, gradient_checkpointing=True)
        yield ("train.gradient_checkpointing=true",), changed


def _four_bit(case: Case) -> Iterator[Change]:
    wrapper, _, _ = wrapper_of(case)
    if case.config["method"] == "lora" and not cell_problem(
        case.config["objective"], "qlora", wrapper
    ):
        yield ("train.method=qlora",), _with_config(case, method="qlora")


def _small_states(case: Case) -> Iterator[Change]:
    wrapper, _, _ = wrapper_of(case)
    if wrapper in {"fsdp", "deepspeed"}:
        return
    for optim in ("adamw_8bit", "paged_adamw_8bit"):
        if case.config["optim"] != optim:
            yield (f"train.optim={optim}",), _with_config(case, optim=optim)


def _half(case: Case) -> Iterator[Change]:
    length = case.config["max_length"] // 2
    if length >= 8:
        rows = replace(case.rows, lengths=None, at_most=case.rows.count)
        yield (
            (f"train.max_length={length}",),
            replace(_with_config(case, max_length=length), rows=rows),
        )


def _sharded(case: Case) -> Iterator[Change]:
    config, (wrapper, world, _) = case.config, wrapper_of(case)
    if cell_problem(config["objective"], config["method"], "fsdp") or config["optim"] != "adamw":
        return
    micro = case.options.get("micro_batch_size") or 1
    for count in _WORLDS:
        if config["global_batch_size"] % (count * micro) or (wrapper == "fsdp" and count <= world):
            continue
        launch = {**case.options["launch"], "num_processes": count, "wrapper": "fsdp"}
        words = (f"train.launch.num_processes={count}", own_config("fsdp"))
        yield words, _with_options(case, launch=launch)


_CHANGES: tuple[Callable[[Case], Iterator[Change]], ...] = (
    _single, _checkpointing, _four_bit, _small_states, _half, _sharded
)  # fmt: skip


def _with_options(case: Case, **changes: Any) -> Case:
    return replace(case, options={**case.options, **changes})


def _with_config(case: Case, **changes: Any) -> Case:
    return replace(case, config={**case.config, **changes})
