"""How many rows at once, and what is said when they do not fit."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from pipeline.core.errors import OutOfMemory

# What torch's CPU allocator, its CUDA allocator's children, malloc and the kernel say.
_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory",
)  # fmt: skip


def micro_batch(options: Mapping[str, Any], rows: int, fitting: int) -> int:
    """Rows of one forward pass.

    Args:
        options: micro_batch_size, where the recipe or a halving set it.
        rows: of the global batch.
        fitting: rows that stay within the tokens that are taken at once.
    """
    asked = options.get("micro_batch_size")
    return max(1, min(rows, int(asked or fitting)))


def frozen_in_bf16(config: Mapping[str, Any], *, gpu: bool) -> bool:
    """Whether frozen weights lie in bf16: a CPU is no faster with them, and less exact."""
    return gpu and config["method"] != "full" and config["precision"] == "bf16"


def let_go(error: BaseException | None) -> None:
    """Frees what the frames of a failed pass hold: its tensors, and the model's wrapper."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


@contextlib.contextmanager
def memory_errors(rows: Callable[[], int] | None) -> Iterator[None]:
    """Turns a lack of memory into one line with the setting to change.

    Args:
        rows: called for the rows that were at work at once; None while the model is built, when
            fewer rows would not help.

    Raises:
        OutOfMemory: with the micro-batch that did not fit.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError, OSError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not known and not any(word in str(error).lower() for word in _WORDS):
            raise
        size = 1 if rows is None else rows()
        what = "while the model was built" if rows is None else f"with {size} rows at once"
        smaller = (
            f"set train.micro_batch_size={size // 2}, or train.auto_micro_batch=true"
            if size > 1
            else "set train.gradient_checkpointing=true, method qlora or a smaller train.max_length"
        )
        first = (str(error).splitlines() or ["no more memory"])[0][:120]
        found = OutOfMemory(f"train: out of memory {what} ({first}); {smaller}")
        found.rows = size
        raise found from None
