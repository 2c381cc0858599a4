"""Where every row stands that is not kept, with counts: the account of a split."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.data.contamination import Hit, KeptHits


class Ledger:
    """A JSONL file of what was left out, with counts; entries are not kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._file = path.open("w", encoding="utf-8")

    def add(self, entry: Mapping[str, Any], reason: str) -> None:
        """Writes one entry and counts it under ``reason``."""
        self._file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        self.counts[reason] += 1

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


@dataclass
class Account:
    """What gathering tells besides the rows.

    Attributes:
        quarantine, dropped: where every row stands that is not on the shelf.
        cleaned: rows that a cleaning step dropped.
        hits: contamination, ``row`` counted over the shelf.
        sources: rows read and quarantined for each source.
    """

    split: str
    quarantine: Ledger
    dropped: Ledger
    read: int = 0
    cleaned: int = 0
    details: Counter[str] = field(default_factory=Counter)
    hits: list[Hit] = field(default_factory=list)
    kept: KeptHits = field(default_factory=KeptHits)
    sources: list[dict[str, int]] = field(default_factory=list)

    @property
    def quarantined(self) -> int:
        """Refused rows of all sources."""
        return sum(source["quarantined"] for source in self.sources)
