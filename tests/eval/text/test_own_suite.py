"""Our own checkable prompts: readable, in IFEval's form, and each can be answered rightly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from eval.text.instructions import Checks
from pipeline.core.errors import DataError
from pipeline.data.formats import converter
from pipeline.data.formats.instructions import CHECKED
from pipeline.data.generators import generate
from pipeline.data.generators.checkable_instructions import clash
from pipeline.data.generators.checkable_instructions import generate as make

Row = Mapping[str, Any]
SPOKEN = {
    "en": "we went home early because the day was long and the rain did not stop",
    "de": "wir gehen heute schon wieder nach Hause weil es regnet",
    "fr": "nous rentrons à la maison parce que la pluie tombe encore",
    "es": "hoy volvemos a casa porque la lluvia no para nunca",
    "it": "oggi torniamo a casa perché la pioggia non smette mai",
    "pt": "hoje voltamos para casa porque a chuva não para então não saímos",
    "ru": "сегодня мы идём домой потому что дождь всё ещё идёт",
}


def rows(seed: int = 0) -> list[dict[str, Any]]:
    return [dict(row) for row in generate("checkable_instructions", "test", seed)]


def answered(row: Row) -> str:
    """A right answer, put together by hand: no model and none of the checks is asked."""
    told = dict(zip(row["instruction_id_list"], row["kwargs"], strict=True))
    if "detectable_format:json_format" in told:
        return '{"a": 1}'
    if "detectable_format:constrained_response" in told:
        return "My answer is no."
    if "combination:repeat_prompt" in told:
        return f"{told['combination:repeat_prompt']['prompt_to_repeat']} Well."
    text = _parted(told, _pieces(told, _unit(told)))
    if "detectable_content:postscript" in told:
        text += f"\n{told['detectable_content:postscript']['postscript_marker']} bye"
    if "startend:end_checker" in told:
        text += f" {told['startend:end_checker']['end_phrase']}"
    if "startend:quotation" in told:
        text = f'"{text}"'
    if "change_case:english_capital" in told:
        return text.upper()
    return text.lower() if "change_case:english_lowercase" in told else text


def _unit(told: Mapping[str, Row]) -> str:
    language = told.get("language:response_language", {}).get("language", "en")
    unit, sentences, words = SPOKEN[language], 1, 0
    asked = told.get("length_constraints:number_sentences")
    if asked is not None and asked["relation"] == "less than":
        return unit
    if asked is not None:
        sentences = asked["num_sentences"]
    asked = told.get("length_constraints:number_words")
    if asked is not None and asked["relation"] == "at least":
        words = asked["num_words"]
    return " ".join([f"{unit}."] * max(sentences, words // len(unit.split()) + 1))


def _pieces(told: Mapping[str, Row], unit: str) -> list[str]:
    parts = 1
    for name, key in (("length_constraints:number_paragraphs", "num_paragraphs"),
                      ("length_constraints:nth_paragraph_first_word", "num_paragraphs"),
                      ("detectable_format:multiple_sections", "num_sections")):  # fmt: skip
        parts = told[name][key] if name in told else parts
    parts = 2 if "combination:two_responses" in told else parts
    more: list[str] = list(told.get("keywords:existence", {}).get("keywords", ()))
    asked = told.get("keywords:frequency", {})
    if asked.get("relation") == "at least":
        more += [asked["keyword"]] * asked["frequency"]
    asked = told.get("keywords:letter_frequency", {})
    if asked.get("let_relation") == "at least":
        more.append(asked["letter"] * asked["let_frequency"])
    asked = told.get("change_case:capital_word_frequency", {})
    if asked.get("capital_relation") == "at least":
        more += ["AB"] * asked["capital_frequency"]
    more += ["[a]"] * told.get("detectable_content:number_placeholders", {}).get(
        "num_placeholders", 0
    )
    more += ["*a*"] * told.get("detectable_format:number_highlighted_sections", {}).get(
        "num_highlights", 0
    )
    more += ["<<a>>"] if "detectable_format:title" in told else []
    more += ["\n* a"] * told.get("detectable_format:number_bullet_lists", {}).get("num_bullets", 0)
    short = unit if parts == 1 else SPOKEN["en"][:21] if "we went" in unit else unit
    return [" ".join([unit, *more]), *(f"{short} ab" for _ in range(parts - 1))]


def _parted(told: Mapping[str, Row], pieces: Sequence[str]) -> str:
    asked = told.get("length_constraints:nth_paragraph_first_word")
    if asked is not None:
        place = asked["nth_paragraph"] - 1
        return "\n\n".join(
            f"{asked['first_word']} {piece}" if i == place else piece
            for i, piece in enumerate(pieces)
        )
    asked = told.get("detectable_format:multiple_sections")
    if asked is not None:
        word = asked["section_spliter"]
        return "\n".join(f"{word} {i}\n{piece}" for i, piece in enumerate(pieces, 1))
    mark = "\n******\n" if "combination:two_responses" in told else "\n***\n"
    return mark.join(pieces)


@pytest.mark.parametrize("seed", range(6))
def test_every_prompt_can_be_answered_so_that_all_its_instructions_are_followed(seed: int) -> None:
    for row in rows(seed):
        checks = Checks(tuple(row["instruction_id_list"]), tuple(row["kwargs"]))
        text = answered(row)
        verdicts = dict(zip(checks.names, checks.strict(text), strict=True))
        assert all(verdicts.values()), (row["prompt"], text, verdicts)


def test_all_of_ifevals_instructions_are_asked_at_least_eight_times() -> None:
    asked = Counter(name for row in rows() for name in row["instruction_id_list"])
    assert asked.keys() == CHECKED.keys()
    assert min(asked.values()) >= 8
    assert len(rows()) == 200
    assert {len(row["kwargs"]) for row in rows()} == {1, 2, 3}


def test_prompts_say_what_their_checks_want_and_no_two_are_alike() -> None:
    made = rows()
    assert len({row["prompt"] for row in made}) == len(made)
    for row in made:
        assert not re.search(r"[{}]|  ", row["prompt"])
        for values in row["kwargs"]:
            for key, value in values.items():
                shown = value if isinstance(value, list) else [value]
                if key != "language":
                    assert all(str(one) in row["prompt"] for one in shown), row["prompt"]


def test_instructions_that_clash_never_meet() -> None:
    for row in rows():
        names = row["instruction_id_list"]
        assert not any(clash(a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    assert clash("change_case:english_capital", "change_case:english_lowercase")
    assert clash("punctuation:no_comma", "punctuation:no_comma")
    assert not clash("punctuation:no_comma", "startend:quotation")


def test_a_suite_is_mostly_not_followed_by_saying_the_same_thing_always() -> None:
    said = "Well, it is a nice day."
    followed = [
        all(Checks(tuple(row["instruction_id_list"]), tuple(row["kwargs"])).strict(said))
        for row in rows()
    ]
    assert sum(followed) < 0.15 * len(followed)


def test_rows_are_read_by_the_format_and_another_part_is_refused() -> None:
    convert = converter("instructions", columns={}, prompt=None, keep=())
    assert all(len(convert(row)["messages"]) == 2 for row in rows())
    with pytest.raises(DataError, match="part 'train' does not exist; use test"):
        make("train", 0)
