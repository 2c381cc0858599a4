"""One training's price: shapes into bytes, FLOPs, hours."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.core.objectives import OBJECTIVES, PEFT_METHODS
from pipeline.modeling.at_once import CHUNK_ELEMENTS, TOKENS_AT_ONCE
from pipeline.modeling.flops import Flops, training_flops
from pipeline.modeling.kernels import kernel_of
from pipeline.modeling.memory import Layout, memory
from pipeline.modeling.outline import outline
from pipeline.modeling.outline_parts import Outline
from pipeline.price_terms import PROGRAM_BYTES, Case, Terms
from pipeline.training.batches import steps_in_all
from pipeline.training.memory import frozen_in_bf16, micro_batch

_SHAPING = {
    "objective", "method", "precision", "lora_r", "lora_alpha", "lora_dropout", "target_modules",
    "use_rslora", "use_dora", "modules_to_save", "rank_pattern", "alpha_pattern",
}  # fmt: skip


def estimate(case: Case, terms: Terms) -> dict[str, Any]:
    """The numbers of one training on one kind of device.

    Raises:
        ModelError: a base whose shape cannot be built, or settings that it cannot be trained with.
    """
    gpu = terms.device.gpu
    found = _outline(case, gpu=gpu)
    layout = _layout(case, gpu=gpu)
    account = memory(found, layout)
    program = PROGRAM_BYTES["gpu" if gpu else "cpu"]
    # Processes of one machine share its memory, where each GPU has its own.
    needed = (account.peak + program) * (1 if gpu else layout.world)
    return {
        "parameters": found.parameters,
        "trainable_parameters": found.trainable,
        "trainable_share": found.trainable / found.parameters,
        "micro_batch_size": layout.micro_rows,
        "processes": layout.world,
        "wrapper": layout.wrapper,
        "length": case.length,
        "memory_bytes": {**account.to_json(), "program": round(program), "total": round(needed)},
        "activations_from": "a followed pass" if found.kept else f"a formula ({found.reason})",
        "fits": needed <= terms.device.memory_bytes,
        # `export` and `merge` load the base in float32, whatever it was trained in.
        "export_bytes": 4 * found.base if case.config["method"] in PEFT_METHODS else None,
        **_work(case, found, layout, terms),
    }


def _outline(case: Case, *, gpu: bool) -> Outline:
    config = case.config
    # What is left beside 4-bit weights lies in the type that they are multiplied in.
    multiplied = config["method"] == "qlora" and config["precision"] == "bf16"
    small = multiplied or frozen_in_bf16(config, gpu=gpu)
    return _followed(
        json.dumps([dict(case.shape), _shaping(config)], sort_keys=True),
        case.length,
        _kernel(case, gpu=gpu),
        small,
        case.rows.labels,
        # Over float32 weights a parent's adapter is merged.
        case.parent_rank if small or config["method"] == "qlora" else 0,
    )


def _kernel(case: Case, *, gpu: bool) -> str:
    rows = case.rows
    lengths = np.zeros(0, np.int64) if rows.lengths is None else rows.lengths
    asked = case.options.get("attention")
    return kernel_of(asked, case.shape, lengths, packed=rows.packed, gpu=gpu)


def _shaping(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a shape hangs on: recipes that differ in others are followed once."""
    return {name: value for name, value in config.items() if name in _SHAPING}


@functools.lru_cache(maxsize=64)
def _followed(
    text: str, length: int, kernel: str, bf16: bool, labels: int, parent_rank: int
) -> Outline:
    shape, config = json.loads(text)
    return outline(
        shape, config, length=length, kernel=kernel, bf16_weights=bf16, labels=labels,
        parent_rank=parent_rank,
    )  # fmt: skip


def _layout(case: Case, *, gpu: bool) -> Layout:
    config, options, world = case.config, case.options, case.launch.processes
    sequences = 2 if OBJECTIVES[config["objective"]].render == "preference" else 1
    rows = config["global_batch_size"]
    if case.rows.count is not None:
        rows = min(rows, case.rows.count)
    device = "cuda" if gpu else "cpu"
    at_once = TOKENS_AT_ONCE[device] // (sequences * case.length)
    micro = min(micro_batch(options, rows, at_once), math.ceil(rows / world))
    return Layout(
        micro_rows=micro,
        sequences=sequences,
        targets=_targets_of_a_row(case),
        accumulates=math.ceil(rows / world) > micro,
        world=world,
        wrapper=case.launch.wrapper,
        shards_weights=case.launch.shards_weights,
        reshard=case.launch.reshard_after_forward,
        checkpointing=bool(options.get("gradient_checkpointing")),
        compiled=options.get("activation_memory_budget", 1.0)
        if options.get("compile") and config["method"] in PEFT_METHODS
        else None,
        optim=config["optim"],
        pages=gpu,
        quantised=config["method"] == "qlora",
        compute_bytes=2 if config["precision"] == "bf16" else 4,
        # A GPU hands them to the host's memory.
        keeps_best=bool(config["load_best_model_at_end"]) and not gpu,
        fused_loss=config["objective"] != "mlm",
        chunk_logits=CHUNK_ELEMENTS[device],
    )


def _targets_of_a_row(case: Case) -> int:
    """Tokens of the longest row that are predicted: all where it is not known."""
    if case.config["objective"] == "mlm":
        return math.ceil(float(case.config["mlm_probability"]) * case.length)
    rows = case.rows
    if rows.targets is None or rows.lengths is None or not rows.segments.sum():
        return case.length
    return math.ceil(case.length * rows.targets / float(rows.segments.sum()))


def _work(case: Case, found: Outline, layout: Layout, terms: Terms) -> dict[str, Any]:
    """Updates, tokens, FLOPs, hours and cost; None where the rows are not known."""
    count, steps = case.rows.count, _updates(case)
    if steps is None:
        why = "unknown until its rows are prepared"
        return dict.fromkeys(("updates", "tokens", "flops", "hours", "cost")) | {"work": why}
    exact = case.rows.lengths is not None
    batch = case.config["global_batch_size"]
    read = steps * batch
    if count is not None:
        # The last batch of a pass over the data is smaller.
        per_pass = math.ceil(count / batch)
        read = math.floor(steps / per_pass * count)
    if exact:
        passes = read / max(1, len(case.rows.lengths if case.rows.lengths is not None else ()))
        once = _flops(case, found, case.rows.segments, case.rows.targets)
        tokens = passes * float(case.rows.segments.sum())
    else:
        passes = float(read)
        once = _flops(case, found, np.array([case.config["max_length"] * layout.sequences]), None)
        tokens = passes * case.config["max_length"] * layout.sequences
    flops = once.needed * passes
    # DPO reads every row once more, for what the model said before.
    extra = once.forward + once.attention / 3 if layout.sequences == 2 else 0.0
    extra *= min(1.0, passes) if exact else min(float(read), float(count or read))
    again = once.recomputed * passes if layout.checkpointing else 0.0
    rate = terms.device.flops * terms.mfu * (layout.world if terms.device.gpu else 1)
    hours = None if math.isnan(rate) else (flops + extra + again) / rate / 3600
    price = terms.price_per_hour
    devices = layout.world if terms.device.gpu else 1
    return {
        "updates": steps,
        "tokens": round(tokens),
        "flops": flops + extra,
        "hours": hours,
        "cost": None if hours is None or price is None else hours * price * devices,
        "work": "counted" if exact else "at most: every row as long as max_length",
    }


def _updates(case: Case) -> int | None:
    config, count = case.config, case.rows.count
    if config["max_steps"] is None and count is None:
        return None
    passes = config.get("num_train_epochs", 1.0)
    return steps_in_all(count or 0, config["global_batch_size"], passes, config["max_steps"])


def _flops(case: Case, found: Outline, segments: Any, targets: int | None) -> Flops:
    objective = case.config["objective"]
    tokens = int(segments.sum())
    if objective == "mlm":
        targets = math.ceil(case.config["mlm_probability"] * tokens)
    predicted = tokens if targets is None else targets
    judged = tokens if objective == "tag" else None
    return training_flops(found, segments, predicted, rows=judged)
