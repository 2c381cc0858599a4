"""The price of a plan as a person reads it."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor, log10
from typing import Any

from pipeline.core.launch import to_paste
from pipeline.curve_plan import curve_stage

_BYTES = ("weights", "gradients", "optimizer", "activations", "loss", "working", "program")
_WORDS = {"optimizer": "optimiser states"}
# Seen over nine kinds of training (tests/modeling/test_memory.py); what is kept depends on the
# order in which blocks are freed, and is not estimated.
_HEAP = (
    "memory is what is in use; glibc keeps freed blocks, and 1.1 to 2.1 times as much was seen "
    "resident (MALLOC_TRIM_THRESHOLD_=131072 gives them back, and takes 1.3 to 1.5 times the time)"
)
_SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def print_price(tree: Mapping[str, Any]) -> None:
    """The trainings that are still to run, seeds together, and their sum."""
    open_ones = [t for t in tree["trainings"] if t["status"] != "hit"]
    if not open_ones:
        return
    device = tree["device"]
    rate = device["flops_per_s"]
    speed = "rate unknown" if rate is None else f"{rate / 1e12:.3g} TFLOP/s"
    print(
        f"\nprice on {device['name']}: {gigabytes(device['memory_bytes'])}, {speed} "
        f"({device['source']}), {tree['mfu']:.0%} of it used"
    )
    if not device["gpu"]:
        print(_HEAP)
    for names, training in _together(open_ones):
        print(names)
        for line in _lines(training, device, tree["price_per_hour"]):
            print(f"  {line}")
    if len(open_ones) > 1:
        print(f"all {len(open_ones)} trainings: {_work(tree['to_run'], tree['price_per_hour'])}")


def _together(trainings: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """(names, training) of trainings that differ in their seed, or in their rows, alone."""
    found: dict[str, list[dict[str, Any]]] = {}
    for training in trainings:
        found.setdefault(_same(training["id"]), []).append(training)
    return [_named(same) for same in found.values()]


def _same(node: str) -> str:
    """What trainings that are told together have in common."""
    stage = curve_stage(node)
    if stage is None:
        return node.rpartition(".seed")[0]
    return f"{stage}.{node.removeprefix(stage).split('.')[1]}"


def _named(same: list[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """The names of trainings that are told together, and the one that stands for them."""
    first, more = same[0]["id"], len(same) - 1
    if curve_stage(first) is not None:
        most = max(same, key=lambda training: training.get("flops") or 0.0)
        return f"{most['id']}, the longest of {more + 1} of the learning curve", most
    return first + (f" and {more} more seeds, each" if more else ""), same[0]


def _lines(
    training: Mapping[str, Any], device: Mapping[str, Any], price: float | None
) -> list[str]:
    if "unknown" in training:
        return [training["unknown"]]
    held = training["memory_bytes"]
    parts = ", ".join(
        f"{_WORDS.get(name, name)} {gigabytes(held[name])}"
        + (
            f" (micro-batch {training['micro_batch_size']}, {training['length']} tokens a row)"
            if name == "activations"
            else ""
        )
        for name in _BYTES
        if held[name]
    )
    shared = f", over {training['processes']} processes" if training["processes"] > 1 else ""
    lines = [
        f"{counted(training['parameters'])} parameters, "
        f"{counted(training['trainable_parameters'])} trained "
        f"({training['trainable_share']:.2%}){shared}",
        f"memory: {parts}; at most {gigabytes(held['total'])} at once",
    ]
    if held["paged"]:
        lines.append(f"optimiser states that may move to host memory: {gigabytes(held['paged'])}")
    if training["export_bytes"]:
        where = "main memory, or the GPU's where it has room" if device["gpu"] else "main memory"
        size = gigabytes(training["export_bytes"])
        lines.append(f"export: holds the base in float32, {size} of {where}")
    if not training["fits"]:
        lines.append(_refusal(training, device))
    return [*lines, f"work: {_work(training, price)}"]


def _refusal(training: Mapping[str, Any], device: Mapping[str, Any]) -> str:
    words = f"does not fit in {gigabytes(device['memory_bytes'])}; "
    remedy = training["remedy"]
    if remedy is None:
        return words + "no setting known here makes it fit: take a smaller base or a larger device"
    return f"{words}try {to_paste(*remedy['settings'])} (needs {gigabytes(remedy['total_bytes'])})"


def _work(values: Mapping[str, Any], price: float | None) -> str:
    if values["updates"] is None:
        return str(values.get("work") or "unknown in part")
    bound = "at most " if str(values.get("work", "")).startswith("at most") else ""
    words = [
        f"{bound}{counted(values['tokens'])} tokens",
        f"{values['updates']:,} updates",
        f"{values['flops']:.2e} FLOPs",
    ]
    if values["hours"] is not None:
        words.append(_hours(values["hours"]))
    if values["cost"] is not None:
        words.append(f"{_cost(values['cost'])} at {price:g} an hour and device")
    return ", ".join(words)


def _cost(cost: float) -> str:
    """Without a currency, which nobody named; cents, or two digits of what is less."""
    return f"{cost:,.2f}" if cost >= 0.1 or not cost else f"{cost:.{1 - floor(log10(cost))}f}"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.1f} s"
    return f"{hours * 60:.1f} min" if hours < 1 else f"{hours:,.1f} h"


def gigabytes(size: float) -> str:
    """Bytes in GB, of which small amounts keep a digit that says something."""
    value = size / 1e9
    return f"{value:.1f} GB" if value >= 0.1 else f"{value * 1000:.1f} MB"


def counted(number: float) -> str:
    """A count with three digits and its scale."""
    for scale, word in _SCALES:
        if number >= scale:
            return f"{number / scale:.3g} {word}"
    return f"{number:.0f}"
