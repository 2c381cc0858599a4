"""What can be judged of a recipe: in which forms its models answer, on which suites, by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, get_args

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_data import Format

_MAY_DIFFER = {
    "name", "base", "revision", "trust_remote_code", "level", "evaluate", "gates", "serve", "sweep",
}  # fmt: skip
# A head answers rows of the format that its objective learns from.
_READS: Mapping[str, tuple[str, ...]] = {
    arm: info.forms
    for info in OBJECTIVES.values()
    if info.head and not info.writes
    for arm in info.arms
}
# Metric of a gate, and the kinds of answer that it is measured of (``eval.task_figures``).
_MEASURED_OF: Mapping[str, frozenset[str]] = {
    "loss": frozenset({"text"}),
    "accuracy": frozenset({"label"}),
    "macro_f1": frozenset({"label"}),
    "micro_f1": frozenset({"label"}),
    "entity_f1": frozenset({"tags"}),
    "mae": frozenset({"value"}),
    "preference_accuracy": frozenset({"preference"}),
}
_FORMATS: tuple[str, ...] = get_args(Format)
_KINDS = {"generative": "label", "classifier": "label", "tagger": "tags", "regressor": "value"}


def arms_of(objective: str) -> tuple[str, ...]:
    """The forms in which an objective's model is judged; ``text`` where it only reads."""
    return OBJECTIVES[objective].arms or ("text",)


def judged_name(name: str, objective: str, arm: str) -> str:
    """The name of an objective's model in one form.

    A model that writes and has a head too is two models to whoever asks: NAME and
    NAME-classifier, one set of weights.
    """
    both = OBJECTIVES[objective].writes and arm == "classifier"
    return name + OBJECTIVES["classify"].suffix if both else name


def evaluation_label(objective: str, arm: str, seed: int) -> str:
    """What an evaluate node is called after its recipe."""
    more = "" if arm == arms_of(objective)[0] else f"-{arm}"
    return f"{objective}{more}.seed{seed}"


def answers_suite(arm: str, form: str) -> bool:
    """Whether a form of answering has something to say to a suite of a format.

    Who writes may be asked anything.
    """
    return arm not in _READS or form in _READS[arm]


def needs_reference(objective: str, form: str) -> bool:
    """Whether answers are judged against the model below: pairs of a chosen and a rejected one."""
    return objective == "dpo" and form == "preference"


def require_sound_gates(loaded: LoadedRecipe, suites: Mapping[str, str]) -> None:
    """A gate that could never be judged is refused before anything runs.

    Args:
        suites: name to format.

    Raises:
        RecipeError: with the gate's place.
    """
    recipe = loaded.recipe
    objectives = recipe.train.objective if recipe.train else ()
    arms = {arm for objective in objectives for arm in arms_of(objective)}
    for index, gate in enumerate(recipe.gates):
        key = f"gates.{index}"
        if gate.suite not in suites:
            known = ", ".join(sorted(suites)) or "none; give data.test or evaluate.suites"
            raise loaded.error(f"{key}.suite", f"{gate.suite!r} is no suite here (known: {known})")
        text = suites[gate.suite] == "text"
        if gate.metric != "contamination" and text != (gate.metric == "loss"):
            wanted = "a task" if text else "text"
            raise loaded.error(f"{key}.metric", f"{gate.metric} needs a suite of {wanted}")
        if gate.against == "control" and recipe.evaluate.control is None:
            raise loaded.error(f"{key}.against", "there is no control; set evaluate.control")
        if gate.head is not None and gate.head not in arms:
            raise loaded.error(f"{key}.head", f"no objective of this recipe is {gate.head}")
        if gate.metric != "contamination":
            heads = arms if gate.head is None else {gate.head}
            problem = _unmeasured(gate.metric, gate.suite, suites[gate.suite], objectives, heads)
            if problem is not None:
                raise loaded.error(f"{key}.metric", problem)


def require_answered(loaded: LoadedRecipe, suites: Mapping[str, str]) -> None:
    """A task that no model of the recipe can be asked would be missing without a word.

    Raises:
        RecipeError: names the suite.
    """
    train = loaded.recipe.train
    arms = {arm for objective in (train.objective if train else ()) for arm in arms_of(objective)}
    for name, form in suites.items():
        # Heads read no documents: those are for the models that write.
        if form != "text" and arms and not any(answers_suite(arm, form) for arm in arms):
            able = sorted({one for arm in arms for one in _READS[arm]})
            raise loaded.error(
                f"evaluate.suites.{name}",
                f"its rows are of format {form}, and the models of this recipe answer format "
                f"{' or '.join(able)} alone; name such rows, or leave the suite out",
            )


def _unmeasured(
    metric: str, suite: str, form: str, objectives: Sequence[str], arms: Set[str]
) -> str | None:
    """Why a metric is measured of no model of a recipe on a suite, or None where it is.

    Args:
        form: the suite's format.
        arms: the forms of answering that the gate holds for.
    """
    wanted = _MEASURED_OF[metric]
    there = {kind for objective in objectives for kind in _kinds(objective, arms, (form,))}
    if there & wanted:
        return None
    able = sorted(o for o in OBJECTIVES if _kinds(o, set(arms_of(o)), _FORMATS) & wanted)
    if not set(able) & set(objectives):
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
    """What an objective's model answers in some forms of answering to suites of some formats.

    Kinds are those of ``eval.record``, and ``text`` where documents are read.
    """
    found = set()
    for arm in arms & set(arms_of(objective)):
        for form in forms:
            if form == "text":
                found |= {"text"} if OBJECTIVES[objective].writes and arm not in _READS else set()
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
