"""Files of rows that a recipe names for its risk page: JSON Lines, one file or a folder of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError

Row = Mapping[str, Any]


def read_lines(path: Path, keys: Sequence[str], what: str) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file, or of every one in a folder, in the order of their names.

    Args:
        keys: what every row has.
        what: the recipe's key, for errors.

    Raises:
        DataError: no rows, a line that is no JSON object, or one without a key.
    """
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    found: list[dict[str, Any]] = []
    for file in files:
        try:
            # Not splitlines: a text may hold U+2028, which ends no line of JSON Lines.
            lines = file.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{what}: {file}: cannot be read ({error}); name a JSON Lines file"
            ) from None
        found += [
            _row(line, f"{what}: {file.name}:{number}", keys)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
    if not found:
        raise DataError(f"{what}: {path}: it holds no rows; name a JSON Lines file that does")
    return found


def _row(line: str, place: str, keys: Sequence[str]) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{place}: not JSON ({error}); write one object to a line") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: {type(row).__name__}; write one object to a line")
    lacking = [key for key in keys if key not in row]
    if lacking:
        raise DataError(f"{place}: it has no {lacking[0]}; each row has {', '.join(keys)}")
    return row


def fitting(texts: Sequence[str], fits: Callable[[str], bool], limit: int, seed: int) -> list[int]:
    """Which texts are asked: ``limit`` at most of those that fit, drawn by ``seed``, in order.

    Args:
        fits: whether a text can be asked at all; called for no more texts than need be.
    """
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    return sorted(itertools.islice((index for index in order if fits(texts[index])), limit))
