"""Prompts whose answers are checked by program, as IFEval has them (Zhou et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.data.formats.chats import chat_row
from pipeline.data.formats.fields import Fields, plain, shape
from pipeline.data.rows import Row, RowProblem

CHECKED: Mapping[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:frequency": ("keyword", "frequency", "relation"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_frequency", "let_relation"),
    "language:response_language": ("language",),
    "length_constraints:number_sentences": ("num_sentences", "relation"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("num_words", "relation"),
    "length_constraints:nth_paragraph_first_word": (
        "num_paragraphs", "nth_paragraph", "first_word",
    ),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:constrained_response": (),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "detectable_format:json_format": (),
    "detectable_format:title": (),
    "combination:two_responses": (),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
    "startend:quotation": (),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation"),
    "change_case:english_capital": (),
    "change_case:english_lowercase": (),
    "punctuation:no_comma": (),
}  # fmt: skip
"""IFEval's instructions and what each has to be told."""

_KEY = "instruction_id_list"
RELATIONS = ("less than", "at least")
_LISTS = frozenset({"keywords", "forbidden_words"})
_TEXTS = frozenset(
    {
        "keyword", "letter", "language", "first_word", "postscript_marker", "section_spliter",
        "prompt_to_repeat", "end_phrase",
    }
)  # fmt: skip
_RELATED = frozenset({"relation", "let_relation", "capital_relation"})


def instructions_row(fields: Fields, prompt: str | None) -> Row:
    """``prompt``, ``instruction_id_list`` and ``kwargs`` (google/IFEval's own columns).

    The answer of the canonical row is no answer but what one is checked by, as JSON: such rows
    are asked and never learned.
    """
    names, given = fields.need(_KEY), fields.need("kwargs")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise RowProblem("instruction_id_list is no list of names")
    if not isinstance(given, list) or len(given) != len(names):
        raise RowProblem(f"kwargs are not one object for each of {len(names)} instructions")
    told = [_told(name, values) for name, values in zip(names, given, strict=True)]
    checks = json.dumps({_KEY: names, "kwargs": told}, ensure_ascii=False)
    return chat_row(
        fields,
        [
            {"role": "user", "content": fields.text("prompt")},
            {"role": "assistant", "content": checks},
        ],
    )


def is_checks(answer: object) -> bool:
    """Whether what stands in an answer's place is what one is checked by."""
    return isinstance(answer, str) and answer.startswith(f'{{"{_KEY}":')


def _told(name: str, values: Any) -> dict[str, Any]:
    """What one instruction needs; what a table fills in beside it (null, or 0) is left out."""
    if name not in CHECKED:
        raise RowProblem(f"no instruction {name[:60]!r}")
    if values is not None and not isinstance(values, dict):
        raise RowProblem(f"kwargs hold {shape(values)}, not an object")
    found = {}
    for key in CHECKED[name]:
        value = plain((values or {}).get(key), key)
        if isinstance(value, float) and value.is_integer():
            # A table with nulls holds whole numbers as fractions.
            value = int(value)
        if not _fits(key, value):
            raise RowProblem(f"{name} needs {key} ({_wanted(key)})")
        found[key] = value
    return found


def _fits(key: str, value: Any) -> bool:
    if key in _LISTS:
        words = value if isinstance(value, list) else []
        return bool(words) and all(isinstance(word, str) and word.strip() for word in words)
    if key in _RELATED:
        return value in RELATIONS
    if key in _TEXTS:
        return isinstance(value, str) and bool(value.strip())
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _wanted(key: str) -> str:
    if key in _LISTS:
        return "a list of words"
    if key in _RELATED:
        return " or ".join(RELATIONS)
    return "text" if key in _TEXTS else "a whole number"
