"""What a judgement has beside its models: rungs that nobody trains, and pages of risks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_evaluate import Generated
from pipeline.judgement_arms import (
    LEARNED,
    OPEN,
    PROMPTED,
    arms_of,
    judged_name,
    rungs_of,
)
from pipeline.plan import Built, ModelRef, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

# Renders whose rows tell a text and its label, the plainest first.
_ROWS = ("classify", "sft", "hybrid", "channel")


def weights(model: ModelRef) -> dict[str, str]:
    """The nodes that hold a model as served."""
    return {"root": model.root} | ({"adapter": model.adapter} if model.adapter else {})


def reference_nodes(
    ladder: Ladder, built: Built, suites: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Node and what the comparison must know, of each rung of a recipe: those that it names.

    Where it names none, all that rows of the kind can be asked; what turns out not to fit when
    it is asked (a base that only reads, labels that do not fit into a prompt) is told instead.

    Args:
        suites: name to format.

    Raises:
        RecipeError: a rung that these rows cannot be asked of.
    """
    recipe, loaded = built.loaded.recipe, built.loaded
    evaluate = recipe.evaluate
    rungs = rungs_of(evaluate, suites.get("test"))
    if not rungs:
        return
    assert recipe.train is not None
    assert recipe.data is not None
    data = rung_rows(built)
    if data is None and evaluate.references is None:
        return
    if data is None or suites.get("test") in (None, "text"):
        raise loaded.error(
            "evaluate.references", "are asked the recipe's own items: they need a task in data.test"
        )
    base = built.below[-1] if built.below else built.start
    for name in rungs:
        if name in LEARNED and suites["test"] != "classification":
            raise loaded.error(
                "evaluate.references",
                f"{name} learns labels, and data.test is of format {suites['test']}; leave it out",
            )
        inputs, files = {"data": data}, dict[str, Path]()
        if name == "nearest" and evaluate.encoder is not None:
            inputs["encoder"] = ladder.fetched(loaded, evaluate.encoder, "evaluate.encoder").root
        elif name == "nearest" or name in PROMPTED:
            inputs["root"] = base.root
        if name == "retrieved" and evaluate.corpus is not None:
            files["corpus"] = _file(loaded, "evaluate.corpus", evaluate.corpus)
        if name == "retrieved" and suites["test"] == "classification":
            raise loaded.error(
                "evaluate.references",
                "retrieved answers open questions, and data.test is of format classification; "
                "leave it out",
            )
        node = rung_node(built, name, inputs, files)
        about = {"name": base.name if name in PROMPTED else name, "level": "L0", "arm": name,
                 "role": "reference", "seed": recipe.train.seeds[0]}  # fmt: skip
        yield ladder.add(node), about


def rung_node(
    built: Built, name: str, inputs: Mapping[str, str], files: Mapping[str, Path]
) -> Node:
    """The node of one rung, as a recipe's settings have it."""
    recipe, evaluate = built.loaded.recipe, built.loaded.recipe.evaluate
    assert recipe.train is not None
    config = {
        "name": name,
        "seed": recipe.train.seeds[0],
        "shots": evaluate.shots,
        "max_new_tokens": evaluate.max_new_tokens,
        "answer_after": evaluate.answer_after,
        # Of what nobody named, what does not fit is told and fails nothing.
        "named": evaluate.references is not None,
    }
    options = {"batch_size": evaluate.batch_size}
    return Node(f"{recipe.name}/reference.{name}", "reference", config, inputs, files, options)


def risk_nodes(
    ladder: Ladder, built: Built, pages: Mapping[tuple[str, str], dict[str, str]]
) -> list[str]:
    """The page of risks of each named model of a recipe that asks for one.

    Args:
        pages: objective and arm of each to the Datasets of the suites that are asked, by name.

    Raises:
        RecipeError: a file that is not there.
    """
    recipe, loaded = built.loaded.recipe, built.loaded
    evaluate = recipe.evaluate
    if evaluate.risks is None:
        return []
    assert recipe.train is not None
    assert recipe.data is not None
    files: dict[str, Path] = {}
    for name in ("bbq", "harmful", "swaps", "questions", "audit"):
        given = getattr(evaluate.risks, name)
        if given is not None:
            files[name] = _file(loaded, f"evaluate.risks.{name}", given)
    seed = recipe.train.seeds[0]
    nodes = []
    for (objective, arm), suites in pages.items():
        model = built.models[(objective, seed)]
        config = {
            "name": judged_name(model.name, objective, arm),
            "arm": arm,
            "max_new_tokens": evaluate.max_new_tokens,
            "answer_after": evaluate.answer_after,
            "items": evaluate.risks.items,
            "seed": seed,
            "price_per_hour": evaluate.risks.price_per_hour,
        }
        inputs = {
            **weights(model),
            "data": built.prepared[objective],
            **{f"suite.{name}": node for name, node in suites.items()},
        }
        second = arm == "classifier" and arm != arms_of(objective)[0]
        node = Node(
            f"{recipe.name}/risks.{objective}{'-classifier' if second else ''}",
            "risks", config, inputs, files,
            options={"batch_size": evaluate.batch_size},
        )  # fmt: skip
        nodes.append(ladder.add(node))
    return nodes


def generated_nodes(
    ladder: Ladder,
    built: Built,
    suites: Mapping[str, str],
    asked: Mapping[str, dict[str, str]],
) -> list[str]:
    """What the models of a recipe write, and what those below them make of instructions.

    Args:
        suites: name to format.
        asked: objective whose model writes to the Datasets of all suites, by name.

    Raises:
        RecipeError: a suite without open answers, or nobody who would write.
    """
    recipe, loaded = built.loaded.recipe, built.loaded
    section = recipe.evaluate.generated
    checked = [name for name, form in suites.items() if form == "instructions"]
    if section is None and not checked:
        return []
    assert recipe.train is not None
    section = section or Generated()
    for name in section.suites:
        if suites.get(name) not in OPEN:
            raise loaded.error(
                "evaluate.generated.suites",
                f"{name} is no suite with open answers (they are of format {', '.join(OPEN)})",
            )
    names = section.suites or tuple(name for name, form in suites.items() if form in OPEN)
    writers = [*asked]
    if not writers or not names:
        raise loaded.error(
            "evaluate.generated",
            "needs an objective that writes (sft, dpo, hybrid, cpt) and open answers of format "
            f"{', '.join(OPEN)}; leave it out",
        )
    seed = recipe.train.seeds[0]
    nodes = [
        _written(ladder, built, built.models[(o, seed)], names, asked[o], section, "model")
        for o in writers
    ]
    told = tuple(name for name in names if name in checked)
    if told:
        # Whoever cannot follow instructions any more has forgotten something: since when?
        roles = [*["parent"] * (len(built.below) - 1), "base"]
        nodes += [
            _written(ladder, built, model, told, asked[writers[0]], section, role)
            for model, role in zip(built.below, roles, strict=False)
        ]
    return nodes


def _written(
    ladder: Ladder,
    built: Built,
    model: ModelRef,
    names: tuple[str, ...],
    data: Mapping[str, str],
    section: Generated,
    role: str,
) -> str:
    recipe = built.loaded.recipe
    assert recipe.train is not None
    config = {
        "name": model.name,
        "level": model.level,
        "role": role,
        "suites": list(names),
        **section.model_dump(exclude={"suites"}),
        "seed": recipe.train.seeds[0],
        "answer_after": recipe.evaluate.answer_after,
    }
    inputs = {**weights(model), **{f"suite.{name}": data[name] for name in names}}
    label = "" if role == "model" else "as-"
    node = f"{recipe.name}/generated.{label}{model.name}"
    options = {"batch_size": recipe.evaluate.batch_size}
    return ladder.add(Node(node, "generated", config, inputs, options=options))


def rung_rows(built: Built) -> str | None:
    """The Dataset from which a rung reads texts and labels."""
    by_render = {OBJECTIVES[o].render: node for o, node in built.prepared.items()}
    return next((by_render[render] for render in _ROWS if render in by_render), None)


def _file(loaded: LoadedRecipe, key: str, given: str) -> Path:
    path = loaded.local(given)
    if not path.exists():
        raise loaded.error(key, f"{given}: no such file; check the path")
    return path
