"""The evaluations of a plan: every trained model, and what it stands on, asked in each way."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.core.arms import ARMS
from pipeline.core.objectives import OBJECTIVES
from pipeline.data_plan import suite_node
from pipeline.judged_beside import weights
from pipeline.judgement_arms import (
    answers_suite,
    asked_arms,
    control_arms,
    evaluation_label,
    judged_name,
    needs_reference,
    page_arms,
)
from pipeline.plan import Built, ModelRef, Node

if TYPE_CHECKING:
    from pipeline.ladder import Ladder


@dataclass(frozen=True)
class Judged:
    """One evaluate node and what the comparison must know of it."""

    node: str
    about: dict[str, Any]


def dataset_of(ladder: Ladder, built: Built, name: str, objective: str) -> str:
    """The Dataset node of a suite, rendered as the objective's model is asked."""
    if name == "test":
        return built.prepared[objective]
    return suite_node(ladder, built.loaded, name, built.tokenizer, objective)


def seed_evaluations(
    ladder: Ladder, built: Built, asked: Built, suites: dict[str, str], role: str
) -> list[Judged]:
    """Every trained model of ``built``, evaluated as the recipe ``asked`` says."""
    found = []
    for (objective, seed), model in built.models.items():
        if objective == "mlm":
            # An encoder has no next-token loss; what stands over it is judged by its task.
            continue
        arms = control_arms if role == "control" else asked_arms
        for arm in arms(objective, asked.loaded.recipe.evaluate):
            if arm == "joint_untrained":
                found += _untrained(ladder, built, suites, objective, seed, role)
                continue
            wanted = _wanted(ladder, built, asked, suites, (objective, arm, seed))
            if not wanted:
                continue
            named = replace(model, name=judged_name(model.name, objective, arm))
            inputs = {f"suite.{name}": node for name, node in wanted.items()}
            trained = f"{built.loaded.recipe.name}/train.{objective}.seed{seed}"
            if trained != model.root:
                inputs["trained"] = trained
            if ARMS[arm].labels:
                inputs["data"] = built.prepared[objective]
            if any(needs_reference(objective, suites[name]) for name in wanted):
                below = weights(built.start)
                inputs |= {f"below.{part}": below[part] for part in below}
            label = evaluation_label(objective, arm, seed)
            node = f"{built.loaded.recipe.name}/evaluate.{label}"
            item = _evaluate(ladder, asked, node, named, arm, inputs)
            found.append(Judged(item, _about(named, arm, role, seed)))
    return found


def _untrained(
    ladder: Ladder, built: Built, suites: dict[str, str], objective: str, seed: int, role: str
) -> list[Judged]:
    """What a channel model was before it was trained: the baseline of the joint arm."""
    arm = "joint_untrained"
    first = built.loaded.recipe.train
    assert first is not None
    if role != "model" or seed != first.seeds[0]:
        return []
    wanted = _wanted(ladder, built, built, suites, (objective, arm, seed))
    if not wanted:
        return []
    inputs = {f"suite.{name}": node for name, node in wanted.items()}
    inputs["data"] = built.prepared[objective]
    node = f"{built.loaded.recipe.name}/evaluate.{objective}-{arm}"
    item = _evaluate(ladder, built, node, built.start, arm, inputs)
    return [Judged(item, _about(built.start, arm, "reference", seed))]


def page_suites(
    ladder: Ladder, built: Built, suites: dict[str, str]
) -> dict[tuple[str, str], dict[str, str]]:
    """Objective and arm of each risk page to the Datasets of its suites, by name."""
    recipe = built.loaded.recipe
    assert recipe.train is not None
    seed = recipe.train.seeds[0]
    return {
        (objective, arm): {}
        if objective == "mlm"
        else _wanted(ladder, built, built, suites, (objective, arm, seed))
        for objective in recipe.train.objective
        for arm in page_arms(objective, recipe.evaluate)
    }


def _wanted(
    ladder: Ladder,
    built: Built,
    asked: Built,
    suites: dict[str, str],
    form_of_answering: tuple[str, str, int],
) -> dict[str, str]:
    """Suite to its Dataset node, of the suites that one trained model answers in one form."""
    objective, arm, seed = form_of_answering
    train = built.loaded.recipe.train
    assert train is not None
    wanted = {}
    for name, form in suites.items():
        # Texts are judged for one seed: the figure stands for these weights.
        if not answers_suite(arm, form) or (form == "text" and seed != train.seeds[0]):
            continue
        # Programs check what is written there: stage `generated` asks for it.
        if form == "instructions":
            continue
        # Who chats and is asked in no other way only reads.
        if arm == "text" and form != "text" and OBJECTIVES[objective].chats:
            continue
        owner = built if name == "test" else asked
        wanted[name] = dataset_of(ladder, owner, name, objective)
    return wanted


def ancestor_evaluations(ladder: Ladder, built: Built, suites: dict[str, str]) -> list[Judged]:
    """The base, the parent and the recipe's own phases on every text suite.

    Forgetting is measured against the base and the parent; a phase is told beside them.
    """
    recipe = built.loaded.recipe
    assert recipe.train is not None
    text = {
        name: dataset_of(ladder, built, name, recipe.train.objective[0])
        for name, form in suites.items()
        if form == "text"
    }
    if not text or not any(OBJECTIVES[o].writes for o in recipe.train.objective):
        return []
    chain = built.below
    roles = ["parent"] * (len(chain) - 1) + ["base"] * bool(chain)
    found = []
    for index, (model, role) in enumerate(zip(chain, roles, strict=True)):
        # Several may stand between: the nearest is the parent that gates mean.
        label = f"as-{role}" + (f"{index + 1}" if role == "parent" and index else "")
        found.append(_read(ladder, built, model, role, label, text))
    for phase in built.phases:
        if OBJECTIVES[phase.first_objective].writes:
            label = f"as-phase.{phase.loaded.recipe.name.rpartition('.')[2]}"
            found.append(_read(ladder, built, phase.first, "phase", label, text))
    return found


def _read(
    ladder: Ladder, built: Built, model: ModelRef, role: str, label: str, text: dict[str, str]
) -> Judged:
    """A model below, on the text suites of the recipe above it."""
    inputs = {f"suite.{name}": node for name, node in text.items()}
    node = f"{built.loaded.recipe.name}/evaluate.{label}"
    item = _evaluate(ladder, built, node, model, "text", inputs)
    return Judged(item, _about(model, "text", role, 0))


def _about(model: ModelRef, arm: str, role: str, seed: int) -> dict[str, Any]:
    return {"name": model.name, "level": model.level, "arm": arm, "role": role, "seed": seed}


def _evaluate(
    ladder: Ladder,
    asked: Built,
    node: str,
    model: ModelRef,
    arm: str,
    inputs: dict[str, str],
) -> str:
    """Adds the evaluation of a model in one form, as the recipe ``asked`` says."""
    evaluate = asked.loaded.recipe.evaluate
    config = {
        "arm": arm,
        "max_new_tokens": evaluate.max_new_tokens,
        "answer_after": evaluate.answer_after,
        "train_items": evaluate.train_items,
    }
    options = {"batch_size": evaluate.batch_size}
    return ladder.add(Node(node, "evaluate", config, {**weights(model), **inputs}, options=options))
