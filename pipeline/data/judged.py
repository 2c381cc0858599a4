"""The contamination gate of a `prepare`: what is judged anywhere in the ancestry, and every
training row that stands in it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.data.contamination import Hit, Item, KeptHits, RowTexts, trains_on_test
from pipeline.data.contamination_files import read_items, read_texts
from pipeline.data.contamination_index import ContaminationIndex
from pipeline.data.executor import Executor
from pipeline.data.ledger import Ledger
from pipeline.data.rows import EXCERPT
from pipeline.data.shelf import Shelf

_NAMED = 60
OWN = ("test", "validation")


@dataclass
class Judged:
    """Evaluation sets that rows are compared with, and what was found.

    Attributes:
        own: items of the recipe's own test and suites: also compared with what ancestors read.
        items: all items, those of ancestors and of a given validation split too.
        checked: set to its number of items.
        found: hits that were written down.
    """

    folder: Path
    policy: str
    ledger: Ledger
    own: list[Item] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    found: int = 0
    _written: int = 0

    def add(self, items: Iterable[Item], *, own: bool) -> None:
        """Adds the items of one or more sets."""
        new = list(items)
        self.items += new
        self.checked.update(item.suite for item in new)
        if own:
            self.own += new

    def index(self, items: Sequence[Item] | None = None) -> Path | None:
        """A file with the index of ``items`` (all by default); None where there are none."""
        items = self.items if items is None else items
        if not items:
            return None
        self._written += 1
        path = self.folder / f"judged-{self._written}"
        ContaminationIndex.build(items).save(path)
        return path

    def judge(
        self, shelf: Shelf, hits: Sequence[Hit], items: Sequence[Item], split: str
    ) -> np.ndarray[Any, Any]:
        """Writes down the hits of a split and gives the rows to drop.

        Raises:
            DataError: under policy ``error``, or where a recipe trains on its own test split.
        """
        self._refuse_training_on_test(hits, items)
        rows = np.unique(np.array([hit.row for hit in hits], np.int64))
        if len(rows) and self.policy == "error":
            first = hits[0]
            raise DataError(
                f"data.{split}: {len(rows)} rows stand in an evaluation set, e.g. "
                f"{_pair(shelf.texts()[first.row].as_py(), items[first.item])}; "
                "set data.contamination: drop or mend the data"
            )
        texts = shelf.texts()
        for hit in hits:
            self._write(hit, items[hit.item], {
                "split": split,
                "row": shelf.names([hit.row])[0],
                "row_text": texts[hit.row].as_py()[:EXCERPT],
                "where": "own",
                "dropped": self.policy != "report",
            })  # fmt: skip
        return rows if self.policy != "report" else rows[:0]

    def _refuse_training_on_test(self, hits: Sequence[Hit], items: Sequence[Item]) -> None:
        exact: dict[str, set[int]] = defaultdict(set)
        for hit in hits:
            if hit.kind == "exact":
                exact[items[hit.item].suite].add(hit.item)
        for suite, found in exact.items():
            if trains_on_test(len(found), self.checked[suite]) and suite not in OWN[1:]:
                raise DataError(
                    f"data.train: holds {len(found)} of the {self.checked[suite]} rows of "
                    f"{suite}: it trains on its own test split; name another split"
                )

    def judge_ancestors(
        self, ancestors: Mapping[str, Path], executor: Executor, *, items: Sequence[Item]
    ) -> dict[str, int]:
        """Compares ``items`` with every row that an ancestor was trained on.

        Returns:
            Ancestor to hits.

        Raises:
            DataError: a hit, unless the policy is ``report``; both texts are named.
        """
        if not items or not ancestors:
            return {}
        index = self.index(items)
        assert index is not None
        told: dict[str, int] = {}
        for name, folder in ancestors.items():
            told[name] = 0
            for texts, hits in executor.map(_FindStep(index), read_texts(folder)):
                for hit in hits:
                    identity, recognised = texts[hit.row].id, texts[hit.row].recognised[0]
                    item = items[hit.item]
                    if self.policy != "report":
                        raise DataError(
                            f"data.test: {item.suite} row {item.id} stands in the training rows "
                            f"of {name} (row {identity}, {hit.kind}): {_pair(recognised, item)}; "
                            "an ancestor is never rewritten: take the row out of the evaluation "
                            "set, or set data.contamination: report"
                        )
                    told[name] += 1 + hit.more
                    self._write(hit, item, {
                        "split": "train", "row": identity, "row_text": recognised[:EXCERPT],
                        "where": name, "dropped": False,
                    })  # fmt: skip
        return told

    def _write(self, hit: Hit, item: Item, about: Mapping[str, Any]) -> None:
        self.found += 1 + hit.more
        self.ledger.add(
            {
                **about,
                "suite": item.suite,
                "item": item.id,
                "item_text": item.text[:EXCERPT],
                "kind": hit.kind,
                "score": round(float(hit.score), 4),
            },
            hit.kind,
        )


class _FindStep:
    """Texts of a batch -> (texts, hits); the index is read once for each process."""

    _loaded: tuple[Path, ContaminationIndex] | None = None

    def __init__(self, index: Path) -> None:
        self._path = index

    def __call__(self, texts: list[RowTexts]) -> tuple[list[RowTexts], list[Hit]]:
        """The rows, and their hits."""
        if _FindStep._loaded is None or _FindStep._loaded[0] != self._path:
            _FindStep._loaded = (self._path, ContaminationIndex.load(self._path))
        return texts, _FindStep._loaded[1].find(texts)


def find_in_shelf(index: Path, shelf: Shelf, executor: Executor) -> list[Hit]:
    """Hits of a shelf's rows, ``row`` counted over the shelf."""
    found: list[Hit] = []
    kept = KeptHits()
    starts = [start for _, start in shelf.batches()]
    made = executor.map(_FindStep(index), shelf.text_batches())
    for start, (_, hits) in zip(starts, made, strict=True):
        found += kept.keep(replace(hit, row=hit.row + start) for hit in hits)
    return found


def items_of(folders: Mapping[str, Path]) -> Iterator[Item]:
    """The test rows of prepared Datasets, each set by its name."""
    for name, folder in folders.items():
        yield from read_items(folder, name)


def _pair(text: str, item: Item) -> str:
    return f"{text[:_NAMED]!r} and {item.suite} row {item.id} {item.text[:_NAMED]!r}"
