"""The part of a plan that judges: evaluations of a recipe, its ancestors and its control."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.bundle_plan import bundle_node
from pipeline.core.default_suites import DOCSTRINGS, GENERAL
from pipeline.core.objectives import OBJECTIVES
from pipeline.curve_plan import add_curve
from pipeline.data_sources import suite_source, test_form
from pipeline.evaluations import (
    Judged,
    ancestor_evaluations,
    dataset_of,
    page_suites,
    seed_evaluations,
)
from pipeline.export_plan import export_node
from pipeline.judged_beside import generated_nodes, reference_nodes, risk_nodes
from pipeline.judgement_arms import (
    arms_of,
    judged_name,
    require_asked,
)
from pipeline.judgement_rules import require_answered, require_paired, require_sound_gates
from pipeline.plan import Built, Node, Outcome, outcome_of
from pipeline.servable import serving_notes

if TYPE_CHECKING:
    from pipeline.ladder import Ladder


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
    if recipe.export is not None:
        outcomes[0] = replace(outcomes[0], export=export_node(ladder, built, deciding))
    others = list(built.ancestors)
    if recipe.evaluate.control is not None:
        others.append(_control(ladder, built))
    for other in others:
        outcomes += _outcomes(ladder, other, reports.get(other.loaded.recipe.name))
    return tuple(outcomes), deciding


def _report(ladder: Ladder, built: Built) -> str | None:
    suites = _suites(built)
    if built.loaded.recipe.evaluate.arms and not {*suites.values()} - {"text", "instructions"}:
        raise built.loaded.error(
            "evaluate.arms", "are ways of asking a task, and there is none; give data.test"
        )
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
        if name in {"test", "validation", "train"}:
            key = f"evaluate.suites.{name}"
            raise built.loaded.error(key, f"is data.{name}; choose another name")
        found[name] = suite_source(built.loaded, name).form
    return found


def _compare(ladder: Ladder, built: Built, suites: dict[str, str]) -> str | None:
    recipe = built.loaded.recipe
    assert recipe.train is not None
    assert recipe.data is not None
    judged = seed_evaluations(ladder, built, built, suites, "model")
    if recipe.evaluate.control is not None:
        judged += seed_evaluations(ladder, _control(ladder, built), built, suites, "control")
    judged += ancestor_evaluations(ladder, built, suites)
    judged += [Judged(*rung) for rung in reference_nodes(ladder, built, suites)]
    if not judged:
        return None
    inputs = {f"model{index}": item.node for index, item in enumerate(judged)}
    # Its `prepare` has compared its rows with all suites, and those with all rows below.
    for objective, node in built.prepared.items():
        inputs[f"data.{objective}"] = node
    curve = add_curve(ladder, built, suites)
    inputs |= curve.inputs
    pages = page_suites(ladder, built, suites)
    for index, node in enumerate(risk_nodes(ladder, built, pages)):
        inputs[f"risks{index}"] = node
    of_writers: dict[str, dict[str, str]] = {
        objective: {name: dataset_of(ladder, built, name, objective) for name in suites}
        for objective in recipe.train.objective
        if OBJECTIVES[objective].writes and objective != "channel"
    }
    for index, node in enumerate(generated_nodes(ladder, built, suites, of_writers)):
        inputs[f"generated{index}"] = node
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
        "general": next((name for name in (GENERAL, DOCSTRINGS) if name in names), None),
        "domain": "domain" if "domain" in names else ("test" if test_is_text else None),
        "task": "test" if "test" in names and not test_is_text else None,
        "margin": recipe.evaluate.margin,
        "confidence_bins": recipe.evaluate.confidence_bins,
        "target_precision": list(recipe.evaluate.target_precision),
        "through_l1": "L1" in {recipe.level, *(m.level for m in built.below)},
        **({} if recipe.licence is None else {"licence": recipe.licence}),
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
    found = ladder.build(control, (loaded.path,))
    # It is judged and never served: that it is not would be said twice in every plan.
    unserved = serving_notes(found.loaded)
    ladder.notes = [note for note in ladder.notes if note not in unserved]
    return found
