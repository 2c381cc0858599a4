"""The price of each training of a plan: memory against the device's, FLOPs, hours and money.

Everything is computed from the shape that the base's config.json gives and from the recipe's
settings, through the same account for the recipe as it stands and for each setting that might
make it fit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError
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


def _identity(node: Node) -> str:
    config = {name: value for name, value in node.config.items() if name != "seed"}
    options = {n: v for n, v in node.options.items() if n != "run_name"}
    return json.dumps([config, options, node.inputs], sort_keys=True, default=str)


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

    shape = base_shape(plan.nodes[node.inputs["root"]], plan, store)
    if shape is None:
        return {"unknown": _UNFETCHED}
    case = Case(
        shape, node.config, node.options, rows_of(node, plan, store), _parent_rank(node, plan)
    )
    try:
        found = estimate(case, terms)
    except ModelError as error:
        return {"unknown": str(error)}
    if not found["fits"]:
        found["remedy"] = first_that_fits(case, terms)
    return found


def _parent_rank(node: Node, plan: Plan) -> int:
    """Rank of the frozen adapter that the training stands on."""
    parent = node.inputs.get("parent")
    note = plan.nodes[parent].note if parent is not None else ""
    return int(note.removeprefix("rank ")) if note.startswith("rank ") else 0


def base_shape(root: Node, plan: Plan, store: Store) -> Mapping[str, Any] | None:
    """config.json of a root: from the store, a local folder, or the recipe's own shape."""
    while True:
        made = store.get(root.key) if root.key is not None else None
        folder = made.path if made is not None else root.files.get("folder")
        if folder is not None and (folder / "config.json").is_file():
            return _read(folder / "config.json")
        if root.stage == "scratch":
            return scratch_shape(root.config["shape"])
        if "root" not in root.inputs:
            return None
        root = plan.nodes[root.inputs["root"]]


def _read(file: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); point base at a model") from None
    return found if isinstance(found, dict) else None


def scratch_shape(shape: Mapping[str, Any]) -> dict[str, Any]:
    """The config.json that the stage `scratch` would write; its vocabulary may come out smaller."""
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "intermediate_size", "max_position_embeddings",
    )  # fmt: skip
    return {
        **{name: shape[name] for name in names},
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "tie_word_embeddings": True,
    }
