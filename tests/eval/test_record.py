"""The records: what is written is read back, and nonsense is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.record import (
    Prediction,
    TextLoss,
    read_losses,
    read_predictions,
    write_losses,
    write_predictions,
)
from pipeline.core.errors import DataError, IntegrityError

PREDICTIONS = [
    Prediction("a", "card", "card", {"card": -0.25, "pin": -1.5}, None, 0.01, 12, 0, -93.25),
    Prediction("b", "pin", None, None, "a “line”\nbreak 汉字", 0.5, 7, 3),
]


def test_predictions_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.jsonl", PREDICTIONS)
    assert read_predictions(tmp_path / "p.jsonl") == PREDICTIONS
    assert (tmp_path / "p.jsonl").read_text(encoding="utf-8").count("\n") == 2


def test_losses_come_back_as_they_were_written(tmp_path: Path) -> None:
    losses = [TextLoss("d", 0.1 + 0.2, 3, 11)]
    write_losses(tmp_path / "l.jsonl", losses)
    assert read_losses(tmp_path / "l.jsonl") == losses


def test_nan_score_is_refused_and_named(tmp_path: Path) -> None:
    bad = Prediction("x7", "a", "a", {"a": float("nan")}, None, 0.0, 1, 0)
    with pytest.raises(DataError, match=r"x7: scores\['a'\] is nan"):
        write_predictions(tmp_path / "p.jsonl", [bad])


def test_nan_in_a_file_is_refused_with_its_line(tmp_path: Path) -> None:
    write_losses(tmp_path / "l.jsonl", [TextLoss("d", 1.0, 3, 11)])
    text = (tmp_path / "l.jsonl").read_text().replace("1.0", "NaN")
    (tmp_path / "l.jsonl").write_text(text)
    with pytest.raises(IntegrityError, match=r"l\.jsonl:1: .*NaN is no number"):
        read_losses(tmp_path / "l.jsonl")


@pytest.mark.parametrize("line", ['{"example_id": "a"', '{"example_id": "a"}', "[1]"])
def test_broken_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    write_losses(tmp_path / "l.jsonl", [TextLoss("d", 1.0, 3, 11)])
    with (tmp_path / "l.jsonl").open("a") as out:
        out.write(line + "\n")
    with pytest.raises(IntegrityError, match=r"l\.jsonl:2: "):
        read_losses(tmp_path / "l.jsonl")
