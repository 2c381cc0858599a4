"""Who followed instructions: texts of stage `generated` as answers that can be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from eval.record import read_predictions
from eval.results import ModelResult


def answers_file(suite: str) -> str:
    """The name of the file with a suite's texts."""
    return f"answers-{suite}.jsonl"


def followers(folders: Iterable[Path]) -> list[ModelResult]:
    """One result for each model with suites of instructions; seeds play no part in them.

    Its answers are right where every instruction of their prompt was followed strictly.

    Args:
        folders: of the stage's Reports.
    """
    found = []
    for folder in folders:
        records = json.loads((folder / "generated.json").read_text(encoding="utf-8"))
        checked = [record for record in records if record["kind"] == "instructions"]
        if not checked:
            continue
        about = {key: checked[0][key] for key in ("name", "level", "role", "seed")}
        names = [record["suite"] for record in checked]
        found.append(
            ModelResult(
                **about,
                arm="generate",
                predictions={name: read_predictions(folder / answers_file(name)) for name in names},
                kinds=dict.fromkeys(names, "label"),
            )
        )
    return found
