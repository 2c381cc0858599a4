"""The nodes of a plan that export a recipe's model in fewer bits and judge it again."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_export import DTYPES
from pipeline.judgement_arms import asked_arms, evaluation_label
from pipeline.plan import Built, Node
from pipeline.servable import serving_config
from pipeline.stages.quantise_install import AGAIN, export_environment, lock_file

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

STAGES = ("quantise", "judge-export", "bundle-export")
"""Stages of an export; its evaluation is one like any other."""
EXPORTED = "exported"
_CALIBRATION_ROWS = 256
_READER = "compressed-tensors"


def export_node(ladder: Ladder, built: Built, reports: tuple[str, ...]) -> str:
    """Adds what exports the recipe's first model: merge, quantise, evaluate, judge, put together.

    Args:
        reports: whose gates decide whether the recipe's model is served at all.

    Returns:
        The node of the exported folder.

    Raises:
        RecipeError: a model that does not write, or one that no suite was asked.
    """
    recipe = built.loaded.recipe
    assert recipe.train is not None
    assert recipe.export is not None
    export, objective = recipe.export, recipe.train.objective[0]
    name, data = recipe.name, built.prepared[objective]
    arm, before = _evaluated(ladder, built)
    config: dict[str, Any] = {"scheme": export.scheme, "dtype": DTYPES[export.scheme]}
    if export.scheme == "awq":
        rows = export.calibration_rows or _CALIBRATION_ROWS
        config |= {"calibration_rows": rows, "seed": export.seed}
    quantised = ladder.add(
        Node(
            f"{name}/quantise",
            "quantise",
            config,
            {"root": _whole(ladder, built), "data": data},
            {"lock": lock_file()},
            blocked=_uninstalled(),
            note=f"{export.scheme}, the rest {config['dtype']}",
        )
    )
    judged = ladder.add(
        Node(
            f"{name}/judge-export",
            "judge-export",
            {
                "name": built.first.name, "level": recipe.level, "arm": arm,
                "seed": recipe.train.seeds[0], "not_worse_by": export.not_worse_by,
                "at_most_ratio": export.at_most_ratio,
            },
            {
                "exported": _evaluate(ladder, built, ladder.nodes[before], quantised),
                "unquantised": before,
            },
        )
    )  # fmt: skip
    inputs = {"root": quantised, "data": data, "judged": judged}
    inputs |= {f"report{index}": report for index, report in enumerate(reports)}
    about = {
        "name": built.first.name,
        "title": name,
        "level": recipe.level,
        **{key: config[key] for key in ("scheme", "dtype")},
        **serving_config(recipe),
        # A channel model was told nothing but the label.
        "system": recipe.data.system if recipe.data and objective != "channel" else None,
        "chat_template_kwargs": recipe.data.chat_template_kwargs if recipe.data else {},
    }
    return ladder.add(Node(f"{name}/bundle-export", "bundle-export", about, inputs))


def is_export(node: Node) -> bool:
    """Whether a node is there for an export alone."""
    return node.stage in STAGES or node.id.endswith(f"/evaluate.{EXPORTED}")


def _evaluated(ladder: Ladder, built: Built) -> tuple[str, str]:
    """The first way in which the recipe asks its model, and the node that did."""
    recipe = built.loaded.recipe
    assert recipe.train is not None
    objective, seed = recipe.train.objective[0], recipe.train.seeds[0]
    if not OBJECTIVES[objective].writes or objective == "dpo":
        raise built.loaded.error(
            "export",
            f"is of a model that writes and is judged by itself, and objective {objective} trains "
            "none; leave export out, or name another objective first",
        )
    for arm in asked_arms(objective, recipe.evaluate):
        node = f"{recipe.name}/evaluate.{evaluation_label(objective, arm, seed)}"
        if node in ladder.nodes:
            return arm, node
    raise built.loaded.error("export", "is gated on the test, and there is none; give data.test")


def _evaluate(ladder: Ladder, built: Built, before: Node, quantised: str) -> str:
    """The same evaluation of the exported weights: same items, same way of asking."""
    kept = {r: i for r, i in before.inputs.items() if r not in ("root", "adapter", "trained")}
    node = Node(
        f"{built.loaded.recipe.name}/evaluate.{EXPORTED}",
        before.stage,
        {**before.config, "reader": f"{_READER} {_installed(_READER)}"},
        {**kept, "root": quantised},
        options=before.options,
        blocked=None if _installed(_READER) else f"{_READER} is not installed; run `make setup`",
    )
    return ladder.add(node)


def _whole(ladder: Ladder, built: Built) -> str:
    """The node of the whole weights: what was trained in full, or the merged adapter."""
    model = built.first
    if model.adapter is None:
        return model.root
    export = ladder.nodes[model.adapter]
    inputs = {**export.inputs, "adapter": model.adapter}
    return ladder.add(Node(f"{model.name}/merge", "merge", export.config, inputs))


def _uninstalled() -> str | None:
    if export_environment().is_current():
        return None
    return f"llm-compressor is not installed; run {AGAIN} first"


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
