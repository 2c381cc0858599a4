"""What can be judged of a recipe: in which forms its models answer, on which suites, by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, get_args

from pipeline.core.arms import ARMS, REFERENCES
from pipeline.core.gate_bounds import OF_TEXT
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_data import Format
from pipeline.core.schema_evaluate import GateSpec
from pipeline.judgement_arms import (
    READS,
    answers_suite,
    asked_arms,
    control_arms,
    gives,
    needs_reference,
    rungs_of,
)

_MAY_DIFFER = {
    "name", "base", "revision", "trust_remote_code", "level", "evaluate", "gates", "serve",
    "export", "sweep",
}  # fmt: skip
# Metric of a gate, and the kinds of answer that it is measured of (``eval.task_figures``).
_MEASURED_OF: Mapping[str, frozenset[str]] = {
    "loss": frozenset({"text"}),
    "accuracy": frozenset({"label"}),
    "macro_f1": frozenset({"label"}),
    "micro_f1": frozenset({"label"}),
    "entity_f1": frozenset({"tags"}),
    "mae": frozenset({"value"}),
    "preference_accuracy": frozenset({"preference"}),
    "ece": frozenset({"label"}),
    "bits_per_byte": frozenset({"text"}),
}
_FORMATS: tuple[str, ...] = get_args(Format)
_KINDS = {
    **{arm: "label" for arm, info in ARMS.items() if info.chosen},
    "tagger": "tags",
    "regressor": "value",
}


def require_sound_gates(loaded: LoadedRecipe, suites: Mapping[str, str]) -> None:
    """A gate that could never be judged is refused before anything runs.

    Args:
        suites: name to format.

    Raises:
        RecipeError: with the gate's place.
    """
    recipe = loaded.recipe
    objectives = recipe.train.objective if recipe.train else ()
    asked: dict[str, tuple[str, ...]] = {
        objective: asked_arms(objective, recipe.evaluate) for objective in objectives
    }
    arms = {arm for asked_of in asked.values() for arm in asked_of}
    for index, gate in enumerate(recipe.gates):
        key = f"gates.{index}"
        if gate.suite not in suites:
            known = ", ".join(sorted(suites)) or "none; give data.test or evaluate.suites"
            raise loaded.error(f"{key}.suite", f"{gate.suite!r} is no suite here (known: {known})")
        text = suites[gate.suite] == "text"
        if gate.metric != "contamination" and text != (gate.metric in OF_TEXT):
            wanted = "a task" if text else "text"
            raise loaded.error(f"{key}.metric", f"{gate.metric} needs a suite of {wanted}")
        if gate.against == "control" and recipe.evaluate.control is None:
            raise loaded.error(
                f"{key}.against",
                "there is no control; set evaluate.control (in a recipe that is itself a control "
                "give `gates` of its own, without this one)",
            )
        _require_rung(loaded, key, gate, arms, suites[gate.suite])
        if gate.metric != "contamination":
            judged = arms if gate.arm is None else {gate.arm}
            problem = _unmeasured(gate.metric, gate.suite, suites[gate.suite], asked, judged)
            if gate.metric == "ece" and not any(ARMS[a].scores for a in judged if a in ARMS):
                problem = "an arm without scores tells no confidence; gate one that has them"
            if problem is not None:
                raise loaded.error(f"{key}.metric", problem)


def _require_rung(
    loaded: LoadedRecipe, key: str, gate: GateSpec, arms: Set[str], form: str
) -> None:
    """The arm that a gate is for, and the rung that it stands against, are measured."""
    evaluate = loaded.recipe.evaluate
    there = _with_by_products(arms)
    below = gate.against in {"base", "parent"} and gate.metric not in OF_TEXT
    if below and form != "instructions":
        raise loaded.error(
            f"{key}.against",
            f"{gate.metric} is measured against control, chance, a reference or another arm; the "
            "levels below are asked texts and instructions alone",
        )
    if gate.arm is not None and gate.arm not in there:
        known = ", ".join(sorted(there - {"text"}))
        raise loaded.error(f"{key}.arm", f"no model of this recipe is asked so (known: {known})")
    train = loaded.recipe.train
    of_control = {a for o in (train.objective if train else ()) for a in control_arms(o, evaluate)}
    if gate.against == "control" and gate.arm is not None and gate.arm not in of_control:
        raise loaded.error(
            f"{key}.arm",
            f"the control is asked in {' and '.join(sorted(of_control))} alone; take one of them",
        )
    if gate.against in REFERENCES and gate.suite != "test":
        raise loaded.error(f"{key}.against", f"{gate.against} answers suite test alone")
    if gate.against in REFERENCES and gate.against not in rungs_of(evaluate, form):
        raise loaded.error(
            f"{key}.against", f"{gate.against} is not measured; add it to evaluate.references"
        )
    if gate.against in ARMS and gate.against not in there:
        raise loaded.error(
            f"{key}.against", f"no model of this recipe is asked so; add {gate.against} to arms"
        )
    if gate.against in ARMS and gate.against == gate.arm:
        raise loaded.error(f"{key}.against", f"{gate.against} stands against itself")


def _with_by_products(arms: Set[str]) -> set[str]:
    return {*arms, *(name for name, info in ARMS.items() if info.along in arms)}


def require_answered(loaded: LoadedRecipe, suites: Mapping[str, str]) -> None:
    """A task that no model of the recipe can be asked would be missing without a word.

    Raises:
        RecipeError: names the suite.
    """
    train = loaded.recipe.train
    evaluate = loaded.recipe.evaluate
    arms = {arm for o in (train.objective if train else ()) for arm in asked_arms(o, evaluate)}
    for name, form in suites.items():
        # Heads read no documents: those are for the models that write.
        if form != "text" and arms and not any(answers_suite(arm, form) for arm in arms):
            able = sorted({one for arm in arms for one in READS.get(arm, ("text",))})
            raise loaded.error(
                f"evaluate.suites.{name}",
                f"its rows are of format {form}, and the models of this recipe answer format "
                f"{' or '.join(able)} alone; name such rows, or leave the suite out",
            )


def _unmeasured(
    metric: str, suite: str, form: str, asked: Mapping[str, Sequence[str]], arms: Set[str]
) -> str | None:
    """Why a metric is measured of no model of a recipe on a suite, or None where it is.

    Args:
        form: the suite's format.
        asked: objective to the ways in which its model is asked.
        arms: those that the gate holds for.
    """
    wanted = _MEASURED_OF[metric]
    there = {
        kind
        for objective, of_it in asked.items()
        for kind in _kinds(objective, arms & _with_by_products(set(of_it)), (form,))
    }
    if there & wanted:
        return None
    able = sorted(o for o in OBJECTIVES if _kinds(o, {*gives(o)}, _FORMATS) & wanted)
    if not set(able) & set(asked):
        return (
            f"{metric} is measured of objective {' or '.join(able)}, and this recipe trains none "
            "of them"
        )
    instead = [name for name, kinds in _MEASURED_OF.items() if kinds & there]
    told = f"there it is {' or '.join(instead)}" if instead else "nothing is measured there"
    return (
        f"{metric} is never measured on {suite}, whose rows are of format {form}: {told}; name "
        "another metric or another suite"
    )


def _kinds(objective: str, arms: Set[str], forms: Sequence[str]) -> set[str]:
    """What an objective's model answers in some arms to suites of some formats.

    Kinds are those of ``eval.record``, and ``text`` where documents are read.
    """
    found = set()
    for arm in arms:
        for form in forms:
            if form == "text":
                found |= {"text"} if OBJECTIVES[objective].writes and arm not in READS else set()
            elif needs_reference(objective, form):
                found.add("preference")
            elif answers_suite(arm, form) and arm in _KINDS:
                found.add(_KINDS[arm])
    return found


def require_paired(loaded: LoadedRecipe, other: LoadedRecipe) -> None:
    """A control that differs in more than its base would measure something else.

    Raises:
        RecipeError: names the first key that differs.
    """
    mine, theirs = loaded.recipe.model_dump(), other.recipe.model_dump()
    for section in sorted(set(mine) - _MAY_DIFFER):
        left, right = mine[section], theirs[section]
        if isinstance(left, dict) and isinstance(right, dict):
            for key in left:
                if _resolved(loaded, left[key]) != _resolved(other, right.get(key)):
                    raise loaded.error(
                        "evaluate.control",
                        f"differs in {section}.{key}; a control may differ in its base only "
                        f"(write `extends: {loaded.path.name}` in {other.path.name})",
                    )


def _resolved(loaded: LoadedRecipe, value: Any) -> Any:
    """Values with local paths made absolute, so that two folders can be compared."""
    if isinstance(value, dict):
        return {key: _resolved(loaded, inner) for key, inner in value.items()}
    if isinstance(value, str) and loaded.local(value).exists():
        return str(loaded.local(value))
    return value
