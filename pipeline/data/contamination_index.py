"""An index over all test items, through which training rows stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.contamination import FIRST_PART, Hit, Item, KeptHits, RowTexts
from pipeline.data.contamination_grams import NEAR, OF, GramTable, prefix, signs
from pipeline.data.contamination_items import (
    MOST_CHARACTERS,
    ItemArrays,
    arrays_of,
    near_grams,
    parts,
)
from pipeline.data.contamination_search import Search
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
from pipeline.data.contamination_views import Owners, Templates, views_of

# Pieces of a long row overlap by more than a run of tokens.
_OVERLAP = 4096
# A text so many times longer than the longest item is compared by containment alone: it would
# have to repeat itself over and over to be near, or be punctuation for the most part.
_TOO_LONG = 10
_KINDS = ("exact", "near", "contained")


class ContaminationIndex:
    """Finds the test items that training rows know.

    Arrays and nothing else: it pickles, and by ``save`` and ``load`` processes share it as one
    memory-mapped file. Rows may come in chunks of any size: which of them have a hit, and which
    items, does not depend on it, and no hit does but those of a row beyond MOST_HITS.
    """

    def __init__(
        self,
        names: Any,
        texts: Any,
        arrays: tuple[ItemArrays, GramTable, GramTable],
        owners: Owners,
        templates: Templates,
    ) -> None:
        """Takes pyarrow tables of items and views; use ``build`` or ``load``."""
        self._names, self._texts, self._owners = names, texts, owners
        self._templates = templates
        self._arrays, self._near, self._runs = arrays

    def __len__(self) -> int:
        """The number of items."""
        return int(self._names.num_rows)

    def item(self, index: int) -> Item:
        """The item that a hit names, with all that it asks."""
        suite, name = (self._names[field][index].as_py() for field in ("suite", "id"))
        view = self._view(int(self._owners.first[index]))
        return Item(suite, name, view.text, view.context)

    def _view(self, index: int) -> Item:
        text, context = (self._texts[field][index].as_py() for field in ("text", "context"))
        return Item("", "", text, context)

    @classmethod
    def build(cls, items: Iterable[Item]) -> ContaminationIndex:
        """Takes all items of all evaluation sets at once."""
        given = list(items)
        views, owners, templates = views_of(given)
        names = _table(given, ("suite", "id"))
        arrays = arrays_of(views, owners.filled)
        return cls(names, _table(views, ("text", "context")), arrays, owners, templates)

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
            (index, place >= FIRST_PART, wholes[index] if text == row.whole else folded(text))
            for index, row in enumerate(given)
            for place, known in enumerate(row.recognised)
            for text in (known, self._templates.rest(known))
            if text is not None and len(text) <= longest
        ]
        search = Search(self._view, self._arrays.heavy)
        for part in parts(asked, lambda entry: len(entry[2])):
            batch = batch_of([text for _, _, text in part])
            for text, view in self._exact_pairs(batch):
                search.add_exact(*part[text], view)
            for text, view in self._near_pairs(batch):
                search.add_near(*part[text], view)
        if len(self._runs.keys):
            have = self._known_runs(wholes)
            for pairs in self._runs.candidates(have, have):
                for row, view in zip(pairs.text.tolist(), pairs.item.tolist(), strict=True):
                    search.add_contained(row, wholes[row], view)
        return self._of_items(search)

    def _of_items(self, search: Search) -> list[Hit]:
        """Hits of views as hits of items, the plainest first where not all are kept."""
        best: dict[tuple[int, int], Hit] = {}
        kept, found = KeptHits(), []

        def close() -> None:
            ranked = sorted(best.values(), key=_rank)
            found.extend(kept.keep(ranked))
            best.clear()

        row = -1
        starts, items = self._owners.starts, self._owners.items
        for place, view in sorted(search.found):
            if place != row:
                close()
                row = place
            hit = search.found[place, view]
            for item in items[starts[view] : starts[view + 1]].tolist():
                mine = Hit(row, item, hit.kind, hit.score)
                if (row, item) not in best or _rank(mine) < _rank(best[row, item]):
                    best[row, item] = mine
        close()
        last = {hit.row: index for index, hit in enumerate(found)}
        for row, more in search.unproven().items():
            found[last[row]] = replace(found[last[row]], more=found[last[row]].more + more)
        return sorted(found, key=lambda hit: (hit.row, hit.item))

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
        for table in (self._names, self._texts):
            columns |= {name: table[name].combine_chunks() for name in table.column_names}
        for name in ("before", "after"):
            columns[name] = pa.array(getattr(self._templates, name), pa.large_string())
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
        names = pa.table({name: columns.pop(name) for name in ("suite", "id")})
        texts = pa.table({name: columns.pop(name) for name in ("text", "context")})
        before, after = (tuple(columns.pop(name).to_pylist()) for name in ("before", "after"))
        templates = Templates(before, after)

        def named(part: str) -> dict[str, Any]:
            return {
                name.removeprefix(part): column.to_numpy(zero_copy_only=True)
                for name, column in columns.items()
                if name.startswith(part)
            }

        arrays = (
            ItemArrays(**named("views.")),
            GramTable(**named("near.")),
            GramTable(**named("runs.")),
        )
        return cls(names, texts, arrays, Owners(**named("owners.")), templates)

    def _named(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for name, part in (
            ("views", self._arrays),
            ("near", self._near),
            ("runs", self._runs),
            ("owners", self._owners),
        ):
            for field in fields(part):
                yield f"{name}.{field.name}", getattr(part, field.name)


def _rank(hit: Hit) -> tuple[int, float, int]:
    return _KINDS.index(hit.kind), -hit.score, hit.item


def _table(items: Sequence[Item], names: Sequence[str]) -> Any:
    return pa.table(
        {
            name: pa.array([writable(getattr(item, name)) for item in items], pa.large_string())
            for name in names
        }
    )


def _pieces(wholes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Rows; a long one in pieces that overlap, so that memory does not grow with it."""
    for index, whole in enumerate(wholes):
        for start in range(0, max(len(whole) - _OVERLAP, 1), MOST_CHARACTERS):
            yield index, whole[start : start + MOST_CHARACTERS + _OVERLAP]
