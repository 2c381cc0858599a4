"""Batches of rows of like length, padded. B rows of the batch, T tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.core.errors import DataError

if TYPE_CHECKING:
    import torch

Row = Mapping[str, Any]
OnProgress = Callable[[int, int], None]
RowsAtOnce = int | Callable[[int], int]
"""How many rows a batch takes at most; where that hangs on its longest row, of whose tokens."""
Told = TypeVar("Told")
Record = TypeVar("Record")


def ask_in_batches(
    rows: Sequence[Row],
    lengths: Sequence[int],
    batch_size: RowsAtOnce,
    ask: Callable[[Sequence[Row]], Sequence[Told]],
    record: Callable[[Row, Told, float], Record],
    *,
    on_progress: OnProgress | None = None,
    on_done: Callable[[list[Record]], None] | None = None,
) -> list[Record]:
    """Asks all rows, those of like length together, and records what was told of each.

    Args:
        lengths: tokens of each row, by which batches are made.
        ask: one batch to what is told of each of its rows.
        record: a row, what was told of it, and the seconds that fall to it: the batch's
            over its rows.
        on_progress: called with (rows done, rows in all) after each batch.
        on_done: called after each batch with its records.

    Returns:
        Records in the rows' order.
    """
    made: list[Record | None] = [None] * len(rows)
    done = 0
    for batch in batches(lengths, batch_size):
        chosen = [rows[index] for index in batch]
        start = time.perf_counter()
        told = ask(chosen)
        seconds = (time.perf_counter() - start) / len(batch)
        records = [record(row, one, seconds) for row, one in zip(chosen, told, strict=True)]
        for index, one in zip(batch, records, strict=True):
            made[index] = one
        done += len(batch)
        if on_done is not None:
            on_done(records)
        if on_progress is not None:
            on_progress(done, len(rows))
    return [one for one in made if one is not None]


def batches(lengths: Sequence[int], batch_size: RowsAtOnce) -> Iterator[list[int]]:
    """Indices of rows of like length together, the longest first.

    Longest first, so that memory runs out in the first batch or never.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    start = 0
    while start < len(order):
        size = batch_size if isinstance(batch_size, int) else batch_size(lengths[order[start]])
        if size < 1:
            raise ValueError(f"batch_size is {size}; at least 1 is needed")
        yield order[start : start + size]
        start += size


def padded(
    rows: Sequence[Sequence[int]], pad_id: int, *, left: bool, device: torch.device | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both [B, T] of int64."""
    import torch

    width = max(len(row) for row in rows)
    ids, mask = [], []
    for row in rows:
        blank = width - len(row)
        if left:
            ids.append([pad_id] * blank + list(row))
            mask.append([0] * blank + [1] * len(row))
        else:
            ids.append(list(row) + [pad_id] * blank)
            mask.append([1] * len(row) + [0] * blank)
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def check_length(example_id: str, tokens: int, limit: int | None, room: int) -> None:
    """Refuses a row without tokens, or one that leaves no ``room`` within the context.

    Raises:
        DataError: names the row, its tokens and the limit.
    """
    if tokens < 1:
        raise DataError(f"{example_id}: it has no tokens; drop the row or mend its template")
    if limit is not None and tokens + room > limit:
        told = f" and {room} for the answer" if room else ""
        raise DataError(
            f"{example_id}: {tokens} tokens{told} exceed the model's context of {limit}; shorten "
            "the row or lower max_length"
        )


def device_of(model: Any) -> torch.device:
    """Where the model's first parameter lies."""
    device: torch.device = next(model.parameters()).device
    return device


@contextmanager
def judged_model(model: Any) -> Iterator[None]:
    """No gradients and no dropout within; the model's own mode again afterwards."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
