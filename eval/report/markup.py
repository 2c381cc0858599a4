"""The pieces that a report page is built from: escaped tags, tables, the style sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

VOID = frozenset({"line", "circle", "rect", "path", "polyline", "polygon", "meta"})


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already. Anything else is escaped wherever it is put."""

    text: str


Content = Markup | str | int | float | None
# Below, a number may be a year or a seed, and reads well without marks.
_LARGE = 10_000


def tag(name: str, /, *content: Content | Iterable[Markup], **attributes: object) -> Markup:
    """One element. ``class_`` is `class`, other underscores become hyphens; None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID and not content:
        return Markup(f"<{name}{given}{'' if name == 'meta' else '/'}>")
    inside = "".join(_inside(part) for part in content)
    return Markup(f"<{name}{given}>{inside}</{name}>")


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("\n".join(part.text for part in parts))


def number(value: object, digits: int = 3, *, sign: bool = False) -> str:
    """A figure for a table; a dash where it was not measured."""
    if value is None:
        return "–"
    if isinstance(value, float):
        shown = f"{value:{'+' if sign else ''}.{digits}f}"
        # As wide as the plus, so that columns stay in line.
        return shown.replace("-", "−")
    return str(value)


def interval(low: object, high: object, digits: int = 3, *, sign: bool = False) -> str:
    """Both ends, or nothing."""
    if low is None and high is None:
        return ""
    return f"[{number(low, digits, sign=sign)}, {number(high, digits, sign=sign)}]"


def section(name: str, content: Markup) -> Markup:
    """A part of the page under its heading, which its contents link to."""
    return tag("section", tag("h2", name), content, id=anchor(name))


def anchor(name: str) -> str:
    """A heading as a link's target."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def table(
    columns: Sequence[str], rows: Sequence[Sequence[Content]], left: int = 1, caption: str = ""
) -> Markup:
    """A table that scrolls by itself on a narrow screen; the first ``left`` columns are words."""

    def cells(kind: str, row: Sequence[Content]) -> Markup:
        return tag(
            "tr",
            [
                tag(kind, cell, class_=None if index < left else "n")
                for index, cell in enumerate(row)
            ],
        )

    head = tag("thead", cells("th", columns))
    body = tag("tbody", [cells("td", row) for row in rows])
    found = tag("div", tag("table", head, body), class_="scroll", tabindex="0")
    # Outside, so that it does not scroll away with a wide table.
    return joined([tag("p", caption, class_="caption"), found]) if caption else found


def figure(name: str, parts: Iterable[Markup], notes: Iterable[str]) -> Markup:
    """A plot or several under one name, and lines below them."""
    lines = [tag("div", note) for note in notes]
    return tag("figure", tag("h4", name), parts, [tag("figcaption", lines)] if lines else [])


def subhead(name: str, more: str = "") -> Markup:
    """The line above one plot of a figure."""
    return tag("p", tag("b", name), more, class_="split")


def words(text: str) -> Markup:
    """Words in a cell, that a narrow screen does not break into syllables."""
    return tag("div", text, class_="keep" if len(text) <= 24 else "wide")


def breakable(text: str) -> Markup:
    """A label, that may go on in the next line after each underscore."""
    return Markup(f'<span class="label">{escape(text).replace("_", "_<wbr>")}</span>')


def chip(status: str) -> Markup:
    """A status as a word with a sign, so that colour alone tells nothing."""
    sign = {"pass": "✓", "fail": "✕", "undecided": "?", "ungated": "–"}.get(status, "·")
    kind = status if status in ("pass", "fail", "undecided") else "ungated"
    return tag("span", f"{sign} {status}", class_=f"chip {kind}")


def arms_of(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """Name, accuracy and colour of a form's rows: with L1, and without it where measured."""
    above, straight = figures["with_l1"], figures["without_l1"]
    if above is None or straight is None:
        return [("", above or straight, "a")]
    return [("with L1", above, "a"), ("without L1", straight, "b")]


def facts(value: object) -> Markup:
    """Any JSON value as a page would show it: lists of like objects are tables."""
    if isinstance(value, Mapping):
        pairs = [
            joined([tag("dt", _words(key)), tag("dd", facts(inner))])
            for key, inner in value.items()
        ]
        return tag("dl", pairs)
    if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        columns = list(dict.fromkeys(key for row in value for key in row))
        rows = [[_short(row.get(column)) for column in columns] for row in value]
        return table([_words(column) for column in columns], rows, left=len(columns))
    if isinstance(value, list):
        return tag("ul", [tag("li", facts(item)) for item in value])
    return tag("span", _short(value))


def _inside(part: Content | Iterable[Markup]) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part.text
    if isinstance(part, (str, int, float)):
        return escape(str(part))
    return "".join(piece.text for piece in part)


def _attribute(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _words(key: object) -> str:
    text = str(key).replace("_", " ")
    return text[:-2] + " (s)" if text.endswith(" s") else text


def _short(value: Any) -> str:
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # A learning rate of 0.0002 is not 0.00.
        return f"{value:,.2f}" if abs(value) >= 1 or not value else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and value >= _LARGE else str(value)
