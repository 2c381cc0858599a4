"""What is wrong with a set of labels before anything learns them."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

from pipeline.core.errors import DataError

_SEPARATORS = r"[\s_\-./:,;\u2010-\u2015]+"
# A separator beside a digit carries meaning: 1.0 is not 10, and -1 is not 1.
_BESIDE_DIGIT = re.compile(rf"(?<=\d){_SEPARATORS}|{_SEPARATORS}(?=\d)")
_BETWEEN = re.compile(_SEPARATORS)


def label_problems(counts: Mapping[str, int]) -> list[str]:
    """One line for each defect, in the order of the labels; none of them stops a run.

    Args:
        counts: label to rows.

    Returns:
        Labels that differ by case, blanks, Unicode form or separators only, and classes with
        one row, which cannot be both learned and judged.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[_bare(label)].append(label)
    lines = []
    for group in alike.values():
        if len(group) > 1:
            named = " and ".join(f"{_shown(label)} ({_rows(counts[label])})" for label in group)
            lines.append(
                f"labels {named} differ by case, blanks, Unicode form or separators only; "
                "write them as one"
            )
    lines += [
        f"label {_shown(label)} has one row: it cannot be both learned and judged; "
        "add rows or drop the class"
        for label in sorted(counts)
        if counts[label] == 1
    ]
    return lines


def require_told_apart(labels: Iterable[str], where: str) -> None:
    """Refuses two labels that are one text in two Unicode forms (UAX 15, NFC).

    No reader could tell them apart, and a model that writes one would be wrong about the other.

    Raises:
        DataError: names both, in ASCII.
    """
    seen: dict[str, str] = {}
    for label in sorted({*labels}):
        other = seen.setdefault(unicodedata.normalize("NFC", label), label)
        if other != label:
            raise DataError(
                f"{where}: labels {other!a} and {label!a} look the same and differ by "
                "Unicode form only; write them as one"
            )


def _bare(label: str) -> str:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    shown = "".join(c for c in folded if unicodedata.category(c) != "Cf").strip()
    bare = _BETWEEN.sub("", _BESIDE_DIGIT.sub("\x00", shown))
    # A label of separators alone is only like itself.
    return bare or label


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _shown(label: str) -> str:
    return json.dumps(label, ensure_ascii=False)
