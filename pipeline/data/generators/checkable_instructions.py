"""Prompts whose answers a program can check, in the form of IFEval (Zhou et al. 2023).

All text is our own: everyday things to write about, and one to three instructions for each, in
several wordings. Instructions that could not be followed together never meet.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from pipeline.core.errors import DataError
from pipeline.data.generators.instruction_wordings import LANGUAGES, OPENINGS, SUBJECTS, WORDINGS

# Prompts that open with each kind of instruction; others may stand beside it.
_EACH = 8
_MOST = 3
_WORDS = (
    "morning", "window", "water", "simple", "garden", "careful", "letter", "bridge", "gentle",
    "season",
)  # fmt: skip
_FIRST = ("later", "perhaps", "nobody", "every", "when")
_ENDINGS = ("That is all for today.", "Tell me if you need more.", "I hope this helps.")
_COMMON, _RARE = "aeinorst", "jqxz"

# They shape the whole answer, or say that nothing else stands in it.
_ALONE = frozenset(
    {
        "detectable_format:constrained_response", "detectable_format:json_format",
        "combination:repeat_prompt",
    }
)  # fmt: skip
_APART = (
    # What parts the answer, or stands around all of it.
    {
        "combination:two_responses", "startend:quotation", "length_constraints:number_paragraphs",
        "length_constraints:nth_paragraph_first_word", "detectable_format:multiple_sections",
        "detectable_format:title",
    },
    {
        "change_case:english_capital", "change_case:english_lowercase",
        "change_case:capital_word_frequency", "language:response_language",
    },
    {"length_constraints:number_words", "length_constraints:number_sentences"},
    {"startend:end_checker", "detectable_content:postscript", "startend:quotation"},
    # All of them count asterisks.
    {
        "detectable_format:number_bullet_lists", "detectable_format:number_highlighted_sections",
        "length_constraints:number_paragraphs", "combination:two_responses",
    },
    {"keywords:existence", "keywords:frequency", "keywords:forbidden_words"},
)  # fmt: skip
# Letters or a language on one side, words that are given in English on the other.
_SPOKEN = _APART[1]
_WORDED = {
    "startend:end_checker", "detectable_content:postscript", "keywords:existence",
    "keywords:frequency", "keywords:forbidden_words", "keywords:letter_frequency",
    "detectable_format:multiple_sections", "length_constraints:nth_paragraph_first_word",
}  # fmt: skip


def generate(part: str, seed: int) -> list[dict[str, object]]:
    """Rows ``{"id", "key", "prompt", "instruction_id_list", "kwargs"}``, eight for each kind.

    Args:
        part: ``test``, the only one: what is asked here is not learned.
        seed: chooses subjects, instructions and wordings.

    Raises:
        DataError: no such part.
    """
    if part != "test":
        raise DataError(f"checkable_instructions: part {part!r} does not exist; use test")
    rng = random.Random(f"checkable_instructions/{part}/{seed}")
    requests = [opening.format(subject=subject) for opening in OPENINGS for subject in SUBJECTS]
    rng.shuffle(requests)
    names = [name for name in WORDINGS for _ in range(_EACH)]
    return [
        _row(number, name, request, rng)
        for number, (name, request) in enumerate(zip(names, requests, strict=False))
    ]


def clash(one: str, other: str) -> bool:
    """Whether two instructions must not meet in one prompt."""
    pair = {one, other}
    return (
        len(pair) == 1
        or bool(pair & _ALONE)
        or any(pair <= group for group in _APART)
        or bool(pair & _SPOKEN and pair & _WORDED)
    )


def _row(number: int, name: str, request: str, rng: random.Random) -> dict[str, object]:
    chosen, wanted = [name], rng.randint(1, _MOST)
    for other in rng.sample(sorted(WORDINGS), len(WORDINGS)):
        if len(chosen) < wanted and not any(clash(one, other) for one in chosen):
            chosen.append(other)
    told = [_told(one, request, rng) for one in chosen]
    asked = [
        rng.choice(WORDINGS[one]).format(**_shown(values))
        for one, values in zip(chosen, told, strict=True)
    ]
    return {
        "id": str(number),
        "key": number,
        "prompt": " ".join([request, *asked]),
        "instruction_id_list": chosen,
        "kwargs": told,
    }


def _told(name: str, request: str, rng: random.Random) -> dict[str, object]:
    """What an instruction has to be told, within what a short answer can keep."""
    relation = rng.choice(("less than", "at least"))
    few, more = rng.randint(2, 4), rng.randint(3, 6)
    paragraphs = rng.randint(2, 4)
    rare = relation == "less than"
    found: Mapping[str, dict[str, object]] = {
        "keywords:existence": {"keywords": rng.sample(_WORDS, 2)},
        "keywords:frequency": {"keyword": rng.choice(_WORDS), "frequency": few,
                               "relation": relation},
        "keywords:forbidden_words": {"forbidden_words": rng.sample(_WORDS, 2)},
        "keywords:letter_frequency": {
            "letter": rng.choice(_RARE if rare else _COMMON),
            "let_frequency": few if rare else 3 * more, "let_relation": relation,
        },
        "language:response_language": {"language": rng.choice(sorted(LANGUAGES))},
        "length_constraints:number_sentences": {"num_sentences": more, "relation": relation},
        "length_constraints:number_paragraphs": {"num_paragraphs": paragraphs},
        "length_constraints:number_words": {"num_words": 20 * more, "relation": relation},
        "length_constraints:nth_paragraph_first_word": {
            "num_paragraphs": paragraphs, "nth_paragraph": rng.randint(1, paragraphs),
            "first_word": rng.choice(_FIRST),
        },
        "detectable_content:number_placeholders": {"num_placeholders": few},
        "detectable_content:postscript": {"postscript_marker": rng.choice(("P.S.", "P.P.S"))},
        "detectable_format:number_bullet_lists": {"num_bullets": few},
        "detectable_format:number_highlighted_sections": {"num_highlights": few},
        "detectable_format:multiple_sections": {
            "section_spliter": rng.choice(("Section", "PART", "Step")), "num_sections": few,
        },
        "combination:repeat_prompt": {"prompt_to_repeat": request},
        "startend:end_checker": {"end_phrase": rng.choice(_ENDINGS)},
        "change_case:capital_word_frequency": {
            "capital_frequency": few, "capital_relation": relation,
        },
    }  # fmt: skip
    return found.get(name, {})


def _shown(values: Mapping[str, object]) -> dict[str, object]:
    """What fills a wording's slots: lists as people write them, languages by their names."""
    shown: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, list):
            shown[key] = " and ".join(f'"{word}"' for word in value)
        else:
            shown[key] = LANGUAGES[str(value)] if key == "language" else value
    return shown
