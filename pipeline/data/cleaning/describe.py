"""The cleaning steps of a recipe in plain words, for the funnel's page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.cleaning.finders import ENTITIES

_REPORTED = {"report": "reported", "drop": "the row is dropped", "remove": "taken out"}


def describe(settings: Mapping[str, Any]) -> list[str]:
    """One line for each step that is on, in the order in which they run.

    Args:
        settings: ``Clean.model_dump()``.
    """
    return [*_characters(settings), *_defects(settings), *_bounds(settings), *_judged(settings)]


def _characters(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    if settings["unicode"]:
        lines.append(f"unicode: normalised to {settings['unicode']}")
    if settings["html"]:
        lines.append("html: entities decoded, tags and scripts taken out; code is left alone")
    if settings["control_characters"]:
        lines.append(
            "control_characters: control and invisible characters taken out, those apart that a "
            "script or an emoji needs"
        )
    lines.append(f"damaged: characters that stand for lost bytes: {_REPORTED[settings['damaged']]}")
    if settings["whitespace"]:
        lines.append("whitespace: runs of blanks to one, at most one empty line; indentation stays")
    return lines


def _defects(settings: Mapping[str, Any]) -> list[str]:
    action = _REPORTED[settings["unfilled_fields"]]
    lines = [f"unfilled_fields: fields like {{{{name}}}}: {action}"]
    personal = settings.get("personal_data")
    if personal:
        kinds = ", ".join(personal["entities"] or ENTITIES)
        action = {"redact": "replaced by its kind", **_REPORTED}[personal["action"]]
        lines.append(
            f"personal_data: {kinds} with a score of at least {personal['least_score']:g}: {action}"
        )
    return lines


def _bounds(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    if settings["min_characters"] is not None:
        lines.append(f"min_characters: rows under {settings['min_characters']} are dropped")
    if settings["max_characters"] is not None:
        lines.append(f"max_characters: rows over {settings['max_characters']} are dropped")
    return lines


def _judged(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    language = settings.get("language")
    if language:
        lines.append(
            f"language: rows that are not {' or '.join(language['keep'])} with a probability of "
            f"{language['least_probability']:g} are dropped; those under "
            f"{language['least_characters']} characters are kept unjudged"
        )
    if "gopher" in settings["quality"]:
        lines.append("quality: gopher: Rae et al. 2021, appendix A.1.1; on documents only")
    if "c4" in settings["quality"]:
        lines.append("quality: c4: Raffel et al. 2020, section 2.2; on documents only")
    return lines
