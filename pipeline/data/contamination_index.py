"""An index over all test items, through which training rows stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.contamination import Hit, Item, RowTexts, with_passages
from pipeline.data.contamination_grams import NEAR, OF, GramTable, prefix, signs
from pipeline.data.contamination_items import (
    MOST_CHARACTERS,
    ItemArrays,
    arrays_of,
    near_grams,
    parts,
)
from pipeline.data.contamination_proof import RowWords, contained_score, is_exact, near_score
from pipeline.data.contamination_text import (
    Batch,
    Ints,
    Mask,
    Windows,
    batch_of,
    exact_keys,
    folded,
    spoken_lengths,
    tokens_in,
    writable,
)

# Pieces of a long row overlap by more than a run of tokens.
_OVERLAP = 4096
# A text so many times longer than the longest item is compared by containment alone: it would
# have to repeat itself over and over to be near, or be punctuation for the most part.
_TOO_LONG = 10
_ITEM_FIELDS = ("suite", "id", "text", "context")


class ContaminationIndex:
    """Finds the test items that training rows know.

    Arrays and nothing else: it pickles, and by ``save`` and ``load`` processes share it as one
    memory-mapped file. Rows may come in chunks of any size; no hit depends on it.
    """

    def __init__(self, items: Any, arrays: ItemArrays, near: GramTable, runs: GramTable) -> None:
        """Takes a pyarrow table of the items; use ``build`` or ``load``."""
        self._items, self._arrays, self._near, self._runs = items, arrays, near, runs

    def __len__(self) -> int:
        """The number of items."""
        return int(self._items.num_rows)

    def item(self, index: int) -> Item:
        """The item that a hit names."""
        return Item(*(self._items[name][index].as_py() for name in _ITEM_FIELDS))

    @classmethod
    def build(cls, items: Iterable[Item]) -> ContaminationIndex:
        """Takes all items of all evaluation sets at once."""
        given = with_passages(list(items))
        columns = {
            name: pa.array([writable(getattr(item, name)) for item in given], pa.large_string())
            for name in _ITEM_FIELDS
        }
        return cls(pa.table(columns), *arrays_of(given))

    def find(self, rows: Sequence[str | RowTexts]) -> list[Hit]:
        """All items that the rows know, each pair once, ordered by row and item.

        Args:
            rows: what ``row_texts`` made; a plain text is both recognised and whole.
        """
        if not len(self):
            return []
        given = [RowTexts("", (row,), row) if isinstance(row, str) else row for row in rows]
        longest = _TOO_LONG * int(self._arrays.longest[0])
        # A text that is recognised and whole at once is folded once.
        wholes = [folded(row.whole) for row in given]
        asked = [
            (index, place > 0, wholes[index] if text == row.whole else folded(text))
            for index, row in enumerate(given)
            for place, text in enumerate(row.recognised)
            if len(text) <= longest
        ]
        found: dict[tuple[int, int], Hit] = {}
        for part in parts(asked, lambda entry: len(entry[2])):
            batch = batch_of([text for _, _, text in part])
            for text, item in self._exact_pairs(batch):
                self._add_exact(found, part[text], item)
            for text, item in self._near_pairs(batch):
                self._add_near(found, part[text], item)
        self._add_contained(found, wholes)
        return [found[pair] for pair in sorted(found)]

    def _add_exact(
        self, found: dict[tuple[int, int], Hit], asked: tuple[int, bool, str], item: int
    ) -> None:
        row, is_turn, text = asked
        counts = not is_turn or self._arrays.heavy[item]
        if counts and is_exact(self.item(item), text):
            found[row, item] = Hit(row, item, "exact", 1.0)

    def _add_near(
        self, found: dict[tuple[int, int], Hit], asked: tuple[int, bool, str], item: int
    ) -> None:
        row, is_turn, text = asked
        known = found.get((row, item))
        if (is_turn and not self._arrays.heavy[item]) or (known and known.kind == "exact"):
            return
        score = near_score(self.item(item), text)
        if score is not None and (known is None or score > known.score):
            found[row, item] = Hit(row, item, "near", score)

    def _exact_pairs(self, batch: Batch) -> Iterator[tuple[int, int]]:
        arrays = self._arrays
        # Most rows have another number of letters than any item: they need no key.
        keys = exact_keys(batch.only(np.isin(spoken_lengths(batch), arrays.spoken)))
        low = np.searchsorted(arrays.keys, keys, "left")
        high = np.searchsorted(arrays.keys, keys, "right")
        for text in np.flatnonzero(high > low).tolist():
            for item in arrays.key_items[low[text] : high[text]].tolist():
                yield text, item

    def _near_pairs(self, batch: Batch) -> Iterator[tuple[int, int]]:
        hashes, text = near_grams(batch)
        sizes = np.bincount(text, minlength=len(batch.starts) - 1)
        place, gram = self._near.known(hashes)
        shared = np.bincount(text[place], minlength=len(sizes))
        # Jaccard cannot reach 4/5 where over a fifth of the text's grams are in no item at all.
        enough = OF * shared >= NEAR * sizes
        kept = enough[text[place]]
        have = text[place][kept], gram[kept]
        # Grams that are in no item are the rarest of all.
        by = self._near.rarest(*have, prefix(sizes, larger=True) - (sizes - shared))
        marks = signs(text, hashes, len(sizes))
        theirs = self._arrays.signs.reshape(-1, 4)

        def able(text: Ints, item: Ints) -> Mask:
            # Jaccard 4/5 leaves a ninth of both sizes to differ in.
            differ = np.bitwise_count(marks[text] ^ theirs[item]).sum(axis=1, dtype=np.int64)
            both = sizes[text] + self._near.sizes(item)
            fits: Mask = (NEAR + OF) * differ <= (OF - NEAR) * both
            return fits

        for pairs in self._near.candidates(have, by, able):
            union = sizes[pairs.text] + self._near.sizes(pairs.item) - pairs.shared
            alike = OF * pairs.shared >= NEAR * union
            yield from zip(pairs.text[alike].tolist(), pairs.item[alike].tolist(), strict=True)

    def _add_contained(self, found: dict[tuple[int, int], Hit], wholes: Sequence[str]) -> None:
        """Adds the pairs that containment alone shows."""
        if not len(self._runs.keys):
            return
        have = self._known_runs(wholes)
        words: tuple[int, RowWords] | None = None
        for pairs in self._runs.candidates(have, have):
            for row, item in zip(pairs.text.tolist(), pairs.item.tolist(), strict=True):
                if (row, item) in found:
                    continue
                if words is None or words[0] != row:
                    words = row, RowWords(wholes[row])
                score = contained_score(self.item(item), words[1])
                if score is not None:
                    found[row, item] = Hit(row, item, "contained", score)

    def _known_runs(self, wholes: Sequence[str]) -> tuple[Ints, Ints]:
        """Runs of tokens that are in the rows and in an item: (row, run), sorted, distinct."""
        wide = len(self._runs.keys)
        pairs = [np.zeros(0, np.int64)]
        for part in parts(_pieces(wholes), lambda entry: len(entry[1])):
            windows = Windows(tokens_in(batch_of([text for _, text in part])))
            row = np.array([index for index, _ in part])
            for length in self._arrays.run_lengths.tolist():
                place, gram = self._runs.known(windows.of(length))
                owner, is_whole = windows.owners(place)
                pairs.append(row[owner[is_whole]] * wide + gram[is_whole])
        row, gram = np.divmod(np.unique(np.concatenate(pairs)), wide)
        return row, gram

    def save(self, path: Path) -> None:
        """Writes one Arrow file; the same items, the same bytes."""
        columns = {name: pa.array(np.asarray(array)) for name, array in self._named()}
        columns |= {name: self._items[name].combine_chunks() for name in _ITEM_FIELDS}
        # One row whose cells are the arrays: they differ in length.
        lists = {
            name: pa.LargeListArray.from_arrays(pa.array([0, len(column)], pa.int64()), column)
            for name, column in columns.items()
        }
        table = pa.table(lists)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    @classmethod
    def load(cls, path: Path) -> ContaminationIndex:
        """Maps what ``save`` wrote into memory; processes that do so share its pages."""
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        columns = {name: table[name].chunk(0).values for name in table.column_names}
        items = pa.table({name: columns.pop(name) for name in _ITEM_FIELDS})

        def named(part: str) -> dict[str, Any]:
            return {
                name.removeprefix(part): column.to_numpy(zero_copy_only=True)
                for name, column in columns.items()
                if name.startswith(part)
            }

        near, runs = GramTable(**named("near.")), GramTable(**named("runs."))
        return cls(items, ItemArrays(**named("items.")), near, runs)

    def _named(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for name, part in (("items", self._arrays), ("near", self._near), ("runs", self._runs)):
            for field in fields(part):
                yield f"{name}.{field.name}", getattr(part, field.name)


def _pieces(wholes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Rows; a long one in pieces that overlap, so that memory does not grow with it."""
    for index, whole in enumerate(wholes):
        for start in range(0, max(len(whole) - _OVERLAP, 1), MOST_CHARACTERS):
            yield index, whole[start : start + MOST_CHARACTERS + _OVERLAP]
