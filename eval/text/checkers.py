"""Whether a text follows an instruction that a program can check (IFEval; Zhou et al. 2023).

Each checker decides as IFEval's own does, its oddities included: keywords count inside longer
words, and a heading counts wherever its word stands before a number. Two differ for want of
downloaded models: the language is py3langid's word for langdetect's, and sentences end by the
rule of ``eval.text.sentences`` where IFEval asks NLTK's Punkt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval.text.sentences import count_sentences
from pipeline.core.errors import DataError
from pipeline.data.formats.instructions import CHECKED

Told = Mapping[str, Any]
Checker = Callable[[str, Told], bool]

_YES_NO = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
# As NLTK's Treebank words: cut at these, and DON'T is DO and N'T.
_BETWEEN = re.compile(r"\s+|[;@#$%&?!()\[\]{}<>\"]|--|[,:](?!\d)")
_SHORT_FORM = re.compile(r"(.+?)(n't|'(?:s|m|d|ll|re|ve))", re.IGNORECASE)
_FENCE = re.compile(r"^```(?:json|Json|JSON)?|```$")


def follows(instruction: str, told: Told, text: str) -> bool:
    """Whether a text follows one instruction; a text without words follows none.

    Raises:
        DataError: no such instruction.
    """
    checker = CHECKERS.get(instruction)
    if checker is None:
        raise DataError(
            f"instruction {instruction!r}: cannot be checked; use one of {', '.join(CHECKED)}"
        )
    return bool(text.strip()) and checker(text, told)


def _related(count: int, relation: str, wanted: int) -> bool:
    return count < wanted if relation == "less than" else count >= wanted


def _found(word: str, text: str) -> int:
    return len(re.findall(re.escape(word), text, re.IGNORECASE))


def _keywords(text: str, told: Told) -> bool:
    return all(_found(word, text) for word in told["keywords"])


def _keyword_frequency(text: str, told: Told) -> bool:
    return _related(_found(told["keyword"].strip(), text), told["relation"], told["frequency"])


def _forbidden(text: str, told: Told) -> bool:
    words: Sequence[str] = told["forbidden_words"]
    return not any(re.search(rf"\b{re.escape(w)}\b", text, re.IGNORECASE) for w in words)


def _letter_frequency(text: str, told: Told) -> bool:
    count = text.lower().count(told["letter"].strip().lower())
    return _related(count, told["let_relation"], told["let_frequency"])


def _language(text: str, told: Told) -> bool:
    spoken = _spoken(text)
    return spoken is None or spoken == told["language"]


def _sentences(text: str, told: Told) -> bool:
    return _related(count_sentences(text), told["relation"], told["num_sentences"])


def _paragraphs(text: str, told: Told) -> bool:
    """Parted by ``***``; an empty one in the middle is a fault."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    inner = parts[1:-1]
    if not all(inner):
        return False
    edges = [parts[0], parts[-1]] if len(parts) > 1 else parts
    return len(inner) + sum(bool(part) for part in edges) == int(told["num_paragraphs"])


def _words(text: str, told: Told) -> bool:
    return _related(len(re.findall(r"\w+", text)), told["relation"], told["num_words"])


def _first_word(text: str, told: Told) -> bool:
    """Paragraphs parted by an empty line, as many as asked; one begins with a word."""
    parts, place = text.split("\n\n"), told["nth_paragraph"]
    filled = sum(bool(part.strip()) for part in parts)
    if filled != told["num_paragraphs"] or not 1 <= place <= filled:
        return False
    paragraph = parts[place - 1].split()
    if not paragraph:
        return False
    word = re.split(r"[.,?!'\"]", paragraph[0].lstrip("'").lstrip('"'), maxsplit=1)[0]
    return word.lower() == str(told["first_word"]).lower()


def _placeholders(text: str, told: Told) -> bool:
    return len(re.findall(r"\[.*?\]", text)) >= int(told["num_placeholders"])


def _postscript(text: str, told: Told) -> bool:
    marker = told["postscript_marker"].strip()
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def _bullets(text: str, told: Told) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == int(told["num_bullets"])


def _one_of_three(text: str, told: Told) -> bool:
    return any(answer in text for answer in _YES_NO)


def _highlights(text: str, told: Told) -> bool:
    once = re.findall(r"\*[^\n\*]*\*", text)
    twice = re.findall(r"\*\*[^\n\*]*\*\*", text)
    filled = [part for part in (*once, *twice) if part.strip("*").strip()]
    return len(filled) >= int(told["num_highlights"])


def _sections(text: str, told: Told) -> bool:
    heading = re.escape(told["section_spliter"].strip())
    return len(re.findall(rf"\s?{heading}\s?\d+\s?", text)) >= int(told["num_sections"])


def _json(text: str, told: Told) -> bool:
    bare = _FENCE.sub("", text.strip()).strip()
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, told: Told) -> bool:
    return any(t.lstrip("<").rstrip(">").strip() for t in re.findall(r"<<[^\n]+>>", text))


def _two_responses(text: str, told: Told) -> bool:
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    filled = [part for part in parts if part]
    return len(filled) == 2 and filled[0] != filled[1]


def _repeats(text: str, told: Told) -> bool:
    return text.strip().lower().startswith(told["prompt_to_repeat"].strip().lower())


def _ends_with(text: str, told: Told) -> bool:
    return text.strip().strip('"').lower().endswith(told["end_phrase"].strip().lower())


def _quoted(text: str, told: Told) -> bool:
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


def _capital_words(text: str, told: Told) -> bool:
    count = sum(word.isupper() for word in _treebank(text))
    return _related(count, told["capital_relation"], told["capital_frequency"])


def _capitals(text: str, told: Told) -> bool:
    return text.isupper() and _spoken(text) in ("en", None)


def _small_letters(text: str, told: Told) -> bool:
    return text.islower() and _spoken(text) in ("en", None)


def _no_comma(text: str, told: Told) -> bool:
    return "," not in text


def _treebank(text: str) -> list[str]:
    found: list[str] = []
    for word in filter(None, _BETWEEN.split(text)):
        short = _SHORT_FORM.fullmatch(word)
        found += short.groups() if short else [word]
    return found


def _spoken(text: str) -> str | None:
    """The language; None for a text without letters, which then counts as in any."""
    if not any(letter.isalpha() for letter in text):
        return None
    from pipeline.data.cleaning.language import likeliest

    # What shouts is read as if it spoke: few texts in capitals taught the model.
    return likeliest(text.lower() if text.isupper() else text)


CHECKERS: Mapping[str, Checker] = {
    "keywords:existence": _keywords,
    "keywords:frequency": _keyword_frequency,
    "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letter_frequency,
    "language:response_language": _language,
    "length_constraints:number_sentences": _sentences,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": _one_of_three,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _repeats,
    "startend:end_checker": _ends_with,
    "startend:quotation": _quoted,
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": _capitals,
    "change_case:english_lowercase": _small_letters,
    "punctuation:no_comma": _no_comma,
}
"""Every instruction of CHECKED and how it is checked."""
