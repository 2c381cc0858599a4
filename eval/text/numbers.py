"""Numbers in answers to questions about finance: scale words, percent, sign, rounding."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

_SCALES = {
    "hundred": 2, "thousand": 3, "k": 3, "million": 6, "mn": 6, "mm": 6, "m": 6,
    "billion": 9, "bn": 9, "b": 9, "trillion": 12, "tn": 12,
    "百": 2, "千": 3, "万": 4, "百万": 6, "千万": 7, "亿": 8, "万亿": 12,
}  # fmt: skip
_SCALE = "|".join(sorted(_SCALES, key=len, reverse=True))
# The sign may stand before or behind the currency; accountants write -5 as (5).
_NUMBER = re.compile(
    rf"""(?<![\w.,-])
    (?P<minus>[-\u2212\u2013]|\bminus\s+|\bnegative\s+)?\s?
    (?P<open>\()?\s?
    (?:usd|eur|gbp|us|hk|rmb)?\s?[$€£¥]?\s?(?P<open_behind>\()?(?P<minus_behind>[-\u2212])?\s?
    (?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)
    (?P<close>\s?\))?
    \s?(?:(?P<percent>%|percent(?!age)\b|per\s?cent\b)|(?P<scale>{_SCALE})s?(?![a-z]))?
    (?P<close_behind>\s?\))?
    (?:\s?(?:us\s?)?(?:dollars?|euros?|pounds?|usd|eur|gbp|rmb|yuan|元|美元)\b)?
    (?![\w]|[.,]\d|-\d)""",
    re.VERBOSE,
)
_HUNDREDTH = Decimal("0.01")


@dataclass(frozen=True)
class Quantity:
    """A number as it was meant.

    Attributes:
        value: with its sign; scale words multiplied out; 12 % is 0.12.
        rounding: half a unit of the last decimal place that was written, in the same unit; 0
            for a number without decimals.
        percent: it was written as a percentage.
    """

    value: Decimal
    rounding: Decimal
    percent: bool


def only_number(text: str) -> Quantity | None:
    """The number of an answer that holds one number, however often; None for none or several.

    ``$1,496.5 million``, ``(12.3)%``, ``-5``, ``1.2 billion dollars``, ``about 7%``.
    """
    found = {_quantity(match) for match in _NUMBER.finditer(_folded(text))}
    return found.pop() if len(found) == 1 else None


def whole_number(text: str) -> Quantity | None:
    """The number that an answer is; None where it says anything besides."""
    match = _NUMBER.fullmatch(_folded(text).strip().rstrip("."))
    return _quantity(match) if match else None


def same_number(answer: str, gold: str) -> bool | None:
    """Whether an answer gives the number that gold is; None where gold is no number.

    The answer may stand in a sentence that holds no other number. Scale and sign must be right,
    and a percentage is not a plain number: 12 is not 12 %, and 0.12 is not either. Of a gold with
    decimals the answer may be off by half a unit of its last place (for 12.34 anything from
    12.335 to 12.345, as a longer answer would be rounded); one without must be met.
    """
    wanted = whole_number(gold)
    if wanted is None:
        return None
    given = only_number(answer)
    if given is None or given.percent != wanted.percent:
        return False
    return abs(given.value - wanted.value) <= wanted.rounding


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _quantity(match: re.Match[str]) -> Quantity:
    digits = match["digits"].replace(",", "")
    unit = Decimal(10) ** _SCALES.get(match["scale"] or "", 0)
    if match["percent"]:
        unit = _HUNDREDTH
    opened = bool(match["open"] or match["open_behind"])
    bracketed = opened and bool(match["close"] or match["close_behind"])
    negative = bool(match["minus"] or match["minus_behind"] or bracketed)
    places = len(digits.partition(".")[2])
    rounding = Decimal(10) ** -places / 2 * unit if places else Decimal(0)
    value = Decimal(digits) * unit
    return Quantity(-value if negative else value, rounding, bool(match["percent"]))
