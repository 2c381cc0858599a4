"""The words of a first recipe: YAML whose comments say why each value is what it is."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Literal

from pipeline.data.detection import Detected

_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_FEWEST_JUDGED = 50
_MOST_NAMED = 5
_NOT_TEXT = {"yes", "no", "true", "false", "on", "off", "null", "y", "n"}
_WHAT: Mapping[str, str] = {
    "text": "Texts to read.",
    "messages": "Conversations to answer like.",
    "sharegpt": "Conversations to answer like.",
    "alpaca": "Instructions to follow.",
    "prompt_completion": "Prompts to complete.",
    "question_answer": "Questions to answer.",
    "classification": "Texts to tell apart.",
    "preference": "Answers to prefer to others.",
    "tagging": "Entities to find in texts.",
    "regression": "Numbers to tell from texts.",
}
_WHY: Mapping[str, str] = {
    "sft": "sft writes the answer, as a chat model is asked",
    "classify": "classify reads it off a head, faster and with probabilities",
    "dpo": "dpo moves the answers towards the chosen ones and away from the rejected",
    "tag": "tag gives each token a label: where an entity begins, where it goes on",
    "regress": "regress reads a number off a head",
    "cpt": "cpt goes on with pretraining on the plain text",
    "mlm": "mlm goes on with an encoder's pretraining on the plain text",
}


def recipe_text(
    *,
    name: str,
    path: str,
    data: str,
    base: str,
    kind: Literal["causal", "encoder"],
    found: Detected,
    objectives: Sequence[str],
    counts: tuple[int, int],
    lengths: tuple[int, int],
    carve: float,
    max_length: int,
    max_new_tokens: int | None,
    template: str | None,
    left_out: Sequence[str],
) -> str:
    """The recipe as a file.

    Args:
        name: of the recipe, and of its split files.
        path: of the recipe, for the command in its first line.
        data: where the rows came from.
        counts: rows of train (validation still in it) and of test.
        lengths: characters of the median row and of the longest.
        template: a chat template beside the recipe, for a base that has none.
        left_out: rows that are in neither split, each with its place and reason.
    """
    parts = [
        _opening(path, data, found, counts, lengths, left_out),
        f"name: {_quoted(name)}\nlevel: L2\nbase: {_quoted(base)}\n",
        _data(name, found, carve, template),
        _train(kind, objectives, counts[0], max_length),
    ]
    if max_new_tokens is not None:
        why = "the longest label is longer than 24 tokens may be"
        parts.append(f"evaluate:\n  max_new_tokens: {max_new_tokens}  # {why}\n")
    parts.append(_gates(found, counts[1]))
    return "\n".join(parts)


def _opening(
    path: str,
    data: str,
    found: Detected,
    counts: tuple[int, int],
    lengths: tuple[int, int],
    left_out: Sequence[str],
) -> str:
    lines = [
        f"gradus run {path}",
        f"{_WHAT[found.form]} A first recipe, written by `gradus init` after a look at",
        data,
        f"{sum(counts)} rows, read as {found.form}: {lengths[0]} characters in the middle, "
        f"{lengths[1]} at most.",
    ]
    if found.labels:
        common, rare = next(iter(found.labels.items())), list(found.labels.items())[-1]
        lines.append(
            f"{len(found.labels)} labels, from {_shown(common[0])} ({common[1]} rows) "
            f"to {_shown(rare[0])} ({rare[1]})."
        )
    if found.labels and found.form != "tagging":
        lines.append(f"Always answering {_shown(common[0])} is right in "
                     f"{100 * common[1] / sum(counts):.1f} % of the rows.")  # fmt: skip
    told = list(found.notes)
    if left_out:
        told.append(f"Left out, {len(left_out)} rows that do not fit:")
        told += left_out[:_MOST_NAMED]
        if len(left_out) > _MOST_NAMED:
            told.append(f"and {len(left_out) - _MOST_NAMED} more.")
    lines += [part for line in told for part in textwrap.wrap(_one_line(line), 98)]
    return "".join(f"# {_one_line(line)}\n" for line in lines)


def _data(name: str, found: Detected, carve: float, template: str | None) -> str:
    columns = ""
    if found.columns:
        pairs = (f"{ours}: {_quoted(theirs)}" for ours, theirs in found.columns.items())
        columns = f",\n          columns: {{{', '.join(pairs)}}}"
    by = f", by: {_quoted(found.by)}" if found.by else ""
    together = f"that share {_shown(found.by)}" if found.by else "that say the same"
    source = "{{path: {path}, format: {form}{columns}}}"
    lines = ["data:"]
    lines.append(f"  # Split once, seeded; rows {together} stay on one side.")
    lines.append("  # Say where the rows are from (licence: ...): it travels into the lineage.")
    for split in ("train", "test"):
        if split == "test":
            lines.append("  # Choices are made on validation, carved from train. Test is judged.")
            lines.append(f"  validation: {{carve: {carve}{by}}}")
        path = _quoted(f"{name}-{split}.jsonl")
        written = source.format(path=path, form=found.form, columns=columns)
        lines.append(f"  {split}: {written}")
    if template is not None:
        lines.append("  # The base's tokenizer has no chat template; this one is plain text.")
        lines.append(f"  chat_template: {_quoted(template)}")
    return "\n".join(lines) + "\n"


def _train(
    kind: Literal["causal", "encoder"], objectives: Sequence[str], rows: int, max_length: int
) -> str:
    listed = objectives[0] if len(objectives) == 1 else f"[{', '.join(objectives)}]"
    batch = 32 if rows >= 640 else 16 if rows >= 160 else 8
    lines = ["train:"]
    lines += [f"  # {_WHY[objective]}." for objective in objectives]
    lines.append(f"  objective: {listed}")
    if kind == "encoder" and {"classify", "tag", "regress"} & set(objectives):
        lines += [
            "  # An encoder is small: all of its weights learn, the new head faster than they.",
            "  method: full",
            "  learning_rate: 5.0e-5",
            "  head_learning_rate: 1.0e-3",
            *([] if "tag" in objectives else ["  head: {pooling: mean}"]),
        ]
    else:
        rate = "2.0e-5" if "dpo" in objectives else "2.0e-4"
        lines += [
            "  # An adapter, so that the family stays on one base; these are where to start.",
            "  method: lora",
            "  lora_r: 16",
            f"  learning_rate: {rate}",
        ]
    lines += [
        "  num_train_epochs: 3",
        f"  global_batch_size: {batch}  # {max(1, rows // batch)} updates an epoch",
        "  # From the longest row, two bytes a token.",
        f"  max_length: {max_length}",
    ]
    if not {"cpt", "mlm"} & set(objectives):
        lines.append(
            "  over_length: drop  # each is listed in dropped.jsonl; `error` stops instead"
        )
    return "\n".join(lines) + "\n"


def _gates(found: Detected, tested: int) -> str:
    lines = [
        "# Promises that must hold before anything is served; nothing served is ungated.",
        "gates:",
        "  - {suite: test, metric: contamination, at_most: 0}",
    ]
    if found.labels and found.form == "classification":
        gate = "- {suite: test, metric: accuracy, against: chance, superior_by: 0.0}"
        if tested < _FEWEST_JUDGED:
            lines.append(f"  # With {tested} test rows luck decides; with more, promise this too:")
        lines.append(f"  {'# ' if tested < _FEWEST_JUDGED else ''}{gate}")
    if found.form == "text":
        lines.append("  - {suite: test, metric: loss, against: base, at_most_ratio: 1.0}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML scalar that reads as this text, also inside braces."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT:
        return text
    # JSON's quotes are YAML's; what cannot be printed is escaped.
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _shown(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
