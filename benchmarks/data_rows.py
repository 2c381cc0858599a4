"""Rows for the data benchmarks: real ones, edited by a seed, where they are at hand."""

from __future__ import annotations

import json
import random
from pathlib import Path

from benchmarks.peer import ROOT

REAL = ROOT.parent / "shared" / "data"
_WORDS = [
    "the",
    "card",
    "account",
    "of",
    "payment",
    "was",
    "sent",
    "to",
    "a",
    "bank",
    "in",
    "order",
    "and",
    "then",
    "it",
    "may",
    "be",
    "late",
]


def conversations(path: Path, rows: int, seed: int = 1) -> Path:
    """Writes alpaca-like conversations as JSONL; a file that is there already is taken."""
    if path.is_file():
        return path
    rng = random.Random(seed)
    pairs = _pairs(rng)
    draft = path.with_suffix(".draft")
    with draft.open("w", encoding="utf-8") as stream:
        for number in range(rows):
            asked, told = rng.choice(pairs)
            # A number makes each row its own, so that duplicates play no part.
            row = [
                {"role": "user", "content": f"{asked} ({number})"},
                {"role": "assistant", "content": _edited(told, rng)},
            ]
            stream.write(json.dumps({"messages": row}, ensure_ascii=False) + "\n")
    draft.replace(path)
    return path


def _pairs(rng: random.Random) -> list[tuple[str, str]]:
    found = []
    for name in ("en", "zh"):
        file = REAL / "alpaca_gpt4_demo" / f"{name}.jsonl"
        if file.is_file():
            with file.open(encoding="utf-8") as stream:
                for row in map(json.loads, stream):
                    found.append((f"{row['instruction']}\n{row['input']}".strip(), row["output"]))
    if found:
        return found
    return [
        (" ".join(rng.choices(_WORDS, k=15)),
         " ".join(rng.choices(_WORDS, k=max(5, int(rng.lognormvariate(4.3, 0.9))))))
        for _ in range(2000)
    ]  # fmt: skip


def _edited(text: str, rng: random.Random) -> str:
    """The text with a few words taken out: other lengths, the same language."""
    words = text.split(" ")
    return " ".join(word for word in words if rng.random() > 0.05) or text
