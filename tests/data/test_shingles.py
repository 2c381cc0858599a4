"""Shingles and exact groups against plain Python sets."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.shingles import (
    Texts,
    exact_groups,
    hash_of,
    letters_and_digits,
    multipliers,
    shingle_sets,
)

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def words_of(text: str) -> str:
    return re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def shingles_of(text: str) -> set[str]:
    words = words_of(text)
    return {words[i : i + 5] for i in range(max(1, len(words) - 4)) if words}


@given(st.lists(st.text(max_size=30), min_size=1, max_size=8))
@settings(deadline=None)
def test_hashes_are_one_to_one_with_shingles(texts: list[str]) -> None:
    sets = shingle_sets(texts, multipliers(0))
    expected = [shingles_of(text) for text in texts]
    assert sets.sizes.tolist() == [len(found) for found in expected]
    hashes = set(hash_of(sets.keys).tolist())
    assert len(hashes) == len(set().union(*expected))


def test_a_hash_does_not_depend_on_the_neighbours() -> None:
    odd = multipliers(0)
    alone = [hash_of(shingle_sets([text], odd).keys).tolist() for text in ("ab", "abcdefg", "ﬁn")]
    sets = shingle_sets(["ab", "abcdefg", "ﬁn"], odd)
    assert np.array_split(hash_of(sets.keys), sets.starts[1:-1])[1].tolist() == alone[1]
    assert hash_of(sets.keys[:1]).tolist() == alone[0]


@given(st.text())
def test_letters_and_digits_are_what_isalnum_says(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text).casefold()
    assert letters_and_digits(text) == "".join(c for c in folded if c.isalnum())


@given(st.lists(st.text(alphabet="aAbﬁ .!_①1", max_size=4), max_size=12))
@settings(deadline=None)
def test_exact_groups_are_the_first_rows_of_the_same_text(texts: list[str]) -> None:
    known = [letters_and_digits(text) or f"symbols {text}" for text in texts]
    assert exact_groups(texts).tolist() == [known.index(text) for text in known]


def test_symbols_are_the_same_only_as_themselves() -> None:
    assert exact_groups(["...", "?!", "...", "", "a!", "A"]).tolist() == [0, 1, 0, 3, 4, 4]


def test_an_arrow_column_reads_as_a_list() -> None:
    column = pa.chunked_array([["a", None], [], ["c"]], pa.string())
    rows = np.array([2, 0, 1, 2])
    assert Texts(column).pick(rows) == ["c", "a", "", "c"]
    assert Texts(["a", "", "c"]).pick(rows) == ["c", "a", "", "c"]
    assert len(Texts(column)) == 3


def test_blocks_hold_every_text_in_order() -> None:
    texts = ["x" * 700_000, "y", "z" * 2_000_000, "", "w" * 10]
    blocks = list(Texts(texts).blocks(np.arange(len(texts))))
    assert [text for block in blocks for text in block] == texts
    assert len(blocks) == 3


def test_the_31_repeated_titles_of_thucnews_are_found() -> None:
    folder = SHARED / "thucnews_titles"
    if not folder.is_dir():
        pytest.skip("needs the THUCNews titles beside the checkout")
    train, test = (
        [json.loads(line)["text"] for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    )
    groups = exact_groups([*train, *test])[len(train) :]
    # Counted once by hand, with other code.
    assert (groups < len(train)).sum() == 31
