"""The part of a plan that judges: evaluations of a recipe, its ancestors and its control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.bundle_plan import bundle_node
from pipeline.core.arms import ARMS
from pipeline.core.objectives import OBJECTIVES
from pipeline.curve_plan import add_curve
from pipeline.data_plan import suite_node
from pipeline.data_sources import suite_source, test_form
from pipeline.judged_beside import reference_nodes, risk_nodes, weights
from pipeline.judgement_arms import (
    answers_suite,
    arms_of,
    asked_arms,
    evaluation_label,
    judged_name,
    needs_reference,
    require_asked,
)
from pipeline.judgement_rules import require_answered, require_paired, require_sound_gates
from pipeline.plan import Built, ModelRef, Node, Outcome, outcome_of

if TYPE_CHECKING:
    from pipeline.ladder import Ladder


@dataclass(frozen=True)
class _Judged:
    """One evaluate node and what the comparison must know of it."""

    node: str
    about: dict[str, Any]


def add_judgement(
    ladder: Ladder, built: Built, *, ungated: bool
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """Adds evaluate, compare, merge and bundle nodes.

    Recipes below are judged too where they have gates: a level that did not pass its own is
    not served because of the one above it.

    Returns:
        Outcomes, the recipe's own first, and the reports whose gates decide.
    """
    recipe = built.loaded.recipe
    if recipe.train is None:
        return (outcome_of(built, "fetch"),), ()
    reports = {built.loaded.recipe.name: _report(ladder, built)}
    for below in built.ancestors:
        if below.loaded.recipe.gates:
            reports[below.loaded.recipe.name] = _report(ladder, below)
    deciding = tuple(report for report in reports.values() if report is not None)
    outcomes = list(_outcomes(ladder, built, reports[built.loaded.recipe.name]))
    if OBJECTIVES[recipe.train.objective[0]].writes:
        bundle = bundle_node(ladder, built, deciding, ungated=ungated)
        outcomes[0] = replace(outcomes[0], bundle=bundle)
    others = list(built.ancestors)
    if recipe.evaluate.control is not None:
        others.append(_control(ladder, built))
    for other in others:
        outcomes += _outcomes(ladder, other, reports.get(other.loaded.recipe.name))
    return tuple(outcomes), deciding


def _report(ladder: Ladder, built: Built) -> str | None:
    suites = _suites(built)
    require_asked(built.loaded)
    require_answered(built.loaded, suites)
    require_sound_gates(built.loaded, suites)
    return _compare(ladder, built, suites) if suites else None


def _outcomes(ladder: Ladder, built: Built, report: str | None) -> Iterator[Outcome]:
    """The named models of one recipe."""
    recipe = built.loaded.recipe
    if recipe.train is None:
        yield outcome_of(built, "fetch")
        return
    for objective in recipe.train.objective:
        model = built.models[(objective, recipe.train.seeds[0])]
        merged = None
        if "merged" in recipe.serve.export and model.adapter is not None:
            export = ladder.nodes[model.adapter]
            inputs = {**export.inputs, "adapter": model.adapter}
            merged = ladder.add(Node(f"{model.name}/merge", "merge", export.config, inputs))
        for arm in arms_of(objective):
            outcome = outcome_of(built, objective, merged=merged, report=report)
            name = judged_name(model.name, objective, arm)
            yield replace(outcome, model=replace(model, name=name))


def _suites(built: Built) -> dict[str, str]:
    """Suite name to its format; `test` is the recipe's own."""
    recipe = built.loaded.recipe
    found: dict[str, str] = {}
    own = test_form(built.loaded)
    if own is not None:
        found["test"] = own
    for name in recipe.evaluate.suites:
        if name == "test":
            raise built.loaded.error("evaluate.suites.test", "is data.test; choose another name")
        found[name] = suite_source(built.loaded, name).form
    return found


def _suite(ladder: Ladder, built: Built, name: str, objective: str) -> str:
    """The Dataset node of a suite, rendered as the objective's model is asked."""
    if name == "test":
        return built.prepared[objective]
    return suite_node(ladder, built.loaded, name, built.tokenizer, objective)


def _compare(ladder: Ladder, built: Built, suites: dict[str, str]) -> str | None:
    recipe = built.loaded.recipe
    assert recipe.train is not None
    assert recipe.data is not None
    judged = _seeds(ladder, built, built, suites, "model")
    if recipe.evaluate.control is not None:
        judged += _seeds(ladder, _control(ladder, built), built, suites, "control")
    judged += _ancestors(ladder, built, suites)
    judged += [_Judged(*rung) for rung in reference_nodes(ladder, built, suites)]
    if not judged:
        return None
    inputs = {f"model{index}": item.node for index, item in enumerate(judged)}
    # Its `prepare` has compared its rows with all suites, and those with all rows below.
    for objective, node in built.prepared.items():
        inputs[f"data.{objective}"] = node
    curve = add_curve(ladder, built, suites)
    inputs |= curve.inputs
    for index, node in enumerate(risk_nodes(ladder, built, _first_suites(ladder, built, suites))):
        inputs[f"risks{index}"] = node
    trainings = list(_trainings(ladder, built))
    for index, (node, _) in enumerate(trainings):
        inputs[f"trained{index}"] = node
    names = set(suites)
    test_is_text = suites.get("test") == "text"
    config = {
        "name": recipe.name,
        "level": recipe.level,
        "models": [item.about for item in judged],
        "trainings": [about for _, about in trainings],
        "gates": [gate.model_dump(exclude_none=True) for gate in recipe.gates],
        "general": "general" if "general" in names else None,
        "domain": "domain" if "domain" in names else ("test" if test_is_text else None),
        "task": "test" if "test" in names and not test_is_text else None,
        "through_l1": "L1" in {recipe.level, *(m.level for m in built.below)},
        **({} if curve.config is None else {"curve": dict(curve.config)}),
    }
    return ladder.add(Node(f"{recipe.name}/compare", "compare", config, inputs))


def _trainings(ladder: Ladder, built: Built) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every training of the recipe and of its control: its node, and what its curves are called."""
    compared = {"model": built}
    if built.loaded.recipe.evaluate.control is not None:
        compared["control"] = _control(ladder, built)
    for role, one in compared.items():
        recipe = one.loaded.recipe
        for objective, seed in one.models:
            about = {"name": recipe.name, "objective": objective, "role": role, "seed": seed}
            yield f"{recipe.name}/train.{objective}.seed{seed}", about


def _control(ladder: Ladder, built: Built) -> Built:
    loaded = built.loaded
    control = loaded.local(loaded.recipe.evaluate.control or "")
    if not control.is_file():
        raise loaded.error("evaluate.control", f"{control.name}: no such recipe; check the path")
    if control == loaded.path:
        raise loaded.error("evaluate.control", "names this recipe itself; name its control")
    # The control is the same recipe over another base, so overrides reach it too.
    require_paired(loaded, ladder.load(control, "control"))
    return ladder.build(control, (loaded.path,))


def _seeds(
    ladder: Ladder, built: Built, asked: Built, suites: dict[str, str], role: str
) -> list[_Judged]:
    """Every trained model of ``built``, evaluated as the recipe ``asked`` says."""
    found = []
    for (objective, seed), model in built.models.items():
        if objective == "mlm":
            # An encoder has no next-token loss; what stands over it is judged by its task.
            continue
        for arm in asked_arms(objective, asked.loaded.recipe.evaluate):
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
            found.append(_Judged(item, _about(named, arm, role, seed)))
    return found


def _untrained(
    ladder: Ladder, built: Built, suites: dict[str, str], objective: str, seed: int, role: str
) -> list[_Judged]:
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
    return [_Judged(item, _about(built.start, arm, "reference", seed))]


def _first_suites(
    ladder: Ladder, built: Built, suites: dict[str, str]
) -> dict[str, dict[str, str]]:
    """Objective to the Datasets of the suites that its model is asked first, by name."""
    recipe = built.loaded.recipe
    assert recipe.train is not None
    seed = recipe.train.seeds[0]
    return {
        objective: _wanted(
            ladder, built, built, suites,
            (objective, asked_arms(objective, recipe.evaluate)[0], seed),
        )
        for objective in recipe.train.objective
        if objective != "mlm"
    }  # fmt: skip


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
        # Who chats and is asked in no other way only reads.
        if arm == "text" and form != "text" and OBJECTIVES[objective].chats:
            continue
        owner = built if name == "test" else asked
        wanted[name] = _suite(ladder, owner, name, objective)
    return wanted


def _ancestors(ladder: Ladder, built: Built, suites: dict[str, str]) -> list[_Judged]:
    """The base, the parent and the recipe's own phases on every text suite.

    Forgetting is measured against the base and the parent; a phase is told beside them.
    """
    recipe = built.loaded.recipe
    assert recipe.train is not None
    text = {
        name: _suite(ladder, built, name, recipe.train.objective[0])
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
) -> _Judged:
    """A model below, on the text suites of the recipe above it."""
    inputs = {f"suite.{name}": node for name, node in text.items()}
    node = f"{built.loaded.recipe.name}/evaluate.{label}"
    item = _evaluate(ladder, built, node, model, "text", inputs)
    return _Judged(item, _about(model, "text", role, 0))


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
