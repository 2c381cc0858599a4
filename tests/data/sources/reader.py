"""What the tests of sources share: rows as a worker gets them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.data.rows import Chunk, Placed, Refused
from pipeline.data.sources import read_chunks


def rows_of(chunks: Iterable[Chunk]) -> list[Placed | Refused]:
    """Every row, the chunks pickled in between."""
    moved = (pickle.loads(pickle.dumps(chunk)) for chunk in chunks)  # noqa: S301
    return [row for chunk in moved for row in chunk.rows()]


def read(path: Path | str, *files: str) -> list[Placed | Refused]:
    """Every row of a source."""
    return rows_of(read_chunks(str(path), files=files, place="data.train"))


def placed(found: Iterable[Placed | Refused]) -> list[dict[str, Any]]:
    """The rows that could be read."""
    return [each.row for each in found if isinstance(each, Placed)]


def refused(found: Iterable[Placed | Refused]) -> dict[str, str]:
    """Reasons by the last part of the place: the line, or `row N`."""
    bad = [each for each in found if isinstance(each, Refused)]
    return {each.place.rpartition(":")[2].strip(): each.reason for each in bad}
