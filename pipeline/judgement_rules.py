"""What can be judged of a recipe: in which forms its models answer, on which suites, by what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe

_MAY_DIFFER = {
    "name", "base", "revision", "trust_remote_code", "level", "evaluate", "gates", "serve", "sweep",
}  # fmt: skip
_HEADS = {"classifier", "tagger", "regressor"}
_LABELS = frozenset({"generative", "classifier"})
# Metric of a gate on a task, and the forms of answering that it is measured of.
_MEASURED_OF: Mapping[str, frozenset[str]] = {
    "accuracy": _LABELS,
    "macro_f1": _LABELS,
    "micro_f1": frozenset({"classifier"}),
    "entity_f1": frozenset({"tagger"}),
    "mae": frozenset({"regressor"}),
    "preference_accuracy": frozenset({"generative"}),
}


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
    """Whether a form of answering has something to say to a suite of a format."""
    return form != "text" or arm not in _HEADS


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
    arms = {a for o in (recipe.train.objective if recipe.train else ()) for a in arms_of(o)}
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
        fit = _MEASURED_OF.get(gate.metric)
        if fit is not None and not fit & arms:
            objectives = sorted(o for o in OBJECTIVES if fit & set(arms_of(o)))
            raise loaded.error(
                f"{key}.metric",
                f"{gate.metric} is measured of objective {' or '.join(objectives)}, and this "
                "recipe trains none of them",
            )


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
