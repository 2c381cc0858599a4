"""In which ways a recipe's models are asked, and on which suites; knows no torch."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.core.arms import ARMS
from pipeline.core.objectives import OBJECTIVES
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.schema_evaluate import Evaluate

LEARNED = ("tfidf_bayes", "tfidf_logreg", "nearest")
"""Rungs that learn labels from the rows of train."""
PROMPTED = ("zero_shot", "few_shot", "retrieved")
"""Rungs that ask the base."""
OPEN = (
    "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer", "instructions",
)  # fmt: skip
"""Formats whose answers are open."""


# A head answers rows of the format that its objective learns from, and who is told the labels
# rows that have some.
READS: Mapping[str, tuple[str, ...]] = {
    arm: info.forms
    for info in OBJECTIVES.values()
    if info.head and not info.writes
    for arm in info.arms
} | {arm: ("classification",) for arm, info in ARMS.items() if info.labels}
# What is asked of an objective's model beside its own arms, where the recipe names it.
_MORE: Mapping[str, tuple[str, ...]] = {
    "sft": ("constrained", "likelihood"),
    "dpo": ("constrained", "likelihood"),
    "hybrid": ("constrained", "likelihood"),
    "channel": ("joint", "joint_untrained"),
}


def arms_of(objective: str) -> tuple[str, ...]:
    """An objective's own ways of being asked; ``text`` where its model only reads."""
    return OBJECTIVES[objective].arms or ("text",)


def gives(objective: str) -> tuple[str, ...]:
    """Every way in which an objective's model can be asked."""
    return (*arms_of(objective), *_MORE.get(objective, ()))


def asked_arms(objective: str, evaluate: Evaluate) -> tuple[str, ...]:
    """The ways in which an objective's model is asked, as a recipe says.

    A model that writes and is asked in no other way still reads texts: what it forgot is
    measured whatever the arms.
    """
    own = arms_of(objective)
    if evaluate.arms is None:
        return own
    fixed = [arm for arm in own if not ARMS[arm].chosen]
    chosen = [arm for arm in gives(objective) if arm in evaluate.arms]
    if not fixed and "generate" in own and "generate" not in chosen:
        fixed = ["text"]
    return (*fixed, *chosen)


def control_arms(objective: str, evaluate: Evaluate) -> tuple[str, ...]:
    """The ways in which a control is asked: whether a level helps is asked of each form once."""
    asked = asked_arms(objective, evaluate)
    return tuple(arm for arm in asked if arm in arms_of(objective)) or asked[:1]


def page_arms(objective: str, evaluate: Evaluate) -> tuple[str, ...]:
    """The ways in which the risk pages of an objective's named models ask, one for each model.

    A head by itself; who writes in the first way that answers with a label, as the recipe asks it,
    else as a reader.
    """
    asked, found = asked_arms(objective, evaluate), []
    for own in arms_of(objective):
        if ARMS[own].form == "discriminative":
            found.append(own)
            continue
        labelled = [arm for arm in asked if ARMS[arm].chosen and ARMS[arm].form == "generative"]
        # An untrained channel is not the model.
        trained = [arm for arm in labelled if arm != "joint_untrained"]
        found.append(next(iter(trained), own if own in asked else "text"))
    return tuple(found)


def require_asked(loaded: LoadedRecipe) -> None:
    """An arm that no objective of the recipe answers in would be missing without a word.

    Raises:
        RecipeError: names the arm and the objectives that have it.
    """
    train, evaluate = loaded.recipe.train, loaded.recipe.evaluate
    there = {a for o in (train.objective if train else ()) for a in asked_arms(o, evaluate)}
    for arm in evaluate.arms or ():
        if arm not in there:
            able = sorted(o for o in OBJECTIVES if arm in gives(o))
            raise loaded.error(
                "evaluate.arms",
                f"{arm} is a way of asking what objective {' or '.join(able)} trains, and this "
                "recipe trains none of them; add it, or leave the arm out",
            )


def judged_name(name: str, objective: str, arm: str) -> str:
    """The name of an objective's model in one form.

    A model that writes and has a head too is two models to whoever asks: NAME and
    NAME-classifier, one set of weights.
    """
    both = OBJECTIVES[objective].writes and arm == "classifier"
    return name + OBJECTIVES["classify"].suffix if both else name


def evaluation_label(objective: str, arm: str, seed: int) -> str:
    """What an evaluate node is called after its recipe."""
    more = "" if arm in {arms_of(objective)[0], "text"} else f"-{arm}"
    return f"{objective}{more}.seed{seed}"


def answers_suite(arm: str, form: str) -> bool:
    """Whether an arm has something to say to a suite of a format.

    Who writes freely may be asked anything.
    """
    return arm not in READS or form in READS[arm]


def needs_reference(objective: str, form: str) -> bool:
    """Whether answers are judged against the model below: pairs of a chosen and a rejected one."""
    return objective == "dpo" and form == "preference"


def rungs_of(evaluate: Evaluate, form: str | None) -> tuple[str, ...]:
    """The rungs of a recipe whose own test rows are of that format."""
    if evaluate.references is not None:
        return evaluate.references
    if form == "classification":
        return (*LEARNED, "zero_shot", "few_shot")
    return PROMPTED if form in OPEN and form != "instructions" else ()
