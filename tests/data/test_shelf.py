"""Rows on disk between the passes: one name for each, whatever ids they brought."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.data.shelf import Shelf, ShelfWriter, read_batch


def digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") if text else 0


def shelf_of(path: Path, batches: list[list[str]], first: int) -> Shelf:
    """Rows with these ids; those of batches from ``first`` on come from a second source."""
    writer = ShelfWriter(path)
    numbers = [itertools.count(), itertools.count()]
    for number, ids in enumerate(batches):
        source = int(number >= first)
        texts = ['{"text": "x"}'] * len(ids)
        writer.write(
            [texts, texts, texts, texts, ids],
            [None] * len(ids),
            {
                "ordinal": np.array([next(numbers[source]) for _ in ids], np.int64),
                "source": np.full(len(ids), source, np.int16),
                "id_hash": np.array([digest(i) for i in ids], np.uint64),
            },
        )
    return writer.close()


IDS = st.sampled_from(["", "", "0", "1", "a", "a~1", "a~1~2", "~0", "1/0", "1/a"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(IDS, min_size=1, max_size=4), min_size=1, max_size=4), st.integers(1, 4))
@example([["1", ""]], 4)
@example([["a", "a", "a~1"]], 4)
@example([["1/0"], [""]], 1)
def test_no_two_rows_of_a_split_share_a_name(batches: list[list[str]], first: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shelf = shelf_of(Path(folder) / "shelf.arrow", batches, first)
        names = shelf.names(range(len(shelf)))
        assert len(set(names)) == len(names) == sum(map(len, batches))
        own = list(itertools.chain.from_iterable(batches))
        # A row without an id of its own is its number; and an id that nobody shares stays.
        for name, wanted, again in zip(names, own, shelf.again.tolist(), strict=True):
            bare = name.removeprefix("1/") if not wanted else name
            assert bare.isdigit() if not wanted else wanted in name
            assert not (again and not wanted)


def test_ids_that_nobody_shares_stay_as_they_are(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path / "shelf.arrow", [["b", "a"], ["c"]], 1)
    assert shelf.names(range(3)) == ["b", "a", "1/c"]
    assert not shelf.again.any()


def test_a_shelf_without_rows_is_empty(tmp_path: Path) -> None:
    shelf = ShelfWriter(tmp_path / "shelf.arrow").close()
    assert len(shelf) == 0
    assert shelf.texts().to_pylist() == []
    assert list(shelf.batches()) == []


def test_a_shelf_gives_back_the_rows_of_each_batch(tmp_path: Path) -> None:
    shelf = shelf_of(tmp_path / "shelf.arrow", [["a", "b"], ["c"]], 9)
    assert list(shelf.batches()) == [(0, 0), (1, 2)]
    assert read_batch(shelf.path, 1) == [{"text": "x"}] == shelf.rows_at([2])
    with pytest.raises(IndexError):
        shelf.rows_at([3])
