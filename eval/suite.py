"""A suite: the rows of a Dataset that a model is asked, and how they were rendered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from eval.drawing import drawn
from eval.record import OUT_OF_SCOPE
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows


@dataclass(frozen=True)
class Suite:
    """The rows of a Dataset and how they were rendered.

    Attributes:
        rows: those of the test split, which are judged.
        folder: of the Dataset.
        limit: rows of each split that are asked at most, drawn; None: all.
        groups: item to the document or phrase that it shares with others.
    """

    rows: list[dict[str, Any]]
    render: str
    labels: list[str]
    folder: Path
    limit: int | None = None

    @property
    def pairs(self) -> bool:
        """Whether each row has a chosen and a rejected answer."""
        asked = self.render == "preference"
        return asked and all(row["rejected_ids"] is not None for row in self.rows)

    @property
    def groups(self) -> dict[str, str]:
        """Items that share something with others; the rest stand alone."""
        return shared_by(self.rows)

    def held_out(self, split: Literal["validation", "train"]) -> list[dict[str, Any]]:
        """Rows of another split that can be asked: whole ones, each by itself.

        Neither a block of several rows, nor a row that was cut to ``max_length``: a question or
        an answer of which a part is missing is asked nowhere else.
        """
        path = self.folder / f"{split}.arrow"
        rows = read_rows(path) if path.is_file() else []
        cut = self._cut(split)
        whole = [
            row
            for row in rows
            if row["members"] is None
            and row["example_id"].rpartition("#")[0] not in cut
            and row["example_id"] not in cut
        ]
        return drawn(whole, self.limit)

    def _cut(self, split: str) -> set[str]:
        """Ids of rows that `prepare` cut or split because they were too long."""
        path = self.folder / "dropped.jsonl"
        if not path.is_file():
            return set()
        with path.open(encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines]
        return {entry["id"] for entry in entries if entry["split"] == split}

    def narrowed(self, name: str, labels: list[str] | None, limit: int | None) -> Suite:
        """So many of its rows alone, and all labels that there are beside those of the rows.

        Raises:
            DataError: a row's label is none of them.
        """
        rows = drawn(self.rows, limit)
        if labels is None or not self.labels:
            return replace(self, rows=rows, limit=limit)
        for row in rows:
            own = row["labels"] if row["labels"] is not None else [row["label"]]
            strange = next((one for one in own if one not in (*labels, OUT_OF_SCOPE)), None)
            if strange is not None:
                raise DataError(
                    f"evaluate: suite {name}: row {row['example_id']}: label {strange!r} is none "
                    f"of the {len(labels)} labels of the model; mend the rows, or give --labels"
                )
        return replace(self, rows=rows, labels=labels, limit=limit)

    @classmethod
    def read(cls, name: str, artifact: Artifact) -> Suite:
        """Reads the suite from its Dataset.

        Raises:
            DataError: it has no test rows.
        """
        folder = artifact.path
        rows = read_rows(folder / "test.arrow")
        if not rows:
            raise DataError(f"evaluate: suite {name} has no test rows; give data.test")
        return cls(
            rows, _json(folder / "render.json")["render"], _json(folder / "labels.json"), folder
        )


def shared_by(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Row to the document or phrase that it shares with others; the rest stand alone."""
    return {row["example_id"]: row["group"] for row in rows if row["group"] is not None}


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
