"""Rows on a shelf, and what is asked of a model about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.augmentation import (
    Ask,
)
from pipeline.data.executor import InProcess
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.ledger import Account, Ledger
from pipeline.data.rows import Placed, Refused, Row
from pipeline.data.shelf import Shelf

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
SETTINGS = {"per_row": 2, "per_label": 3, "examples": 2, "max_new_tokens": 64, "seed": 7}
PLAIN: list[dict[str, Any]] = [{}]
CARDS: list[Row] = [
    {"text": "My card has not come yet", "label": "card_arrival"},
    {"text": "Where is the card that I ordered?", "label": "card_arrival"},
    {"text": "Is there still no card for me?", "label": "card_arrival"},
    {"text": "I want my 20 pounds back", "label": "refund"},
]


@dataclass(frozen=True)
class Given:
    """A chunk of rows that are there."""

    given: tuple[Row, ...]

    def rows(self) -> Iterator[Placed | Refused]:
        """Each with its number."""
        for number, row in enumerate(self.given):
            yield Placed(f"given:{number}", row)


def shelf_of(
    folder: Path, rows: Sequence[Row], form: str = "", prompt: str | None = None, size: int = 3
) -> Shelf:
    """A shelf as `prepare` fills it, in batches of ``size``."""
    folder.mkdir(exist_ok=True)
    form = form or ("text" if any("label" not in row for row in rows) else "classification")
    account = Account("train", Ledger(folder / "q"), Ledger(folder / "d"))
    chunks = [Given(tuple(rows[start : start + size])) for start in range(0, len(rows), size)]
    plan = SourcePlan("data.train", form, {}, prompt)
    try:
        return gather([(plan, chunks)], folder / "rows.arrow", InProcess(), account, 0)
    finally:
        account.quarantine.close()
        account.dropped.close()


def all_of(shelf: Shelf) -> Any:
    return np.ones(len(shelf), bool)


def asks_of(found: Any) -> list[Ask]:
    return [ask for ask in found if isinstance(ask, Ask)]
