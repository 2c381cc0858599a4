"""Generated text: quality, diversity and speed, always together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.report.markup import Content, Markup, facts, interval, joined, number, section, table, tag
from eval.report.names import significant, times
from eval.report.plots import percent

Tree = Mapping[str, Any]

_QUALITY = {
    "exact_match": "exact match", "token_f1": "token F1", "numeric": "right number",
    "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "chrf": "chrF (of 100)",
    "bleu": "BLEU (of 100)", "prompt_strict": "prompts with all instructions followed",
    "instruction_strict": "instructions followed",
    "prompt_loose": "prompts, leniently read", "instruction_loose": "instructions, leniently read",
}  # fmt: skip
_DIVERSITY = {
    "distinct.1": "different words", "distinct.2": "different pairs of words",
    "distinct.3": "different triples", "self_bleu": "likeness to each other (self-BLEU)",
    "repeated": "repeated within a text", "stuck": "texts stuck in a loop",
    "length.p50": "median words", "length.p95": "95th percentile of words",
    "length.empty": "empty texts",
}  # fmt: skip
_SPEED = {
    "concurrency": "at once", "first_token_p50_s": "first token, median (s)",
    "first_token_p95_s": "95th percentile (s)", "tokens_per_s": "tokens/s", "failed": "failed",
}  # fmt: skip
_JUDGE = {
    "win_rate": "won, ties as half", "wins": "wins", "ties": "ties", "losses": "losses",
    "consistency": "same verdict in both orders", "kappa": "agreement of the orders (kappa)",
    "first_place": "first place won (0.5: fair)",
}  # fmt: skip
# What lies above is no share.
_SHARE = 1.5
_SAMPLE = {"accuracy": "told apart rightly", "auroc": "AUROC"}
_MORE = {"judge": "Judged in pairs", "two_sample": "Real or generated?"}
_BESIDE = {"Judged in pairs": _JUDGE, "Real or generated?": _SAMPLE}


def generated_section(comparison: Tree) -> Markup | None:
    """Three sides of each model's text, side by side."""
    parts, notes = [], []
    for told in comparison.get("generated") or ():
        quality, diversity = told.get("quality"), told.get("diversity")
        sides = [
            _side("Quality", _figures(quality, _QUALITY) if quality else None),
            _side("Diversity", _diversity(diversity) if diversity else None),
            _side("Speed", _speed(told.get("speed"))),
        ]
        parts.append(tag("h3", f"{told['name']} on {told['suite']}"))
        parts += [tag("p", line, class_="soft") for line in _how(told)]
        parts.append(tag("div", sides, class_="sides"))
        more = {name: told.get(key) for key, name in _MORE.items()}
        if any(more.values()):
            cards = [_side(name, _why_or(more[name], names)) for name, names in _BESIDE.items()]
            parts.append(tag("div", cards, class_="sides"))
        parts += _kinds(quality or {})
        notes += _notes(told)
    if not parts:
        return None
    note = tag("p", " ".join(dict.fromkeys(notes)), class_="soft")
    return section("Generated text", joined([*parts, *([note] if notes else [])]))


def _notes(told: Tree) -> list[str]:
    """What the figures of these texts are, of those that are shown."""
    found = []
    if told.get("quality"):
        checked = told.get("kind") == "instructions"
        found.append(
            "Instructions are checked by program." if checked
            else "Quality is measured against one reference for each item."
        )  # fmt: skip
    if "accuracy" in (told.get("two_sample") or {}):
        found.append("A classifier was trained to tell real from generated text: at 0.5 it cannot.")
    return found


def _how(told: Tree) -> list[str]:
    """How the texts were asked for, where that is told."""
    if told.get("items") is None or told.get("max_new_tokens") is None:
        return []
    heat = told.get("temperature")
    drawn = "the likeliest token each time" if not heat else f"temperature {heat:g}"
    cut = told.get("cut") or 0.0
    ended = f", where {percent(cut)} of them were cut" if cut else ""
    return [f"{times(told['items'], 'text')}, {drawn}, {told['max_new_tokens']} tokens{ended}."]


def _kinds(quality: Tree) -> list[Markup]:
    """Instructions by kind: what is asked for by program is told apart by what it asks."""
    rows: list[list[Content]] = [
        [kind.replace(":", ": ").replace("_", " "), told["items"], number(told["strict"])]
        for kind, told in (quality.get("by_kind") or {}).items()
    ]
    if not rows:
        return []
    found = table(["kind of instruction", "items", "followed"], rows)
    return [tag("details", tag("summary", "By kind of instruction"), found)]


def _side(name: str, content: Markup | None) -> Markup:
    return tag("div", tag("h4", name), content or tag("p", "not measured", class_="soft"))


def _value(told: Tree, key: str) -> Any:
    found: Any = told
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _shown(value: Any) -> str:
    """Shares to three digits, what counts words or goes to 100 to one."""
    return number(value, 1 if isinstance(value, float) and value > _SHARE else 3)


def _figures(told: Tree, names: Mapping[str, str]) -> Markup:
    """Known measures under their names, then whatever else there is, as it is."""
    rows: list[list[Content]] = []
    for key, name in names.items():
        value, ends = _value(told, key), ""
        if isinstance(value, Mapping):
            digits = 1 if (value.get("estimate") or 0) > _SHARE else 3
            ends = interval(value.get("low"), value.get("high"), digits)
            value = value.get("estimate")
        if value is not None:
            rows.append([name, _shown(value), ends])
    other = {
        key: value for key, value in told.items()
        if key not in names and isinstance(value, (int, float)) and key != "seed"
    }  # fmt: skip
    rows += [[key.replace("_", " "), significant(value), ""] for key, value in other.items()]
    return table(["", "", "95 % interval"], rows) if rows else facts(told)


def _diversity(told: Tree) -> Markup:
    """The texts' figures beside those of the references."""
    beside = told.get("references")
    rows: list[list[Content]] = []
    for key, name in _DIVERSITY.items():
        found = [_value(side, key) for side in (told, beside) if side is not None]
        # Self-BLEU stands with its sample and signature.
        values = [one.get("estimate") if isinstance(one, Mapping) else one for one in found]
        if values[0] is not None:
            rows.append([name, *(_shown(value) for value in values)])
    columns = ["", "generated", *(["reference"] if beside is not None else [])]
    return table(columns, rows) if rows else facts(told)


def _speed(told: Tree | None) -> Markup | None:
    if not told:
        return None
    levels = told.get("levels") or ()
    if not levels:
        return _offline(told)
    shown = [key for key in _SPEED if key != "failed" or any(level.get(key) for level in levels)]
    rows: list[list[Content]] = [[significant(level.get(k)) for k in shown] for level in levels]
    return table([_SPEED[key] for key in shown], rows, left=0)


def _offline(told: Tree) -> Markup:
    """Without an endpoint no user's wait is known; how fast batches were is told as that."""
    parts = [tag("p", f"not measured: {told.get('why') or 'no reason given'}", class_="soft")]
    beside = told.get("offline") or {}
    if beside.get("tokens_per_s") is not None:
        where = f"batches of {beside.get('batch_size')} on {beside.get('device')}"
        speed = significant(beside["tokens_per_s"])
        parts.append(tag("p", f"In {where}, by no engine: {speed} tokens/s."))
    return joined(parts)


def _why_or(told: Tree | None, names: Mapping[str, str]) -> Markup | None:
    if told and "why" in told:
        return tag("p", f"not measured: {told['why']}", class_="soft")
    return _figures(told, names) if told else None
