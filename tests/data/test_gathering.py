"""The first pass: times are read or refused, and cleaned rows are told by their step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.gathering import label_of
from pipeline.data.template import has_chat_template
from tests.data.preparing import TEXTS, adds_up, documents, entries, names, prepare

LATEST = {"carve": 0.25, "by": None, "time": "day", "seed": 1}


@pytest.mark.parametrize(
    "days", [[5, 40, 6, 7.5], ["2026-01-01", "2026-03-01T00:00:00+01:00", "2026-01-02", "2025"]]
)
def test_numbers_and_dates_put_rows_in_the_order_of_time(
    root: Artifact, tmp_path: Path, days: list[Any]
) -> None:
    days = [f"{day}-12-31" if day == "2025" else day for day in days]
    rows = [{"text": text, "day": day} for text, day in zip(TEXTS, days, strict=False)]
    made, _ = prepare(tmp_path, root, {"train": rows}, carve=LATEST)
    assert names(made, "validation") == ["1"]


@pytest.mark.parametrize("day", ["soon", True, [1], 10**400, "2026-13-01"])
def test_what_is_no_time_is_quarantined(root: Artifact, tmp_path: Path, day: Any) -> None:
    rows = [{"text": text, "day": n} for n, text in enumerate(TEXTS)]
    rows[2]["day"] = day
    made, facts = prepare(tmp_path, root, {"train": rows}, carve=LATEST, max_quarantined=1)
    (entry,) = entries(made, "quarantined")
    assert entry["place"].endswith("train.jsonl:3")
    assert entry["reason"].endswith("is no time (a number or an ISO date)")
    assert adds_up(facts)


def test_a_row_that_cleaning_drops_is_listed_with_its_place_and_step(
    root: Artifact, tmp_path: Path
) -> None:
    rows = documents([*TEXTS[:3], "a b"])
    made, facts = prepare(tmp_path, root, {"train": rows}, clean={"min_characters": 5})
    (entry,) = entries(made, "dropped")
    assert (entry["place"].rpartition(":")[2], entry["reason"]) == (
        "4",
        "cleaned: min_characters: 3",
    )
    assert facts["funnel"]["train"]["cleaned"] == 1
    assert adds_up(facts)


def test_a_split_of_which_cleaning_leaves_nothing_is_refused(
    root: Artifact, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"data\.train: no rows are left; 16 of 16 are cleaned"):
        prepare(tmp_path, root, {"train": documents(TEXTS)}, clean={"min_characters": 500})


def test_thinking_and_several_labels_are_noted(root: Artifact, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a ship"},
             {"role": "assistant", "content": "aye", "reasoning_content": "hm"}]  # fmt: skip
    _, facts = prepare(tmp_path / "m", root, {"train": [{"messages": turns}]}, render="sft",
                       source={"format": "messages"})  # fmt: skip
    assert facts["funnel"]["train"]["details"]["rows with thinking"] == 1
    several = [{"text": text, "label": ["b", "a"]} for text in TEXTS]
    _, facts = prepare(tmp_path / "l", root, {"train": several}, render="sft")
    assert facts["funnel"]["train"]["details"]["rows with several labels"] == len(TEXTS)
    assert facts["labels"] == 0
    assert label_of({"labels": ["a", "b"]}) == "a, b"


def test_a_chat_template_is_told_from_the_files_alone(tmp_path: Path) -> None:
    assert has_chat_template(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert not has_chat_template(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    assert has_chat_template(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("x")
    assert has_chat_template(tmp_path)
