"""The node of a plan that makes a family ready to be served."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.core.objectives import OBJECTIVES
from pipeline.judgement_arms import judged_name
from pipeline.plan import Built, ModelRef, Node
from pipeline.servable import serving_config

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
    heads = _heads(built)
    for name, model in heads.items():
        inputs[f"head.{name}"] = model.adapter or ""
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
        "heads": [
            {"name": name, "level": m.level, "rank": m.rank} for name, m in heads.items()
        ],
        "target_precision": next(iter(recipe.evaluate.target_precision), None),
        **serving_config(recipe),
        # A channel model was told nothing but the label.
        "system": recipe.data.system if recipe.data and objective != "channel" else None,
        "chat_template_kwargs": recipe.data.chat_template_kwargs if recipe.data else {},
        "ungated": ungated,
    }  # fmt: skip
    return ladder.add(Node(f"{recipe.name}/bundle", "bundle", config, inputs))


def _heads(built: Built) -> dict[str, ModelRef]:
    """Public name to the recipe's models that read: those that lie as an adapter over the root.

    A tagger answers for each token, and a channel model for none: neither is served.
    """
    train = built.loaded.recipe.train
    assert train is not None
    found = {}
    for objective in train.objective:
        model = built.models[(objective, train.seeds[0])]
        info = OBJECTIVES[objective]
        if info.head and objective != "tag" and model.adapter and model.root == built.first.root:
            found[judged_name(model.name, objective, "classifier")] = model
    return found


def _plain_name(name: str) -> str:
    """A name that a client can ask for: Qwen/Qwen3-0.6B is served as Qwen3-0.6B."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip(".-_") or "base"
