"""What of a recipe's rows does not go together, told before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.core.objectives import OBJECTIVES, OF_HEADS_ALONE

POLICIES = ("drop", "truncate-left", "truncate-right", "split")
_CUTS = ("truncate-left", "truncate-right", "split")
_FORMS: Mapping[str, tuple[str, ...]] = {
    info.render: info.forms for info in OBJECTIVES.values() if info.forms
}
_PLACES = (
    "entities stand at places of a text, and other words have other places; leave augment out for "
    "format tagging"
)
_NO_COLUMNS = (
    "rows that a model makes have no columns for data.features; leave one of the two out, or give "
    "features by pattern"
)
_CHANGES = (
    "changes texts, and the entities of format tagging stand at their characters; clean the rows "
    "before they get entities, or leave it out"
)
_OTHERWISE = {"damaged": " (report, drop)", "personal_data": " (report, drop)"}
_NOT_LEARNED = (
    "instructions: its rows say how an answer is checked and hold none to learn from; name them "
    "under evaluate.suites"
)
_TEXT_STEPS = ("unicode", "html", "control_characters", "whitespace")


def over_length_problem(render: str, policy: str) -> str | None:
    """Why rows of a render cannot be brought to length that way, or None."""
    if policy not in _CUTS:
        return None
    if render == "preference":
        return (
            f"{policy} would cut one of two answers to a prompt, or the prompt of one; "
            "set error or drop"
        )
    if render == "hybrid":
        return f"{policy} would cut the question that the head reads whole; set error or drop"
    if render == "channel" and policy != "truncate-right":
        return (
            f"{policy} would leave texts without the label that stands before them; "
            "set error, drop or truncate-right"
        )
    return None


def misfit(render: str, objective: str, config: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first key of a recipe that does not go with its objective or its formats, and why.

    Args:
        config: of `prepare`: sources, clean, over_length.
    """
    return next(_misfits(render, objective, config), None)


def _misfits(render: str, objective: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key, source in _sources(config["sources"]):
        problem = form_problem(render, objective, key, str(source["format"]))
        if problem is not None:
            yield f"{key}.format", problem
    problem = over_length_problem(render, config["over_length"])
    if problem is not None:
        yield "train.over_length", f"objective {objective}: {problem}"
    train = config["sources"]["train"]
    forms = {source["format"] for source in train}
    if any(source.get("made") for source in train):
        if "tagging" in forms:
            yield "data.augment", _PLACES
        if any("column" in spec for spec in config["features"]):
            yield "data.augment", _NO_COLUMNS
    yield from _clean_problems(forms, config["clean"])


def _clean_problems(forms: set[str], clean: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "tagging" in forms:
        for step in (*_TEXT_STEPS, "damaged", "personal_data"):
            if _changes_text(step, clean[step]):
                yield f"data.clean.{step}", _CHANGES + _OTHERWISE.get(step, "")
    told = sorted(forms & OF_HEADS_ALONE.keys())
    if told and clean["label_errors"] is not None:
        yield "data.clean.label_errors", f"looks at classes, and format {told[0]} has none"
    if told and clean["balance"]["action"] != "report":
        yield "data.clean.balance", f"caps or weighs classes, and format {told[0]} has none"


def _changes_text(step: str, value: Any) -> bool:
    if step == "damaged":
        return bool(value == "remove")
    if step == "personal_data":
        return value is not None and bool(value["action"] == "redact")
    return bool(value)


def form_problem(render: str, objective: str, key: str, form: str) -> str | None:
    """Why an objective cannot take rows of a format, or None.

    Args:
        key: of the source; what a test is asked may differ from what is learned.
    """
    if form == "instructions" and not key.startswith(("data.test", "evaluate.")):
        return _NOT_LEARNED
    fitting = _FORMS.get(render)
    # A model that learned from preferences writes answers, and may be asked anything.
    if render == "preference" and key == "data.test" and form not in OF_HEADS_ALONE:
        return None
    if form == "canonical" or (fitting is not None and form in fitting):
        return None
    owner = OF_HEADS_ALONE.get(form)
    if fitting is None and (owner is None or render == "text"):
        return None
    learns = "cannot learn from it" if fitting is None else f"learns from format {fitting[0]}"
    remedy = (
        "name such rows, or another objective"
        if owner is None
        else f"name objective {owner}, or rows of another format"
    )
    return f"{form}: objective {objective} {learns}; {remedy}"


def _sources(sources: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, given in sources.items():
        if isinstance(given, Sequence):
            for number, source in enumerate(given):
                yield f"data.{name}.{number}" if len(given) > 1 else f"data.{name}", source
        else:
            yield f"data.{name}", given
