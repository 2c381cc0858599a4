"""What a reference learns from and is asked: texts and labels of a prepared Dataset."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.answers import final_answer, normalised_answer
from eval.record import Kind, Prediction, as_text
from pipeline.core.errors import DataError, IntegrityError
from pipeline.data.arrow import read_rows
from pipeline.data.contamination_files import read_items, read_texts
from pipeline.data.scripts import sets_no_spaces

OnDone = Callable[[list[Prediction]], None]
_COLUMNS = ("example_id", "text", "label", "labels", "members", "group")
# Above this share of letters, words cannot be told apart by blanks.
_UNSPACED_SHARE = 0.3
_LOOKED_AT = 1000


@dataclass(frozen=True)
class Item:
    """One row, as a reference sees it.

    Attributes:
        example_id: as every other predictor calls it.
        text: the row's own text, without the recipe's prompt, system text and passage.
        labels: all right labels; of an open question its answer alone.
        context: a passage that the text is asked about; empty where there is none.
        group: what a judged row shares with others; None where it stands alone.
    """

    example_id: str
    text: str
    labels: tuple[str, ...]
    context: str = ""
    group: str | None = None

    @property
    def whole(self) -> str:
        """Passage and text together."""
        return f"{self.context}\n{self.text}" if self.context else self.text


@dataclass(frozen=True)
class Task:
    """The rows of a recipe, by split.

    Attributes:
        labels: that there are, sorted; none for open answers.
        several: a row may have several labels.
        answer_after: an open answer is what follows the last of these marks.
    """

    labels: tuple[str, ...]
    several: bool
    train: tuple[Item, ...]
    validation: tuple[Item, ...]
    test: tuple[Item, ...]
    answer_after: str | None = None

    @property
    def kind(self) -> Kind:
        """What the items ask for, as ``eval.record`` names it."""
        return "labels" if self.several else "label"

    def gold(self, item: Item) -> str:
        """The right answer as the table of predictions holds it."""
        if self.several:
            return as_text(sorted(item.labels))
        if self.labels:
            return item.labels[0]
        return normalised_answer(final_answer(item.labels[0], self.answer_after))

    @cached_property
    def unseen(self) -> list[str]:
        """Labels that no row of train has, sorted."""
        return sorted(set(self.labels) - {name for item in self.train for name in item.labels})

    def require_labels(self, name: str) -> None:
        """Refuses open answers.

        Raises:
            DataError: there is no closed set of labels.
        """
        if not self.labels:
            raise DataError(
                f"reference {name}: the answers are open, there are no labels to choose from; "
                "take it out of evaluate.references"
            )

    def require_train(self, name: str) -> None:
        """Refuses a reference that learns, where there is nothing to learn from.

        Raises:
            DataError: train has no labelled rows.
        """
        self.require_labels(name)
        if not self.train:
            raise DataError(
                f"reference {name}: train has no rows with a label, and it learns from them; "
                "give data.train such rows, or take it out of evaluate.references"
            )


def read_task(folder: Path, answer_after: str | None = None) -> Task:
    """The rows of a prepared Dataset as texts with labels.

    Texts of train and validation are those that `prepare` keeps for the recipes above, because
    the splits' own files hold ids alone. Rows that were rendered into several examples, or left
    out as over-length, count as the training does: what it never sees is not here either.

    Args:
        folder: of the Dataset.
        answer_after: see ``Task``.

    Raises:
        DataError: there are no test rows.
        IntegrityError: a row whose text is not kept.
    """
    named = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    kept = {row.id: row for batch in read_texts(folder) for row in batch}
    asked = {item.id: (item.text, item.context) for item in read_items(folder, "test")}
    splits: dict[str, tuple[Item, ...]] = {}
    several = False
    for split in ("train", "validation", "test"):
        rows = read_rows(folder / f"{split}.arrow", _COLUMNS)
        several = several or any(row["labels"] is not None for row in rows)
        # Replayed rows are another recipe's: nobody answers them.
        own = [row for row in rows if not row["example_id"].startswith("replay/")]
        if split == "test":
            splits[split] = tuple(_test_item(row, asked) for row in own)
        else:
            splits[split] = tuple(_items(own, kept, named))
    if not splits["test"]:
        raise DataError("reference: the data has no test rows; give data.test")
    return Task(
        labels=tuple(named),
        several=several,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        answer_after=answer_after,
    )


def unspaced(texts: Sequence[str]) -> bool:
    """Whether the texts are of a script without blanks between words (Chinese, Thai)."""
    letters = [c for text in texts[:_LOOKED_AT] for c in text if c.isalpha()]
    return sum(map(sets_no_spaces, letters)) > _UNSPACED_SHARE * max(1, len(letters))


def _items(
    rows: Sequence[Mapping[str, Any]], kept: Mapping[str, Any], named: Sequence[str]
) -> list[Item]:
    """Rows of train or validation, those that share a block one by one."""
    known = frozenset(named)
    found: dict[str, Item] = {}
    for row in rows:
        for name in row["members"] or (row["example_id"],):
            if name.startswith("replay/"):
                continue
            texts = kept.get(name) or kept.get(name.rpartition(".")[0])
            if texts is None:
                raise IntegrityError(
                    f"reference: the text of row {name} is not kept; prepare the data again"
                )
            labels = _labels(row, texts.whole, known)
            if labels:
                found.setdefault(texts.id, Item(texts.id, texts.recognised[0], labels))
    return list(found.values())


def _labels(row: Mapping[str, Any], whole: str, known: frozenset[str]) -> tuple[str, ...]:
    if row["labels"] is not None:
        return tuple(row["labels"])
    if row["members"] is None:
        return () if row["label"] is None else (row["label"],)
    # Rows that share a block have one label for all of them: none. Each row's own ends its text.
    last = whole.rpartition("\n")[2]
    return (last,) if not known or last in known else ()


def _test_item(row: Mapping[str, Any], asked: Mapping[str, tuple[str, str]]) -> Item:
    name = row["example_id"]
    if row["labels"] is None and row["label"] is None:
        raise DataError(f"reference: test row {name} has no label; it cannot be judged")
    labels = tuple(row["labels"]) if row["labels"] is not None else (row["label"],)
    text, context = asked.get(name, (row["text"], ""))
    return Item(name, text, labels, context, row["group"])
