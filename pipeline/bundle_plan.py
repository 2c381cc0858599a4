"""The node of a plan that makes a family ready to be served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.plan import Built, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder


def bundle_node(ladder: Ladder, built: Built, reports: tuple[str, ...], *, ungated: bool) -> str:
    """Adds the node that puts a recipe's first model and all below it into one folder.

    Args:
        reports: whose gates decide.
        ungated: make it although they do not pass; its manifest says so.
    """
    recipe = built.loaded.recipe
    chain = [built.first, *built.below]
    served = [m for m in chain if m.root == built.first.root and m.adapter is not None]
    assert recipe.train is not None
    objective = recipe.train.objective[0]
    # How its rows were rendered is how it has to be asked.
    data = built.prepared[objective]
    inputs = {"root": built.first.root, "data": data}
    for index, report in enumerate(reports):
        inputs[f"report{index}"] = report
    for model in served:
        inputs[f"adapter.{model.name}"] = model.adapter or ""
    root = next((m for m in chain if m.root == built.first.root and m.adapter is None), None)
    config = {
        "name": recipe.name,
        "base": {
            "name": _plain_name(root.name if root else built.first.root.partition("/")[0]),
            "level": root.level if root else recipe.level,
        },
        "adapters": [
            {"name": m.name, "level": m.level, "rank": m.rank} for m in reversed(served)
        ],
        "max_model_len": recipe.serve.max_model_len,
        # A channel model was told nothing but the label.
        "system": recipe.data.system if recipe.data and objective != "channel" else None,
        "chat_template_kwargs": recipe.data.chat_template_kwargs if recipe.data else {},
        "ungated": ungated,
    }  # fmt: skip
    return ladder.add(Node(f"{recipe.name}/bundle", "bundle", config, inputs))


def _plain_name(name: str) -> str:
    """A name that a client can ask for: Qwen/Qwen3-0.6B is served as Qwen3-0.6B."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip(".-_") or "base"
