"""Rows and values that an objective cannot learn from: refused with the row's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DataError, TrainingError
from pipeline.data.arrow import write_split
from pipeline.training.modules import module_for
from pipeline.training.targets import batch_of, target_count
from tests.training.objective_case import CONFIG, qwen, rows, trainee_of


def test_batch_with_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    for objective in ("sft", "tag", "hybrid"):
        trainee, config = trainee_of(objective, qwen(), tmp_path)
        empty = [
            {**row, "supervised": [0] * len(row["input_ids"]), "tags": [-100] * len(row["tags"])}
            for row in rows()
        ]
        with pytest.raises(TrainingError, match="without supervised tokens"):
            target_count(trainee.module, batch_of(empty, trainee, config, 0))


@pytest.mark.parametrize(
    ("objective", "change", "reason"),
    [
        ("classify", {"label": "z"}, "row 'r0': label 'z'"),
        ("hybrid", {"label": None}, "row 'r0': label None"),
        ("tag", {"tags": [0, 1]}, "row 'r0': its tags"),
        ("tag", {"tags": [9] * 9}, "row 'r0': its tags"),
    ],
)
def test_row_that_does_not_fit_is_named(
    objective: str, change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    trainee, config = trainee_of(objective, qwen(), tmp_path)
    first, *others = rows()
    with pytest.raises(DataError, match=reason):
        batch_of([{**first, **change}, *others], trainee, config, 0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([3.0, 3.0], r"every value is 3\.0"), ([1.0, None], "is None"), ([1.0, float("inf")], "inf")],
)
def test_values_that_cannot_be_learned_are_refused(
    values: list[Any], reason: str, tmp_path: Path
) -> None:
    made = [{**row, "value": value} for row, value in zip(rows(), values, strict=False)]
    write_split(tmp_path / "train.arrow", made)
    with pytest.raises(DataError, match=reason):
        module_for("regress", qwen(), tmp_path, {**CONFIG, "objective": "regress"}, ())
