"""Items that share a document, a phrase or a template: what an interval counts as one draw."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def clusters_of(rows: Sequence[Mapping[str, Any]]) -> list[str] | None:
    """The cluster of each prepared row; None where every row stands by itself."""
    return named([row.get("group") for row in rows])


def named(groups: Sequence[str | None]) -> list[str] | None:
    """The cluster of each item by the name of what it shares; None: an item by itself."""
    if all(group is None for group in groups):
        return None
    # No group is called so.
    return [f"\0{place}" if group is None else group for place, group in enumerate(groups)]


def shared(names: Sequence[Hashable]) -> list[Hashable] | None:
    """The names as clusters; None where no two items have the same."""
    return None if len(set(names)) == len(names) else list(names)


def linked(pairs: Iterable[tuple[Hashable, Hashable]]) -> list[int]:
    """A number for each pair, the same for all that are linked by what they have in common.

    Args:
        pairs: what each item has of two kinds, such as its question and its context.
    """
    above: dict[tuple[int, Hashable], tuple[int, Hashable]] = {}

    def top(one: tuple[int, Hashable]) -> tuple[int, Hashable]:
        above.setdefault(one, one)
        while above[one] != one:
            above[one] = above[above[one]]
            one = above[one]
        return one

    firsts = []
    for first, second in pairs:
        above[top((0, first))] = top((1, second))
        firsts.append((0, first))
    number: dict[tuple[int, Hashable], int] = {}
    return [number.setdefault(top(one), len(number)) for one in firsts]


def ratio(sums: Floats) -> Floats:
    """First over second of sums [..., 2]; NaN where nothing was summed."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = sums[..., 0] / sums[..., 1]
    return found


def summed(values_NK: Floats, clusters: Sequence[Hashable] | None) -> Floats:
    """Sums [C, K] of what the items of each cluster bring; without clusters the items' own."""
    if clusters is None:
        return values_NK
    number: dict[Hashable, int] = {}
    code_N = [number.setdefault(name, len(number)) for name in clusters]
    sums_CK: Floats = np.zeros((len(number), *values_NK.shape[1:]))
    np.add.at(sums_CK, code_N, values_NK)
    return sums_CK
