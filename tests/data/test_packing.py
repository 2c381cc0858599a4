"""Best-fit packing: nothing lost, nothing cut, little wasted, the same each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.packing import best_fit, pack_stream, windows

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
LENGTHS = st.lists(st.integers(1, 32), max_size=120)


def rows(lengths: list[int]) -> list[dict[str, Any]]:
    """Rows whose every token says where it stands: no two are equal."""
    ids = np.arange(sum(lengths), dtype=np.int32)
    ends = np.cumsum([0, *lengths])
    return [
        {"example_id": f"r{i}", "text": "t", "label": "l", "input_ids": ids[a:b],
         "supervised": (ids[a:b] % 2).astype(np.int8)}
        for i, (a, b) in enumerate(pairwise(ends))
    ]  # fmt: skip


def plain(block: dict[str, Any]) -> dict[str, Any]:
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in block.items()}


@given(LENGTHS, st.integers(1, 40))
def test_every_row_stands_whole_in_exactly_one_block(lengths: list[int], window: int) -> None:
    given_rows = {row["example_id"]: row for row in rows(lengths)}
    seen: list[str] = []
    for number, block in enumerate(pack_stream(given_rows.values(), 32, window)):
        assert block["example_id"] == f"block-{number}"
        assert sum(block["lengths"]) == len(block["input_ids"]) == len(block["supervised"]) <= 32
        start = 0
        for name, length in zip(block["members"], block["lengths"], strict=True):
            row = given_rows[name]
            part = slice(start, start + length)
            np.testing.assert_array_equal(block["input_ids"][part], row["input_ids"])
            np.testing.assert_array_equal(block["supervised"][part], row["supervised"])
            start += length
        seen += block["members"]
    assert sorted(seen) == sorted(given_rows)


def naive_best_fit(lengths: list[int], capacity: int) -> list[int]:
    """Free space of each block, by looking at all of them each time."""
    free: list[int] = []
    for need in sorted(lengths, reverse=True):
        fitting = [i for i, space in enumerate(free) if space >= need]
        if fitting:
            free[min(fitting, key=free.__getitem__)] -= need
        else:
            free.append(capacity - need)
    return sorted(free)


@given(LENGTHS)
def test_best_fit_is_the_textbooks(lengths: list[int]) -> None:
    found = best_fit(lengths, 32)
    assert sorted(i for block in found for i in block) == list(range(len(lengths)))
    assert sorted(32 - sum(lengths[i] for i in b) for b in found) == naive_best_fit(lengths, 32)


def test_lists_and_arrays_make_the_same_blocks() -> None:
    lengths = [5, 30, 12, 7, 9, 32, 1, 18, 14]
    listed = [plain(row) for row in rows(lengths)]
    assert [plain(b) for b in pack_stream(rows(lengths), 32, 4)] == [
        plain(b) for b in pack_stream(listed, 32, 4)
    ]


def test_no_more_than_a_window_is_held() -> None:
    drawn = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for row in rows([8] * 1000):
            drawn += 1
            yield row

    given_out = 0
    for block in pack_stream(source(), 32, 50):
        given_out += len(block["members"])
        # The rows of the emptiest block are carried on, four at the most.
        assert drawn - given_out <= 50 + 4


def test_long_rows_end_a_window_before_its_rows_are_many() -> None:
    drawn = 0

    def source() -> Iterator[dict[str, Any]]:
        nonlocal drawn
        for row in rows([32] * 2000):
            drawn += 1
            yield row

    next(pack_stream(source(), 32))
    assert drawn == 512


def test_tiny_rows_fill_their_blocks_across_windows() -> None:
    blocks = list(pack_stream(rows([3, 5, 2, 4] * 500), 512, 100))
    assert sum(len(b["input_ids"]) for b in blocks) / (512 * len(blocks)) > 0.97


def test_alpaca_fills_97_of_100_slots_at_2048() -> None:
    folder = SHARED / "alpaca_gpt4_demo"
    vocabulary = SHARED / "tokenizers/gpt2"
    if not folder.is_dir() or not vocabulary.is_dir():
        pytest.skip("the alpaca rows or the gpt2 tokenizer are not here")
    from tokenizers import Tokenizer, models, pre_tokenizers

    files = (str(vocabulary / name) for name in ("vocab.json", "merges.txt"))
    tokenizer = Tokenizer(models.BPE.from_file(*files))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    texts = []
    for name in ("en", "zh"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts.append(f"{row['instruction']}\n{row['input']}\n{row['output']}")
    lengths = np.array([len(encoded.ids) for encoded in tokenizer.encode_batch(texts)])
    assert lengths.max() <= 2048
    many = np.random.default_rng(0).choice(lengths, 20_000)
    ids, flags = np.zeros(2048, np.int32), np.ones(2048, np.int8)
    source = (
        {"example_id": str(i), "input_ids": ids[:n], "supervised": flags[:n]}
        for i, n in enumerate(many.tolist())
    )
    blocks = [len(block["input_ids"]) for block in pack_stream(source, 2048)]
    assert sum(blocks) == many.sum()
    assert sum(blocks) / (2048 * len(blocks)) >= 0.97


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"input_ids": [1] * 9, "supervised": [1] * 9}, "row bad has 9 tokens, a block has 8"),
        ({"input_ids": [], "supervised": []}, "row bad has 0 tokens"),
        ({"input_ids": [1, 2], "supervised": []}, "row bad has 0 loss flags for 2 tokens"),
    ],
)
def test_row_that_cannot_be_packed_is_named(row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(pack_stream([{"example_id": "bad", **row}], 8))


def test_window_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="window 0"):
        list(pack_stream([], 8, 0))


@given(st.integers(1, 60), st.integers(3, 20))
@example(97, 32)
def test_windows_joined_are_the_document(length: int, longest: int) -> None:
    (row,) = rows([length])
    parts = windows(row, longest)
    for name in ("input_ids", "supervised"):
        joined = np.concatenate([part[name] for part in parts])
        np.testing.assert_array_equal(joined, row[name])
    assert len(parts) == -(-length // longest)
    assert all(len(part["input_ids"]) == len(part["supervised"]) <= longest for part in parts)
    assert len({part["example_id"] for part in parts}) == len(parts)
    assert windows(plain(row), longest) == [plain(part) for part in parts]


@given(st.integers(2, 60), st.integers(3, 20))
@example(97, 32)
def test_every_token_is_a_target_once_but_the_first_of_each_window(
    length: int, longest: int
) -> None:
    (row,) = rows([length])
    row["supervised"] = np.ones(length, np.int8)
    targets, firsts = [], []
    for part in windows(row, longest):
        # What a causal model predicts: each token from those before it in its window.
        pairs = list(zip(part["input_ids"].tolist(), part["supervised"].tolist(), strict=True))
        assert len(pairs) >= 2
        firsts.append(pairs[0][0])
        targets += [token for token, flag in pairs[1:] if flag]
    assert sorted(targets + firsts) == list(range(length))
    # The last token, which ends the document, is learned whatever the length.
    assert length - 1 in targets
