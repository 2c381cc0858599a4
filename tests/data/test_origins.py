"""Where a source's rows come from: a stage's own file, a hub data set, a generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DataError
from pipeline.data.generators import generate
from pipeline.data.origins import ROWS, source_chunks
from pipeline.data.rows import Placed


def rows(source: dict[str, Any], file: Path | None = None, folder: Path | None = None) -> list[Any]:
    chunks = source_chunks(source, file, folder, "data.train")
    found = [row for chunk in chunks for row in chunk.rows()]
    assert all(isinstance(row, Placed) for row in found)
    return [row.row for row in found]


def test_rows_that_a_stage_made_are_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / ROWS).write_text(json.dumps({"text": "made"}) + "\n")
    assert rows({"made": True}, folder=tmp_path) == [{"text": "made"}]


def test_a_file_is_read_where_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "given"}\n')
    assert rows({"split": "train"}, file=file, folder=tmp_path / "other") == [{"text": "given"}]
    assert rows({"url": file.as_uri()}) == [{"text": "given"}]


def test_a_generator_gives_what_it_makes(tmp_path: Path) -> None:
    source = {"generator": {"generator": "retail_banking"}, "part": "intents_test", "seed": 3}
    assert rows(source) == generate("retail_banking", "intents_test", 3)
    with pytest.raises(DataError, match="part 'no' does not exist"):
        rows({**source, "part": "no"})


def test_a_hub_data_set_is_read_split_by_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"text": split}) + "\n")
    assert rows({"repo": "a/b"}, folder=tmp_path) == [{"text": "train"}]
    assert rows({"repo": "a/b", "split": "test"}, folder=tmp_path) == [{"text": "test"}]
