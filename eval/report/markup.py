"""The pieces that a report page is built from: escaped tags, tables, the style sheet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

VOID = frozenset({"line", "circle", "rect", "path", "polyline", "meta"})


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already. Anything else is escaped wherever it is put."""

    text: str


Content = Markup | str | int | float | None


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


def number(value: object, digits: int = 3) -> str:
    """A figure for a table; a dash where it was not measured."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return str(value)


def interval(low: object, high: object, digits: int = 3) -> str:
    """Both ends, or nothing."""
    if low is None and high is None:
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


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
    above = [tag("caption", caption)] if caption else []
    return tag("div", tag("table", above, head, body), class_="scroll", tabindex="0")


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


def page(title: str, body: Markup) -> str:
    """The whole document. It loads nothing: a policy in its head forbids it."""
    head = joined(
        [
            tag("meta", charset="utf-8"),
            tag(
                "meta",
                http_equiv="Content-Security-Policy",
                content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
            ),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", title),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    document = tag("html", tag("head", head), tag("body", tag("main", body)), lang="en")
    return f"<!doctype html>\n{document.text}\n"


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
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


STYLE = """
:root{--paper:#fff;--panel:#f6f7f9;--ink:#16202b;--soft:#5b6775;--line:#dde2e8;--a:#1d5fd1;
--b:#b4540a;--pass:#12703c;--fail:#b3261e;--open:#8a5a00;--pass-bg:#e2f4e8;--fail-bg:#fde7e5;
--open-bg:#fdf0d5}
@media (prefers-color-scheme:dark){:root{--paper:#11161c;--panel:#1a212a;--ink:#e8edf2;
--soft:#9aa7b5;--line:#2d3743;--a:#7aabff;--b:#f2a15a;--pass:#7fdca3;--fail:#ff9a92;--open:#f4c86a;
--pass-bg:#123524;--fail-bg:#43201d;--open-bg:#3d2f10}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1040px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 10px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:44px 0 12px;padding-bottom:6px;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:20px 0 8px}
p{margin:8px 0}
.soft,figcaption,caption{color:var(--soft);font-size:.875rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;
margin:26px 0 0}
.tile{background:var(--panel);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:1.65rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{display:block;font-size:.85rem;color:var(--soft)}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:20px}
.stacks{columns:400px 2;column-gap:20px}.stacks figure{margin-bottom:20px}
figure{margin:0;background:var(--panel);border-radius:10px;padding:16px 16px 12px;
break-inside:avoid}
figure h3,figure h4{margin:0 0 8px;font-size:1rem}
figcaption{margin-top:8px}.split{margin:10px 0 6px;font-size:.875rem}
svg{display:block;width:100%;height:auto;font:13px system-ui,-apple-system,"Segoe UI",sans-serif}
svg text{fill:var(--ink)}svg .axis{fill:var(--soft)}svg .grid{stroke:var(--line)}
svg .chance{stroke:var(--soft);stroke-dasharray:5 4}
.a{stroke:var(--a);fill:var(--a)}.b{stroke:var(--b);fill:var(--b)}
svg text.a,svg text.b{stroke:none}svg polyline{fill:none!important;stroke-width:2.25}
svg polyline.thin{stroke-width:1.6;stroke-linejoin:round}svg .faint{opacity:.3}
svg .hollow{fill:var(--panel)}rect.a,rect.b{stroke:none}
rect.soft{fill:var(--soft);opacity:.6}rect.pale{fill:var(--line)}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding-bottom:6px}
th,td{padding:7px 10px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--soft);font-size:.82rem;white-space:nowrap}
td:first-child{white-space:nowrap}
.keep{white-space:nowrap}.wide{min-width:11rem;overflow-wrap:anywhere}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.chip{display:inline-block;border-radius:999px;padding:1px 11px;font-size:.85rem;font-weight:600;
white-space:nowrap;background:var(--panel);color:var(--soft);border:1px solid currentColor}
.chip.pass{background:var(--pass-bg);color:var(--pass)}
.chip.fail{background:var(--fail-bg);color:var(--fail)}
.chip.undecided{background:var(--open-bg);color:var(--open)}
.said{padding-left:20px;margin:0}.said li{margin:6px 0}
dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:5px 18px;margin:4px 0}
dt{color:var(--soft);font-size:.9rem}dd{margin:0;font-size:.9rem;min-width:0;overflow-wrap:anywhere}
dd>ul,.facts ul{margin:0;padding-left:18px}
summary{cursor:pointer;padding:6px 0;font-weight:600}details .plots{margin:8px 0 20px}
@media (max-width:560px){main{padding:24px 16px 48px}h1{font-size:1.5rem}
.tile b{font-size:1.3rem}dl{grid-template-columns:1fr;gap:1px}dd{margin-bottom:8px}}
@media print{:root{--paper:#fff;--panel:#fff;--ink:#000;--soft:#444;--line:#bbb;--a:#1d5fd1;
--b:#b4540a}body{font-size:11pt}main{max-width:none;padding:0}h2{break-after:avoid}
tr,.tile{break-inside:avoid}table{font-size:8pt}th,td{padding:3px 5px}
.tile,figure{border:1px solid var(--line)}.scroll{overflow:visible}}
"""
