"""How many rows at once, and what is said when they do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from pipeline.core.errors import OutOfMemory

# What torch's CPU allocator, its CUDA allocator's children and malloc say.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def micro_batch(options: Mapping[str, Any], rows: int, fitting: int) -> int:
    """Rows of one forward pass.

    Args:
        options: micro_batch_size, where the recipe or a halving set it.
        rows: of the global batch.
        fitting: rows that stay within the tokens that are taken at once.
    """
    asked = options.get("micro_batch_size")
    return max(1, min(rows, int(asked or fitting)))


@contextlib.contextmanager
def memory_errors(rows: Any) -> Iterator[None]:
    """Turns a lack of memory into one line with the setting to change.

    Args:
        rows: called for the rows of the micro-batch that was at work.

    Raises:
        OutOfMemory: with the micro-batch that did not fit.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(word in str(error).lower() for word in _WORDS):
            raise
        size = int(rows())
        smaller = (
            f"set train.micro_batch_size={size // 2}, or train.auto_micro_batch=true"
            if size > 1
            else "set train.gradient_checkpointing=true, method qlora or a smaller train.max_length"
        )
        first = (str(error).splitlines() or ["no more memory"])[0][:120]
        found = OutOfMemory(f"train: out of memory with {size} rows at once ({first}); {smaller}")
        found.rows = size
        # The traceback would keep every tensor of the failed pass alive.
        raise found from None
