"""Training rows that stand in a test set, found after normalisation."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.digest import text_digest

FINGERPRINTS = "fingerprints.json"


def normalised(text: str) -> str:
    """NFKC, casefolded, letters and digits only: what makes two texts the same text."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in folded if character.isalnum())


def row_text(row: Mapping[str, Any]) -> str:
    """The text by which a row is recognised: what the model is given, without the answer."""
    if row.get("source_text"):
        # The recipe's prompt is not the row's: it would hide a copy.
        return str(row["source_text"])
    if "messages" in row:
        return "\n".join(m["content"] for m in row["messages"] if m["role"] == "user")
    if "question" in row:
        return f"{row.get('context', '')}\n{row['question']}"
    return str(row.get("text", row.get("prompt", "")))


def fingerprints(texts: Iterable[str]) -> set[str]:
    """64-bit digests of normalised texts; empty ones say nothing and are left out."""
    return {text_digest(found)[:16] for found in map(normalised, texts) if found}


def contaminated(texts: Iterable[str], judged: set[str]) -> list[int]:
    """Indices of ``texts`` whose fingerprint is in ``judged``."""
    return [index for index, text in enumerate(texts) if fingerprints([text]) & judged]


def write_fingerprints(
    folder: Path, splits: Mapping[str, Iterable[Mapping[str, Any]]], replay: Path | None = None
) -> None:
    """Keeps the fingerprints of train (replayed rows too) and test rows for recipes above."""
    found = {
        name: sorted(fingerprints(row_text(row) for row in splits.get(name, ())))
        for name in ("train", "test")
    }
    if replay is not None:
        found["train"] = sorted({*found["train"], *read_fingerprints(replay)["train"]})
    (folder / FINGERPRINTS).write_text(json.dumps(found), encoding="utf-8")


def read_fingerprints(folder: Path) -> dict[str, list[str]]:
    """What write_fingerprints kept."""
    found: dict[str, list[str]] = json.loads((folder / FINGERPRINTS).read_text(encoding="utf-8"))
    return found
