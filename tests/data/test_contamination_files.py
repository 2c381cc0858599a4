"""Texts kept for the recipes above."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import IntegrityError
from pipeline.data.contamination import Item, RowTexts
from pipeline.data.contamination_files import read_items, read_texts, write_items, write_texts

ROWS = [
    RowTexts("0", ("a document",), "a document"),
    RowTexts("1", ("one\ntwo", "one", "two"), "one\nyes\ntwo\nno"),
    RowTexts("1/汉", ("",), ""),
]


def test_what_is_written_is_read_batch_by_batch(tmp_path: Path) -> None:
    assert write_texts(tmp_path, iter(ROWS * 1000)) == 3000
    batches = list(read_texts(tmp_path))
    assert [len(batch) for batch in batches] == [1024, 1024, 952]
    assert [row for batch in batches for row in batch] == ROWS * 1000


def test_items_keep_their_passage_and_take_the_name_of_the_suite(tmp_path: Path) -> None:
    items = [Item("", "0", "what?"), Item("", "1", "when?", "a passage", ("all of it", "when?"))]
    assert write_items(tmp_path, iter(items)) == 2
    assert list(read_items(tmp_path, "s")) == [
        Item("s", "0", "what?"),
        Item("s", "1", "when?", "a passage", ("all of it", "when?")),
    ]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_texts(tmp_path / name, ROWS * 700)
    files = [(tmp_path / name / "texts-train.arrow").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_a_dataset_without_texts_has_none(tmp_path: Path) -> None:
    assert list(read_texts(tmp_path)) == []
    assert list(read_items(tmp_path, "s")) == []
    assert write_texts(tmp_path, []) == 0
    assert list(read_texts(tmp_path)) == []


def test_a_lone_surrogate_does_not_stop_the_gate(tmp_path: Path) -> None:
    write_texts(tmp_path, [RowTexts("\ud800", ("a \ud800",), "b \udfff")])
    assert list(read_texts(tmp_path)) == [[RowTexts("?", ("a ?",), "b ?")]]


@pytest.mark.parametrize("spoil", ["cut", "other", "text"])
def test_a_spoilt_file_is_named(tmp_path: Path, spoil: str) -> None:
    write_texts(tmp_path, ROWS * 700)
    file = tmp_path / "texts-train.arrow"
    if spoil == "cut":
        file.write_bytes(file.read_bytes()[:-400])
    elif spoil == "text":
        file.write_text("no Arrow at all")
    else:
        write_items(tmp_path, [Item("", "0", "what?")])
        (tmp_path / "texts-test.arrow").rename(file)
    with pytest.raises(IntegrityError, match=r"texts-train\.arrow: .*prepare it again"):
        list(read_texts(tmp_path))
