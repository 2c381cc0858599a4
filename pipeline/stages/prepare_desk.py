"""What the parts of one `prepare` share: settings, shelves, verdicts, ledgers and funnels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.detection import GROUPS
from pipeline.data.funnel import Funnel
from pipeline.data.judged import Judged
from pipeline.data.ledger import Ledger
from pipeline.data.selection import Verdicts
from pipeline.data.shelf import Shelf

SEVERAL_LABELS = "rows with several labels"


class Desk:
    """One `prepare` under way.

    Attributes:
        work: a folder for shelves and indexes that goes when the stage ends.
        workers: processes for the map steps; they change no byte.
        shelves, verdicts: split to its rows and what was decided of them; rows that are carved
            lie on the shelf of train.
        thinned: what was thinned and flipped for a learning curve, counted; None: nothing.
    """

    def __init__(
        self,
        inputs: Mapping[str, Artifact],
        config: Mapping[str, Any],
        context: StageContext,
        work: Path,
    ) -> None:
        self.inputs, self.config, self.context, self.work = inputs, config, context, work
        self.workers = int(context.options.get("threads") or 1)
        self.quarantine = Ledger(context.out / "quarantined.jsonl")
        self.dropped = Ledger(context.out / "dropped.jsonl")
        self.hits = Ledger(context.out / "contaminated.jsonl")
        self.judged = Judged(work, config["contamination"], self.hits)
        self.funnels = {name: Funnel() for name in ("train", "validation", "test")}
        self.shelves: dict[str, Shelf] = {}
        self.verdicts: dict[str, Verdicts] = {}
        self.thinned: dict[str, Any] | None = None

    @property
    def joined(self) -> bool:
        """Whether a row has several labels, which shelves hold as one text: joined."""
        sources = self.config["sources"].values()
        flat = [one for given in sources for one in (given if isinstance(given, list) else [given])]
        return any(one["format"] == "tagging" for one in flat) or any(
            funnel.details[SEVERAL_LABELS] for funnel in self.funnels.values()
        )

    def close(self) -> None:
        """Ends the ledgers."""
        for ledger in (self.quarantine, self.dropped, self.hits):
            ledger.close()


def grouping(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns that tell which judged rows belong together: the split's own, then the usual ones."""
    carves = (config[key] for key in ("carve", "carve_test"))
    named = (carve["by"] for carve in carves if carve and carve["by"])
    return tuple(dict.fromkeys((*named, *GROUPS)))


def write_json(path: Path, value: Any) -> None:
    """Sorted keys, one value a line: the same bytes for the same value."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
