"""The report's section on data: what became of the rows, how long they are, where from.

The facts are those of `prepare`'s manifests. Old reports and other stages have others: what has
not the shape that is drawn here is given back, to be shown as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eval.report.markup import Content, Markup, figure, joined, number, subhead, table, tag, words
from eval.report.plots import Bar, bar_plot, funnel_bars, in_order, length_bars, percent

Facts = dict[str, Any]

_SPLITS = ("train", "replay", "validation", "test")
_MOST_LABELS = 12
# Also told by the funnel.
_IN_FUNNEL = ("read", "kept", "contaminated", "over_length")


def data_parts(data: object) -> tuple[Markup | None, object]:
    """The section's content, and what of the facts it does not show.

    Args:
        data: node to the facts of its Dataset. Nodes with the same rows share their plots.
    """
    if not isinstance(data, Mapping):
        return None, data
    groups: dict[str, dict[str, Facts]] = {}
    rest: dict[str, object] = {}
    for node, about in data.items():
        shown, left = _known(about)
        if left:
            rest[str(node)] = left
        if shown:
            rows = {k: v for k, v in shown.items() if k not in ("examples", "packing")}
            same = json.dumps(rows, sort_keys=True, default=str)
            groups.setdefault(same, {})[str(node)] = shown
    return (joined(_group(nodes) for nodes in groups.values()) if groups else None), rest


def _known(about: object) -> tuple[Facts, object]:
    """The facts that have the shape that is drawn, and the others."""
    if not isinstance(about, Mapping):
        return {}, about
    shown = {
        name: about[name] for name, fits in _SHAPES.items() if about.get(name) and fits(about[name])
    }
    told = {*shown, *(_IN_FUNNEL if "funnel" in shown else ())}
    told |= {"labels"} if "balance" in shown or not about.get("labels") else set()
    told |= {name for name in _SHAPES if not about.get(name)}
    left = {name: value for name, value in about.items() if name not in told}
    for name, parts in _PARTS.items():
        if name in shown:
            more = {key: value for key, value in shown[name].items() if key not in parts}
            left |= {name: more} if more else {}
    return shown, left


def _group(nodes: Mapping[str, Facts]) -> Markup:
    """One data set, rendered in one way or several."""
    about = next(iter(nodes.values()))
    ways = _ways(nodes)
    figures = [
        _rows_figure(about.get("funnel")),
        *(_lengths_figure(way, each) for way, each in ways.items()),
        _loss_figure(ways),
        _labels_figure(about.get("balance")),
    ]
    drawn = [one for one in figures if one is not None]
    parts = [tag("h3", " and ".join(nodes))]
    if drawn:
        parts.append(tag("div", drawn, class_="stacks"))
    parts += _sources(about.get("sources"))
    if "contamination" in about:
        told = _contamination(about["contamination"])
        parts.append(tag("p", tag("b", "Contamination: "), " ".join(told)))
    lines = [*about.get("notes", ()), *(f"Cleaning: {line}" for line in about.get("cleaning", ()))]
    if lines:
        parts.append(tag("ul", [tag("li", line) for line in lines], class_="said soft"))
    return joined(parts)


def _ways(nodes: Mapping[str, Facts]) -> dict[str, Facts]:
    """Short names of the nodes: what stands after the last dot, nothing for a single one."""
    if len(nodes) == 1:
        return {"": next(iter(nodes.values()))}
    short = {name.rpartition(".")[2]: about for name, about in nodes.items()}
    return short if len(short) == len(nodes) else dict(nodes)


def _rows_figure(funnels: Mapping[str, Facts] | None) -> Markup | None:
    if not funnels:
        return None
    parts, told = [], []
    for split in in_order(funnels, _SPLITS):
        counts = {k: v for k, v in funnels[split].items() if k != "details"}
        parts += [subhead(split), bar_plot(f"Rows of {split}", funnel_bars(counts))]
        if details := funnels[split].get("details"):
            told.append(f"{split}: " + "; ".join(f"{k} {v:,}" for k, v in details.items()))
    legend = "From what was read to what was kept, in the order of the steps; each split by itself."
    return figure("What became of the rows", parts, [legend, *told])


def _lengths_figure(way: str, about: Facts) -> Markup | None:
    parts = []
    tallies = about.get("examples", {})
    for split in in_order(tallies, _SPLITS):
        tally = tallies[split]
        head = f": {tally['examples']:,} examples, {tally['tokens']:,} tokens"
        plot = bar_plot(f"Examples of {split} by length in tokens", length_bars(tally["lengths"]))
        parts += [subhead(split, head), plot]
    notes = []
    if pack := about.get("packing"):
        blocks = f"{pack['blocks']:,} blocks of {pack['length']:,}"
        real = percent(pack["real_tokens"])
        notes = [f"Packed into {blocks}: {real} of the slots are real tokens."]
    if not parts and not notes:
        return None
    return figure(f"Lengths in tokens{', ' if way else ''}{way}", parts, notes)


def _loss_figure(ways: Mapping[str, Facts]) -> Markup | None:
    bars, unmarked = [], []
    for way, about in ways.items():
        tallies = about.get("examples", {})
        if not any(tally["supervised_tokens"] for tally in tallies.values()):
            unmarked += [way] if tallies else []
            continue
        for split in in_order(tallies, _SPLITS):
            tally = tallies[split]
            share = tally["supervised_tokens"] / max(tally["tokens"], 1)
            name = f"{split}, {way}" if way else split
            bars.append(Bar(name, 0, share, "a", f"{tally['supervised_tokens']:,}", share))
    notes = ["Tokens that the loss counts, of all tokens of the examples."] if bars else []
    if unmarked:
        where = f" ({', '.join(unmarked)})" if any(unmarked) else ""
        notes.append(f"No tokens are marked for the loss{where}: it is on labels or masked tokens.")
    if not notes:
        return None
    plot = [bar_plot("Tokens in the loss", bars, whole=True)] if bars else []
    return figure("Tokens in the loss", plot, notes)


def _labels_figure(balance: Facts | None) -> Markup | None:
    if not balance:
        return None
    ranked = sorted(balance["counts"].items(), key=lambda item: (-item[1], item[0]))
    most, total = ranked[0][1], sum(balance["counts"].values())

    def plot(label: str, rows: Sequence[tuple[str, int]]) -> Markup:
        bars = [Bar(k, 0, n / max(most, 1), "a", f"{n:,}", n / max(total, 1)) for k, n in rows]
        return bar_plot(label, bars)

    if len(ranked) <= _MOST_LABELS:
        parts = [plot("Rows of train by label", ranked)]
    else:
        half = _MOST_LABELS // 2
        parts = [
            subhead(f"The {half} largest"),
            plot("Rows of the largest labels", ranked[:half]),
            subhead(f"The {half} smallest", f"; {len(ranked) - 2 * half} lie between"),
            plot("Rows of the smallest labels", ranked[-half:]),
        ]
    sizes = f"{ranked[-1][1]:,} to {most:,} rows" if ranked[-1][1] != most else f"{most:,} rows"
    notes = [f"{len(ranked):,} labels in train, {sizes} each."]
    if isinstance(ratio := balance.get("imbalance_ratio"), float) and ratio > 1:
        even = number(balance.get("effective_number"), 1)
        notes.append(f"Largest to smallest {ratio:.1f}; as spread as {even} labels of one size.")
    if (cap := balance.get("max_per_class")) is not None:
        notes.append(f"Before a cap of {cap} rows for each.")
    return figure("Sizes of labels", parts, notes)


def _sources(sources: Sequence[Facts] | None) -> list[Markup]:
    if not sources:
        return []
    names = ("repo", "name", "url", "generator", "part", "made")
    fixed = ("split", "format", "read", "quarantined", "licence", "origin")
    more = list(dict.fromkeys(key for row in sources for key in row if key not in names + fixed))
    rank = {split: place for place, split in enumerate(_SPLITS)}
    rows: list[list[Content]] = [
        [
            _cell(row.get("split")),
            words(_source_name(row)),
            _cell(row.get("format")),
            *(words(str(row.get(name) or "not given")) for name in ("licence", "origin")),
            *(_cell(row.get(name)) for name in ("read", "quarantined", *more)),
        ]
        for row in sorted(sources, key=lambda row: rank.get(str(row.get("split")), len(rank)))
    ]
    columns = ["split", "source", "read as", "licence", "origin", "rows", "quarantined", *more]
    return [table(columns, rows, 5, "Where the rows came from")]


def _source_name(source: Facts) -> str:
    made = source.get("generator")
    if isinstance(made, Mapping):
        return f"{made.get('generator', 'generator')}/{source.get('part', '')}"
    found = (source.get(name) for name in ("repo", "name", "url", "made", "origin"))
    return str(made or next((name for name in found if name), "–"))


def _contamination(about: Facts) -> list[str]:
    checked, hits, policy = about.get("checked"), about.get("hits"), about.get("policy")
    said = []
    if checked:
        sets = ", ".join(f"{name} ({count:,})" for name, count in checked.items())
        found = "" if hits is None else f": {hits:,} {'hit' if hits == 1 else 'hits'}"
        said.append(f"Rows were compared with the evaluation sets {sets}{found}.")
    else:
        said.append("Rows were compared with no evaluation set.")
    if hits and policy:
        said.append(f"Policy: {policy}.")
    for name, count in about.get("ancestors", {}).items():
        if count:
            said.append(f"Training rows of {name} hold {count:,} evaluation rows.")
    bases = about.get("not_checkable", ())
    return [*said, *(f"Not checkable: what {name} was pretrained on." for name in bases)]


def _cell(value: object) -> str:
    return f"{value:,}" if _is_count(value) else "–" if value is None else str(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _counts(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_count(count) for count in value.values())


def _words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _is_funnel(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(split, Mapping)
        and _counts(split.get("details", {}))
        and _counts({k: v for k, v in split.items() if k != "details"})
        for split in value.values()
    )


def _is_tallies(value: object) -> bool:
    names = ("examples", "tokens", "supervised_tokens")
    return isinstance(value, Mapping) and all(
        isinstance(split, Mapping)
        and all(_is_count(split.get(name)) for name in names)
        and bool(split.get("lengths"))
        and _counts(split["lengths"])
        and all(re.fullmatch("[0-9]{1,15}", str(end)) for end in split["lengths"])
        for split in value.values()
    )


def _is_packing(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(_is_count(value.get(name)) for name in ("blocks", "length"))
        and isinstance(value.get("real_tokens"), (int, float))
    )


def _is_contamination(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and all(_counts(value.get(name, {})) for name in ("checked", "ancestors"))
        and _is_count(value.get("hits", 0))
        and _words(value.get("not_checkable", []))
    )


_SHAPES: Mapping[str, Callable[[Any], bool]] = {
    "funnel": _is_funnel,
    "examples": _is_tallies,
    "packing": _is_packing,
    "balance": lambda value: (
        isinstance(value, Mapping) and bool(value.get("counts")) and _counts(value["counts"])
    ),
    "sources": lambda value: (
        isinstance(value, list) and all(isinstance(row, Mapping) for row in value)
    ),
    "contamination": _is_contamination,
    "notes": _words,
    "cleaning": _words,
}
# What is told of facts that hold several: anything else in them is shown as it is.
_PARTS = {
    "packing": ("blocks", "length", "real_tokens"),
    "balance": ("counts", "imbalance_ratio", "effective_number", "max_per_class"),
    "contamination": ("checked", "hits", "policy", "ancestors", "not_checkable"),
}
