"""An export against the model before it, on the same items: what passes, and what does not."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval.export_gate import JudgeExport
from eval.record import Prediction, TextLoss, write_losses, write_predictions
from pipeline.core.errors import DataError, IntegrityError

CONFIG = {
    "name": "x", "level": "L2", "arm": "generate", "seed": 1, "not_worse_by": 0.02,
    "at_most_ratio": 1.02,
}  # fmt: skip
"""As a plan writes it."""


def report(
    folder: Path, right: list[bool] | None = None, losses: list[float] | None = None
) -> SimpleNamespace:
    folder.mkdir()
    for name in ("kinds", "costs", "groups", "seconds"):
        (folder / f"{name}.json").write_text("{}")
    if right is not None:
        rows = [
            Prediction(f"r{i}", "a", "a" if good else "b", None, None, 0.1, 1, 1)
            for i, good in enumerate(right)
        ]
        write_predictions(folder / "predictions-test.jsonl", rows)
    if losses is not None:
        documents = [TextLoss(f"d{i}", loss, 10, 40) for i, loss in enumerate(losses)]
        write_losses(folder / "losses-general.jsonl", documents)
    return SimpleNamespace(path=folder)


def judged(tmp_path: Path, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    inputs: Any = {
        "unquantised": report(tmp_path / "before", **before),
        "exported": report(tmp_path / "after", **after),
    }
    out = tmp_path / "out"
    out.mkdir()
    JudgeExport().run(inputs, CONFIG, SimpleNamespace(out=out))  # type: ignore[arg-type]
    tree: dict[str, Any] = json.loads((out / "report.json").read_text())
    return tree


@pytest.mark.parametrize(
    ("lost", "status"), [(0, "pass"), (2, "pass"), (20, "undecided"), (120, "fail")]
)
def test_accuracy_is_judged_by_the_paired_difference(
    tmp_path: Path, lost: int, status: str
) -> None:
    before = [True] * 800 + [False] * 200
    after = [False] * lost + before[lost:]
    tree = judged(tmp_path, {"right": before}, {"right": after})
    (gate,) = tree["comparison"]["gates"]
    assert gate["status"] == status
    assert gate["estimate"] == pytest.approx(-lost / 1000)
    assert gate["low"] <= gate["estimate"] <= gate["high"]
    assert gate["text"].startswith("export: accuracy of generate on test: ")
    assert " against unquantised " in gate["text"]


def test_pairing_sees_what_two_samples_could_not(tmp_path: Path) -> None:
    before = [True, False] * 200
    tree = judged(tmp_path, {"right": before}, {"right": before})
    (gate,) = tree["comparison"]["gates"]
    (figure,) = tree["figures"]
    # One accuracy is sure within 5 points, and their difference within 2.
    assert figure["exported"]["high"] - figure["exported"]["low"] > 0.09
    assert gate["status"] == "pass"


@pytest.mark.parametrize(("factor", "status"), [(1.01, "pass"), (1.05, "fail")])
def test_texts_are_judged_by_the_ratio_of_losses(
    tmp_path: Path, factor: float, status: str
) -> None:
    before = [20.0 + i for i in range(30)]
    tree = judged(tmp_path, {"losses": before}, {"losses": [factor * loss for loss in before]})
    (gate,) = tree["comparison"]["gates"]
    assert (gate["status"], gate["metric"]) == (status, "loss")
    assert gate["estimate"] == pytest.approx(factor)


def test_other_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="different items"):
        judged(tmp_path, {"right": [True] * 9}, {"right": [True] * 8})


def test_nothing_measured_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing tells what fewer bits cost"):
        judged(tmp_path, {}, {})
