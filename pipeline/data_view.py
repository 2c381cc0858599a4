"""What `gradus data` prints: funnel, histograms, and rows with their trained tokens coloured."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from pipeline.core.entities import spans_of
from pipeline.core.store import Store
from pipeline.core.terminal import visible
from pipeline.plan import Plan

_BAR = 40
_WIDTH = 110
_MOST_LABELS = 12
_LABEL_WIDTH = 60


def data_facts(plan: Plan, store: Store, nodes: Sequence[str]) -> dict[str, Any]:
    """Node of each prepared Dataset to its facts and its folder."""
    found: dict[str, Any] = {}
    for node in nodes:
        artifact = store.need(plan.nodes[node].key or "")
        found[node] = {**artifact.manifest.facts, "folder": str(artifact.path)}
    return found


def _line(text: Any) -> str:
    """The same on one line, with no markup of rich in it."""
    return escape(visible(str(text)).replace("\n", "\\n").replace("\t", " "))


def _console() -> Console:
    # A terminal that knows no such letter shows its number; it is no reason to stop.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    return Console(width=min(_WIDTH, columns), highlight=False)


def print_data(facts: Mapping[str, Any]) -> None:
    """Sources, funnel, histograms and where to read what was left out."""
    console = _console()
    for node, about in facts.items():
        console.print(f"\n[bold]{_line(node)}[/bold]", soft_wrap=True)
        for source in about["sources"]:
            console.print(_line(_source(source)), soft_wrap=True)
        for note in about.get("notes", ()):
            console.print("note: " + _line(note))
        if about.get("cleaning"):
            console.print("cleaning: " + escape("; ".join(about["cleaning"])))
        console.print(_funnel(about["funnel"]))
        for split, funnel in about["funnel"].items():
            for name, count in funnel["details"].items():
                # Of a file these stand below, with their places.
                if not (name.startswith("quarantined: ") and "refused" in about):
                    console.print(f"  {split}: {_line(name)}: {count:,}", soft_wrap=True)
        for entry in about.get("refused", ()):
            told = f"{_line(entry['reason'])} (first: {_line(entry['first'])})"
            console.print(f"  quarantined: {entry['rows']:,}: {told}", soft_wrap=True)
        for split, tally in about.get("examples", {}).items():
            console.print(_histogram(split, tally))
        if about.get("packing"):
            pack = about["packing"]
            console.print(
                f"packed: {pack['blocks']:,} blocks of {pack['length']}, "
                f"{pack['real_tokens']:.1%} of the slots real tokens"
            )
        _print_balance(console, about.get("balance") or {})
        _print_contamination(console, about.get("contamination") or {})
        _print_files(console, about)


def _source(source: Mapping[str, Any]) -> str:
    generator = source.get("generator")
    name = source.get("repo") or source.get("name") or source.get("url") or (
        f"{generator['generator']}/{source.get('part')}" if generator else source.get("origin")
    )  # fmt: skip
    good = source["read"] - source["quarantined"]
    told = f"{source['split']}: {name}: read as {source['format']}, {good:,} of "
    told += f"{source['read']:,} rows"
    mapped = [f"{ours} from {theirs}" for ours, theirs in (source.get("columns") or {}).items()]
    told += f" ({', '.join(mapped)})" if mapped else ""
    if source["quarantined"]:
        told += f"; {source['quarantined']:,} quarantined, see "
        told += "below" if source["split"] == "rows" else "quarantined.jsonl"
    # A file that no recipe names has nowhere to say its licence.
    licence = f" (licence: {source.get('licence') or 'not given'})"
    return told if source["split"] == "rows" else told + licence


def _funnel(funnel: Mapping[str, Mapping[str, Any]]) -> Table:
    from pipeline.data.funnel import REASONS

    table = Table(box=None, pad_edge=False)
    table.add_column("" if list(funnel) == ["rows"] else "rows")
    for split in funnel:
        table.add_column(split, justify="right")
    used = [r for r in REASONS if any(r in f for f in funnel.values())]
    for name in ("read", "received", *used, "kept"):
        if any(name in f for f in funnel.values()):
            sign = "" if name in {"read", "kept"} else ("+" if name == "received" else "-")
            cells = [f"{sign}{f[name]:,}" if f.get(name) else "0" for f in funnel.values()]
            table.add_row(f"[bold]{name}[/bold]" if not sign else f"  {name}", *cells)
    return table


def _histogram(split: str, tally: Mapping[str, Any]) -> str:
    # A classifier learns a label of each row, and none of its tokens.
    learned = f"{tally['supervised_tokens']:,} in the loss" if tally["supervised_tokens"] else ""
    lines = [
        f"{split}: {tally['examples']:,} examples, {tally['tokens']:,} tokens, "
        f"{learned or 'read by a head'}; by length:"
    ]
    most = max(tally["lengths"].values(), default=1)
    for end, count in sorted(tally["lengths"].items(), key=lambda item: int(item[0])):
        bar = "█" * max(1, round(_BAR * count / most))
        lines.append(f"  up to {int(end):>7,} tokens {count:>9,} {bar}")
    return "\n".join(lines)


def _print_balance(console: Console, balance: Mapping[str, Any]) -> None:
    counts: Mapping[str, int] = balance.get("counts", {})
    if not counts:
        return
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    console.print(f"labels: {len(counts):,}, from {ranked[-1][1]:,} to {ranked[0][1]:,} rows")
    shown = ranked if len(ranked) <= _MOST_LABELS else [*ranked[:6], *ranked[-6:]]
    names = [visible(label).replace("\n", "\\n") for label, _ in shown]
    width = min(_LABEL_WIDTH, max(cell_len(name) for name in names))
    for number, (name, (_, count)) in enumerate(zip(names, shown, strict=True)):
        if len(ranked) > len(shown) and number == len(shown) // 2:
            console.print(f"  ... {len(ranked) - len(shown):,} between these ...")
        # Cut by columns of the terminal: a Chinese letter takes two.
        cut = name if cell_len(name) <= width else set_cell_size(name, width - 3) + "..."
        console.print(Text(f"  {set_cell_size(cut, width)} {count:>9,}"), soft_wrap=True)


def _print_contamination(console: Console, about: Mapping[str, Any]) -> None:
    if about.get("checked"):
        sets = ", ".join(f"{name} ({count:,})" for name, count in about["checked"].items())
        console.print(
            f"compared with evaluation sets: {escape(sets)}; {about['hits']:,} hits"
            + (", see contaminated.jsonl" if about["hits"] else "")
        )
    for base in about.get("not_checkable", ()):
        console.print(f"not checkable: what {_line(base)} was pretrained on", soft_wrap=True)


def _print_files(console: Console, about: Mapping[str, Any]) -> None:
    folder = Path(about["folder"])
    for name in ("quarantined", "dropped", "findings", "contaminated"):
        file = folder / f"{name}.jsonl"
        if file.is_file() and file.stat().st_size:
            console.print(f"{name}: {file}", soft_wrap=True)


def print_rows(folder: Path, tokenizer: Path, count: int) -> None:
    """The first examples, trained tokens green, then rows that were cut or dropped.

    Args:
        folder: a prepared Dataset.
        tokenizer: the folder with its tokenizer.
    """
    from pipeline.data.arrow import Split
    from pipeline.data.writing import segments
    from pipeline.modeling.loading import load_tokenizer

    console = _console()
    made = load_tokenizer(tokenizer)
    console.print("[green]green: in the loss[/green], grey: read only")
    names, features = (_json(folder / f"{name}.json") for name in ("labels", "features"))
    shown = 0
    for block in Split(folder / "train.arrow") if (folder / "train.arrow").is_file() else ():
        for row in segments(block):
            if shown == count:
                break
            shown += 1
            head = f"[bold]{_line(row['example_id'])}[/bold] {len(row['input_ids'])} tokens"
            console.print(f"\n{head}{_told(row, features)}", soft_wrap=True)
            _print_tokens(console, made, row, names)
    for entry in _entries(folder / "dropped.jsonl", count):
        tokens = f", {entry['tokens']} tokens" if "tokens" in entry else ""
        because = f" ({entry['because']})" if "because" in entry else ""
        where = entry.get("id") or entry.get("place")
        console.print(
            f"\n[red]{_line(entry['reason'])}{_line(because)}[/red]: "
            f"{entry['split']} row {_line(where)}{tokens}",
            soft_wrap=True,
        )
        console.print(escape(visible(entry["text"])), style="dim", soft_wrap=True)
    for entry in _entries(folder / "quarantined.jsonl", count):
        where = entry.get("place") or f"row {entry.get('id')}"
        told = f"{_line(where)}: {_line(entry['reason'])}"
        console.print(f"\n[red]quarantined[/red]: {told}", soft_wrap=True)


def _told(row: Mapping[str, Any], features: Sequence[Mapping[str, Any]]) -> str:
    """What stands beside the tokens of an example: classes, a number, features."""
    told = ""
    if row.get("labels") is not None:
        told += f", labels {_line(', '.join(row['labels'])) or 'none'}"
    elif row.get("label") and not any(row["supervised"]):
        # Where tokens are learned they are the answer, and green.
        told += f", label {_line(row['label'])}"
    if row.get("value") is not None:
        told += f", value {row['value']:g}"
    for spec, value in zip(features, row.get("features") or (), strict=False):
        told += f", {_line(spec['name'])} {value:g}"
    return told


def _print_tokens(
    console: Console, tokenizer: Any, row: Mapping[str, Any], names: Sequence[str]
) -> None:
    ids, prompt = row["input_ids"], row.get("prompt") or 0
    if row.get("tags") is not None:
        console.print(_with_entities(tokenizer, ids, row["tags"], names), soft_wrap=True)
        return
    console.print(coloured(tokenizer, ids, row["supervised"]), soft_wrap=True)
    rejected, flags = row.get("rejected_ids"), row.get("rejected_supervised")
    if rejected is not None and flags is not None:
        # The prompt stands above already.
        answer = coloured(tokenizer, rejected[prompt:], flags[prompt:], "red")
        console.print("[red]rejected:[/red] ", answer, sep="", soft_wrap=True)


def _with_entities(
    tokenizer: Any, ids: Sequence[int], tags: Sequence[int], names: Sequence[str]
) -> Text:
    """The decoded tokens; those of an entity in green, its label behind it."""
    entities = spans_of([names[tag] if tag >= 0 else "O" for tag in tags])
    runs, done = [], 0
    for label, first, last in [*entities, ("", len(ids), len(ids) - 1)]:
        runs += [(done, first, ""), (first, last + 1, label)]
        done = last + 1
    text = Text()
    for start, end, label in runs:
        piece = visible(tokenizer.decode(list(ids[start:end]), skip_special_tokens=False))
        text.append(piece, style="green" if label else "bright_black")
        if label:
            text.append(f"[{visible(label)}]", style="bold cyan")
    return text


def _json(file: Path) -> list[Any]:
    found: list[Any] = json.loads(file.read_text("utf-8")) if file.is_file() else []
    return found


def coloured(
    tokenizer: Any, ids: Sequence[int], flags: Sequence[int], learned: str = "green"
) -> Text:
    """The decoded tokens; runs of supervised ones in a colour of their own."""
    text = Text()
    start = 0
    marks = list(flags) if len(flags) else [0] * len(ids)
    while start < len(ids):
        end = start
        while end < len(ids) and marks[end] == marks[start]:
            end += 1
        # Decoded by runs: a character may be made of several tokens.
        piece = tokenizer.decode(list(ids[start:end]), skip_special_tokens=False)
        text.append(visible(piece), style=learned if marks[start] else "bright_black")
        start = end
    return text


def _entries(file: Path, count: int) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    with file.open(encoding="utf-8") as stream:
        for _, line in zip(range(count), stream, strict=False):
            yield json.loads(line)
