"""Open answers: what of a text counts as the answer, and when two answers are the same.

After the normalisation of SQuAD's evaluation (Rajpurkar et al. 2016): case, articles,
punctuation around words and white space do not count. Other than there, a point or comma
inside a number stays or goes as a reader would have it: 1,200.50 is 1200.50.
"""

from __future__ import annotations

import re
import unicodedata

_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_EDGES = re.compile(r"(?<!\d)[.,](?!\d)|(?<=\d)[.,](?!\d)|[^\w\s.,%$€£¥+-]")


def final_answer(text: str, after: str | None) -> str:
    """What follows the last ``after``; the whole text where there is none."""
    return text.rpartition(after)[2] if after else text


def normalised_answer(text: str) -> str:
    """The form in which answers are compared."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = _EDGES.sub(" ", _GROUPED.sub("", folded))
    return " ".join(_ARTICLES.sub(" ", plain).split())
