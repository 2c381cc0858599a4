"""Scale: does accuracy hold as inputs grow?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from eval.record import Prediction
from eval.risks.line import Line, not_measured, share

BINS = 4


def scale_lines(
    suite: str,
    answers: Sequence[Prediction],
    tokens: Sequence[int],
    clusters: Sequence[Hashable] | None = None,
) -> list[Line]:
    """Accuracy by the length of what was asked, in quarters of the items.

    Args:
        tokens: of each item; not those that an answer tells, which are of all that was read for
            it: a text once for each label, where labels are weighed.
        clusters: of each item, where items share something.
    """
    lengths = np.array(tokens)
    if not len(lengths):
        return [not_measured("scale", f"accuracy by input length ({suite})", "no item was asked")]
    if lengths.min() == lengths.max():
        why = f"all {len(lengths):,} items are {lengths[0]:,} tokens long"
        return [not_measured("scale", f"accuracy by input length ({suite})", why)]
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, BINS + 1), method="lower"))
    # The last bin holds its upper end; an edge that several items share opens a bin once.
    number = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)
    lines = []
    for bin_ in range(len(edges) - 1):
        places = [int(place) for place in np.flatnonzero(number == bin_)]
        if not places:
            continue
        mine = [answers[place] for place in places]
        groups = None if clusters is None else [clusters[place] for place in places]
        low, high = lengths[number == bin_].min(), lengths[number == bin_].max()
        what = f"accuracy on inputs of {low:,} to {high:,} tokens ({suite})"
        how = f"the asked items in {len(edges) - 1} bins by the tokens asked; one length, one bin"
        right = [one.label == one.gold for one in mine]
        lines.append(share("scale", what, right, how, clusters=groups))
    return lines
