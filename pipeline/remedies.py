"""The first setting under which a training would fit, each tried through the same account."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pipeline.core.errors import ModelError
from pipeline.core.launch import LaunchSettings, own_config
from pipeline.core.objectives import OBJECTIVES, cell_problem
from pipeline.data.misfits import over_length_problem
from pipeline.price_estimate import estimate
from pipeline.price_terms import Case, Terms

_WORLDS = (2, 4, 8, 16, 32, 64)
_SHORTEST = 8
Change = tuple[tuple[str, ...], Case]


def first_that_fits(case: Case, terms: Terms) -> dict[str, Any] | None:
    """The first single setting that fits, else the first row of settings, each added to the last.

    In this order: micro_batch_size 1, gradient checkpointing, 4-bit weights, 8-bit and paged
    optimisers, half the length, FSDP over more and more GPUs. Shards know neither 4-bit weights
    nor 8-bit states, so that rows which end in FSDP go without both.

    Returns:
        settings and total bytes; None where none of them helps.
    """
    alone = [(change,) for change in _CHANGES]
    return next((found for row in (*alone, *_ROWS) if (found := _tried(row, case, terms))), None)


def _tried(
    changes: tuple[Callable[[Case, Terms], Iterator[Change]], ...], case: Case, terms: Terms
) -> dict[str, Any] | None:
    """The first settings along a row that fit, with those before them."""
    settings: tuple[str, ...] = ()
    for change in changes:
        before, last = case, None
        for words, changed in change(before, terms):
            total = _fitting(changed, terms)
            if total is not None:
                return {"settings": [*settings, *words], "total_bytes": total}
            last = words, changed
        if last is not None:
            settings, case = (*settings, *last[0]), last[1]
    return None


def _fitting(case: Case, terms: Terms) -> int | None:
    try:
        found = estimate(case, terms)
    except ModelError:
        return None
    return int(found["memory_bytes"]["total"]) if found["fits"] else None


def _single(case: Case, _terms: Terms) -> Iterator[Change]:
    if case.options.get("micro_batch_size") != 1:
        yield ("train.micro_batch_size=1",), _with_options(case, micro_batch_size=1)


def _checkpointing(case: Case, _terms: Terms) -> Iterator[Change]:
    if not case.options.get("gradient_checkpointing"):
        changed = _with_options(case, gradient_checkpointing=True)
        yield ("train.gradient_checkpointing=true",), changed


def _four_bit(case: Case, _terms: Terms) -> Iterator[Change]:
    if case.config["method"] == "lora" and not cell_problem(
        case.config["objective"], "qlora", case.launch.wrapper
    ):
        yield ("train.method=qlora",), _with_config(case, method="qlora")


def _small_states(case: Case, terms: Terms) -> Iterator[Change]:
    if case.launch.wrapper in {"fsdp", "deepspeed"}:
        return
    # A CPU has nowhere to page to, and preflight refuses it.
    for optim in ("adamw_8bit", "paged_adamw_8bit") if terms.device.gpu else ("adamw_8bit",):
        if case.config["optim"] != optim:
            yield (f"train.optim={optim}",), _with_config(case, optim=optim)


def _half(case: Case, _terms: Terms) -> Iterator[Change]:
    length = case.length // 2
    if length < _SHORTEST:
        return
    words = [f"train.max_length={length}"]
    policy = _instead_of_error(OBJECTIVES[case.config["objective"]].render, case.over_length)
    if policy is not None:
        words.append(f"train.over_length={policy}")
    rows = replace(case.rows, lengths=None, at_most=case.rows.count)
    yield tuple(words), replace(_with_config(case, max_length=length), rows=rows)


def _instead_of_error(render: str, policy: str) -> str | None:
    """What longer rows need, where `prepare` would stop at them; text is cut into windows."""
    if policy != "error" or render == "text":
        return None
    # An answer stands at the end, and half of one is none: a row that writes goes whole. What is
    # only read keeps its beginning.
    kept = "drop" if render == "sft" else "truncate-right"
    return "drop" if over_length_problem(render, kept) else kept


def _sharded(case: Case, terms: Terms) -> Iterator[Change]:
    config, launch = case.config, case.launch
    refused = cell_problem(config["objective"], config["method"], "fsdp")
    # Shards of one machine's memory are no less together; our file asks for GPUs.
    if refused or config["optim"] != "adamw" or not terms.device.gpu:
        return
    micro = case.options.get("micro_batch_size") or 1
    for count in _WORLDS:
        fewer = count < launch.processes or (launch.wrapper, launch.processes) == ("fsdp", count)
        if fewer or config["global_batch_size"] % (count * micro):
            continue
        words = (f"train.launch.num_processes={count}", own_config("fsdp"))
        yield words, replace(case, launch=LaunchSettings("fsdp", count))


_CHANGES = (_single, _checkpointing, _four_bit, _small_states, _half, _sharded)
_ROWS = (
    (_single, _checkpointing, _four_bit, _small_states, _half),
    (_single, _checkpointing, _sharded),
    (_single, _checkpointing, _half, _sharded),
)


def _with_options(case: Case, **changes: Any) -> Case:
    return replace(case, options={**case.options, **changes})


def _with_config(case: Case, **changes: Any) -> Case:
    return replace(case, config={**case.config, **changes})
