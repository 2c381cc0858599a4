"""Rows share blocks of one length: best-fit decreasing inside a bounded window.

Source: Johnson et al. 1974, "Worst-case performance bounds for simple one-dimensional packing
algorithms", section 2 (best fit, largest first). A row is never cut, so nothing of it loses
its context; ``windows`` cuts what is longer than a block before.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import DataError
from pipeline.data.rows import Row

# Rows that are looked at together. More gains little: the emptiest block is carried on.
WINDOW = 8192
TOKENWISE = ("input_ids", "supervised", "tags")
"""Columns with one value for each token; those without any are empty or null."""
# Long rows fill a window sooner: this many blocks' worth of tokens is all that is held.
_WINDOW_BLOCKS = 512

_Member = tuple[str, NDArray[np.int32], NDArray[np.int8]]


def pack_stream(rows: Iterable[Row], length: int, window: int = WINDOW) -> Iterator[Row]:
    """Blocks of at most ``length`` tokens; every row stands whole in exactly one of them.

    Memory is bounded by ``window`` rows, by _WINDOW_BLOCKS blocks of tokens and one block that
    is carried on. The blocks are a function of the rows and their order alone.

    Args:
        rows: ``example_id``, ``input_ids`` and ``supervised`` (lists or arrays of one length).
        length: tokens of a block.
        window: rows that are sorted and placed together.

    Yields:
        Rows with ``example_id`` ("block-N", from 0), ``text`` "", ``label`` None, ``input_ids``
        (int32 array), ``supervised`` (int8 array), ``lengths`` (tokens of each member, in
        order) and ``members`` (their example_ids).

    Raises:
        DataError: a row without tokens, longer than a block, or with other flags than tokens.
    """
    if length < 1 or window < 1:
        raise DataError(f"packing: length {length}, window {window}; both must be at least 1")
    held: list[_Member] = []
    new, tokens = 0, 0
    number = itertools.count()
    for row in rows:
        held.append(_member(row, length))
        new, tokens = new + 1, tokens + len(held[-1][1])
        if new < window and tokens < _WINDOW_BLOCKS * length:
            continue
        blocks = best_fit([len(ids) for _, ids, _ in held], length)
        # One block at the most is emptier than need be: its rows go on to the next window.
        rest = blocks.pop(_emptiest(blocks, held))
        for block in blocks:
            yield _block(next(number), [held[index] for index in block])
        held = [held[index] for index in rest]
        new, tokens = 0, 0
    for block in best_fit([len(ids) for _, ids, _ in held], length):
        yield _block(next(number), [held[index] for index in block])


def best_fit(lengths: Sequence[int] | NDArray[Any], capacity: int) -> list[list[int]]:
    """Which rows go together: the longest first, each where it leaves least space.

    Args:
        lengths: tokens of each row, from 1 to ``capacity``.
        capacity: tokens of a block.

    Returns:
        Row numbers of each block, in the order of opening.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    smallest = int(sizes.min()) if len(sizes) else 0
    blocks: list[list[int]] = []
    # Blocks by their free space, and which spaces there are: one bisection finds the best fit.
    spaces: list[int] = []
    with_space: list[list[int]] = [[] for _ in range(capacity + 1)]
    for index, need in zip(order.tolist(), sizes[order].tolist(), strict=True):
        at = bisect_left(spaces, need)
        if at == len(spaces):
            chosen, space = len(blocks), capacity
            blocks.append([index])
        else:
            space = spaces[at]
            chosen = with_space[space].pop()
            if not with_space[space]:
                del spaces[at]
            blocks[chosen].append(index)
        space -= need
        if space >= smallest:
            if not with_space[space]:
                insort(spaces, space)
            with_space[space].append(chosen)
    return blocks


def windows(row: Row, longest: int) -> list[Row]:
    """Consecutive windows of a document: joined, they are the document.

    A token is predicted from those before it in its window, so every one but the first of each
    window is a target, once. A window of one token would have none: where one would be left
    over, the window before it is one shorter and the last holds two. ``longest`` is at least 3.
    The ids of arrays are views, not copies.
    """
    ids = row["input_ids"]
    if len(ids) <= longest:
        return [row]
    bounds = [*range(0, len(ids), longest), len(ids)]
    if bounds[-1] - bounds[-2] == 1:
        bounds[-2] -= 1
    return [
        {
            **row,
            "example_id": f"{row['example_id']}#{start}",
            **{name: row[name][start:end] for name in TOKENWISE if row.get(name) is not None},
        }
        for start, end in itertools.pairwise(bounds)
    ]


def _member(row: Row, length: int) -> _Member:
    ids = np.asarray(row["input_ids"], dtype=np.int32)
    flags = np.asarray(row["supervised"], dtype=np.int8)
    if not 0 < len(ids) <= length:
        raise DataError(
            f"packing: row {row['example_id']} has {len(ids)} tokens, a block has {length}; "
            "set train.over_length, or raise train.max_length"
        )
    if len(flags) != len(ids):
        raise DataError(
            f"packing: row {row['example_id']} has {len(flags)} loss flags for {len(ids)} tokens; "
            "only rows of objectives that predict the next token can be packed"
        )
    return str(row["example_id"]), ids, flags


def _emptiest(blocks: Sequence[Sequence[int]], held: Sequence[_Member]) -> int:
    filled = [sum(len(held[index][1]) for index in block) for block in blocks]
    return filled.index(min(filled))


def _block(number: int, members: Sequence[_Member]) -> Row:
    return {
        "example_id": f"block-{number}",
        "text": "",
        "label": None,
        "input_ids": np.concatenate([ids for _, ids, _ in members]),
        "supervised": np.concatenate([flags for _, _, flags in members]),
        "lengths": [len(ids) for _, ids, _ in members],
        "members": [name for name, _, _ in members],
    }
