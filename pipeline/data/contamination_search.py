"""One search of an index: pairs that hashes found are proven and kept, within bounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from pipeline.data.contamination import Hit, Item, KeptHits
from pipeline.data.contamination_proof import RowWords, contained_score, is_exact, near_score
from pipeline.data.contamination_text import Ints


class Search:
    """What some rows know, view by view.

    Attributes:
        found: (row, view) to the hit; its ``item`` is the view.
    """

    def __init__(self, view: Callable[[int], Item], heavy: Ints) -> None:
        """Takes the views by number, and which of them weigh enough to be contained."""
        self._view, self._heavy = view, heavy
        self.found: dict[tuple[int, int], Hit] = {}
        self._kept = KeptHits()
        # Pairs that would not be kept are not proven: with many that would take longest of all.
        self._left: dict[str, Counter[int]] = {"near": Counter(), "contained": Counter()}
        self._words: tuple[int, RowWords] | None = None

    def add_exact(self, row: int, is_part: bool, text: str, view: int) -> None:
        """Adds a pair with the same letters and digits."""
        if (is_part and not self._heavy[view]) or (row, view) in self.found:
            return
        if is_exact(self._view(view), text):
            self._keep(Hit(row, view, "exact", 1.0))

    def add_near(self, row: int, is_part: bool, text: str, view: int) -> None:
        """Adds a pair of near copies."""
        known = self.found.get((row, view))
        if (is_part and not self._heavy[view]) or (known and known.kind == "exact"):
            return
        if known is None and self._is_full("near", row, view):
            return
        score = near_score(self._view(view), text)
        if score is not None and (known is None or score > known.score):
            self._keep(Hit(row, view, "near", score))

    def add_contained(self, row: int, whole: str, view: int) -> None:
        """Adds a pair that containment alone shows; rows come one after another."""
        if (row, view) in self.found or self._is_full("contained", row, view):
            return
        if self._words is None or self._words[0] != row:
            self._words = row, RowWords(whole)
        score = contained_score(self._view(view), self._words[1])
        if score is not None:
            self._keep(Hit(row, view, "contained", score))

    def unproven(self) -> Counter[int]:
        """For each row about how many more views it knows; they were not proven."""
        return self._left["near"] | self._left["contained"]

    def _keep(self, hit: Hit) -> None:
        if (hit.row, hit.item) not in self.found:
            self._kept.count(hit.row, hit.item)
        self.found[hit.row, hit.item] = hit

    def _is_full(self, kind: str, row: int, view: int) -> bool:
        full = not self._kept.room(row, view)
        self._left[kind][row] += full
        return full
