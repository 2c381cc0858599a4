"""The price of each training of a plan: memory against the device's, FLOPs, hours and money.

Everything is computed from the shape that the base's config.json gives and from the recipe's
settings, through the same account for the recipe as it stands and for each setting that might
make it fit.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
from collections.abc import Iterator
from typing import Any

from pipeline.base_files import base_config
from pipeline.core.errors import ModelError
from pipeline.core.launch import launch_settings
from pipeline.core.store import Store
from pipeline.plan import Node, Plan
from pipeline.price_rows import rows_of
from pipeline.price_terms import Case, Terms

_UNFETCHED = "unknown until the base is fetched"


def price(plan: Plan, store: Store, terms: Terms) -> dict[str, Any]:
    """What the trainings of a plan need, as JSON values.

    Returns:
        ``device`` and assumptions, ``trainings`` in the plan's order (each with its status), and
        the sum over those that are still to run.
    """
    status = plan.status(store)
    known: dict[str, dict[str, Any]] = {}
    trainings = []
    for node in plan.nodes.values():
        if not node.stage.startswith("train"):
            continue
        # Seeds differ in nothing that has a price.
        same = _identity(node)
        if same not in known:
            with _uncollected():
                known[same] = _priced(node, plan, store, terms)
        trainings.append({"id": node.id, "status": status[node.id], **known[same]})
    at = terms.device
    return {
        "device": {
            "name": at.name,
            "gpu": at.gpu,
            "memory_bytes": round(at.memory_bytes),
            "flops_per_s": None if math.isnan(at.flops) else at.flops,
            "source": at.source,
        },
        "mfu": terms.mfu,
        "price_per_hour": terms.price_per_hour,
        "trainings": trainings,
        "to_run": _summed([t for t in trainings if t["status"] != "hit"]),
    }


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Leaves garbage where it is for a while.

    What torch, transformers and PEFT make when they are imported stays: to look through it again
    and again took 1.5 s of the 9 that a plan took.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _identity(node: Node) -> str:
    config = {name: value for name, value in node.config.items() if name != "seed"}
    return json.dumps([config, node.options, node.inputs], sort_keys=True, default=str)


def _summed(trainings: list[dict[str, Any]]) -> dict[str, Any]:
    """Over the trainings; a sum with an unknown part is unknown."""
    names = ("updates", "tokens", "flops", "hours", "cost")
    return {
        name: None if any(t.get(name) is None for t in trainings)
        else sum(t[name] for t in trainings)
        for name in names
    }  # fmt: skip


def _priced(node: Node, plan: Plan, store: Store, terms: Terms) -> dict[str, Any]:
    from pipeline.price_estimate import estimate
    from pipeline.remedies import first_that_fits

    shape = base_config(plan.nodes[node.inputs["root"]], plan.nodes, store)
    if shape is None:
        return {"unknown": _UNFETCHED}
    parent, prepared = node.inputs.get("parent"), plan.nodes[node.inputs["data"]]
    case = Case(
        shape,
        node.config,
        node.options,
        launch_settings(node.options["launch"]),
        rows_of(node, plan, store),
        prepared.config["over_length"],
        0 if parent is None else plan.nodes[parent].rank,
    )
    try:
        found = estimate(case, terms)
    except ModelError as error:
        return {"unknown": str(error)}
    if not found["fits"]:
        found["remedy"] = first_that_fits(case, terms)
    return found
