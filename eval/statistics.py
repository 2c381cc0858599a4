"""How sure a figure is: 95 % intervals over items, over seeds and items, over documents.

Legend: S seeds, N items (the same for every seed), D documents, B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from eval.record import TextLoss
from eval.resampling import Spread, spread_of
from pipeline.core.errors import IntegrityError

Floats = npt.NDArray[np.float64]

THESE_WEIGHTS = "items, for these weights"
SEEDS_AND_ITEMS = "seeds and items"
CLUSTERS = "clusters of items, for these weights"
SEEDS_AND_CLUSTERS = "seeds and clusters of items"
DOCUMENTS = "documents, for these weights"
EXACT = "an exact count"
NO_INTERVAL = "no interval yet"

_DRAWS = 2000
_Z = NormalDist().inv_cdf(0.975)
_CHUNK = 2_000_000  # cells of the resampling table held at once: 16 MB


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it.

    Attributes:
        estimate: the figure itself.
        low: lower end.
        high: upper end.
        level: share of repetitions in which such an interval holds the truth.
        covers: over what it generalises, in words.
    """

    estimate: float
    low: float
    high: float
    level: float = 0.95
    covers: str = THESE_WEIGHTS


def exact(value: float) -> Interval:
    """A figure without uncertainty, such as a count of rows."""
    return Interval(value, value, value, covers=EXACT)


def plain(value: float) -> Interval:
    """A figure for which nobody has worked out how sure it is."""
    return Interval(value, math.nan, math.nan, covers=NO_INTERVAL)


def shifted(interval: Interval, by: float) -> Interval:
    """The interval of the figure less a known constant (``by`` is added)."""
    return Interval(
        interval.estimate + by,
        interval.low + by,
        interval.high + by,
        interval.level,
        interval.covers,
    )


def mean_interval(correct: npt.ArrayLike, clusters: Sequence[Hashable] | None = None) -> Interval:
    """Interval of the accuracy.

    One seed, each item by itself: Wilson's score interval (Wilson 1927) over items, for these
    weights. Else over clusters and seeds, see ``eval.resampling``, with two right and two wrong
    items added (Agresti and Coull 1998), so that a faultless test set does not claim
    certainty.

    Args:
        correct: [S, N] of 0 and 1, the same items in every row.
        clusters: of each item, where items share a document or a phrase.
    """
    correct_SN = _table(correct)
    estimate = float(correct_SN.mean())
    seeds, items = correct_SN.shape
    if seeds == 1 and clusters is None:
        return bounded(estimate, *wilson(estimate, items), 0.0, 1.0, THESE_WEIGHTS)
    spread = spread_of(correct_SN, added=(0.0, 0.0, 1.0, 1.0), clusters=clusters)
    return _of_spread(estimate, spread, 0.0, covers_of(seeds, clusters))


def wilson(share: float, items: float, off: float = _Z) -> tuple[float, float]:
    """Ends of the score interval of a share (Wilson 1927).

    Args:
        share: of right ones.
        items: that it is worth; need not be whole.
        off: standard errors that an end lies off; 1.96 for 95 %.
    """
    more = off * off / items
    centre = (share + more / 2) / (1 + more)
    half = off * math.sqrt((share * (1 - share) + more / 4) / items) / (1 + more)
    return centre - half, centre + half


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Interval of accuracy a less accuracy b on the same items, seed s of a with seed s of b.

    Args:
        a: [S, N] of 0 and 1.
        b: [S, N] of 0 and 1; on either side [1, N] is one set of weights, against which every
            seed of the other stands.
        clusters: of each item, where items share a document or a phrase.
    """
    return paired_spread(a, b, clusters)[0]


def paired_spread(
    a: npt.ArrayLike, b: npt.ArrayLike, clusters: Sequence[Hashable] | None = None
) -> tuple[Interval, Spread]:
    """``paired_difference`` and what it is read from.

    One item that only a gets right and one that only b does are added (Bonett and Price 2012).
    """
    a_SN, b_SN = _table(a), _table(b)
    seeds = {len(a_SN), len(b_SN)}
    if a_SN.shape[1] != b_SN.shape[1] or len(seeds - {1}) > 1:
        raise ValueError(f"tables of {a_SN.shape} and {b_SN.shape} cannot be paired")
    value_SN = a_SN - b_SN
    spread = spread_of(value_SN, added=(-1.0, 1.0), clusters=clusters)
    covers = covers_of(len(value_SN), clusters)
    return _of_spread(float(value_SN.mean()), spread, -1.0, covers), spread


def _of_spread(estimate: float, spread: Spread, floor: float, covers: str) -> Interval:
    low, high = spread.centre - spread.half, spread.centre + spread.half
    return bounded(estimate, low, high, floor, 1.0, covers)


def covers_of(seeds: int, clusters: Sequence[Hashable] | None) -> str:
    """Over what a figure of so many seeds generalises."""
    if clusters is None:
        return SEEDS_AND_ITEMS if seeds > 1 else THESE_WEIGHTS
    return SEEDS_AND_CLUSTERS if seeds > 1 else CLUSTERS


def loss_interval(losses: Sequence[TextLoss], rng: np.random.Generator) -> Interval:
    """Interval of the token loss over documents, for these weights."""
    nll_D = np.array([loss.nll_sum for loss in losses])
    tokens_D = np.array([loss.tokens for loss in losses], dtype=float)
    return ratio_interval(nll_D, tokens_D, rng)


def loss_ratio_interval(
    losses_a: Sequence[TextLoss], losses_b: Sequence[TextLoss], rng: np.random.Generator
) -> Interval:
    """Interval of token loss a over token loss b on the same documents, in the same order.

    Raises:
        IntegrityError: the documents, or their tokens, are not the same.
    """
    if len(losses_a) != len(losses_b):
        raise IntegrityError(
            f"losses over {len(losses_a)} documents stand against {len(losses_b)}; "
            "evaluate both models on the same suite"
        )
    for a, b in zip(losses_a, losses_b, strict=True):
        if (a.example_id, a.tokens) != (b.example_id, b.tokens):
            raise IntegrityError(
                f"document {a.example_id} ({a.tokens} tokens) stands against {b.example_id} "
                f"({b.tokens} tokens); a ratio of token losses needs the same documents and "
                "tokenizer: compare bits per byte"
            )
    nll_a_D = np.array([loss.nll_sum for loss in losses_a])
    nll_b_D = np.array([loss.nll_sum for loss in losses_b])
    return ratio_interval(nll_a_D, nll_b_D, rng)


def ratio_interval(top_D: Floats, bottom_D: Floats, rng: np.random.Generator) -> Interval:
    """Interval of sum(top) / sum(bottom), documents drawn with replacement.

    Tokens of one document share its fortune, so documents are drawn, not tokens. The
    bootstrap is studentised on the log scale (Efron and Tibshirani 1993, section 12.5): the
    plain percentile interval is too short with few documents.
    """
    if len(top_D) == 0 or top_D.sum() <= 0 or bottom_D.sum() <= 0:
        raise ValueError("a ratio of losses needs documents with a loss above 0")
    estimate = float(top_D.sum() / bottom_D.sum())
    if len(top_D) == 1:
        return Interval(estimate, 0.0, math.inf, covers=DOCUMENTS)
    # Scaled to mean 1, so that squares stay near 1 and their differences keep their digits.
    top_D, bottom_D = top_D / top_D.mean(), bottom_D / bottom_D.mean()
    moment_D5 = np.stack([top_D, bottom_D, top_D**2, bottom_D**2, top_D * bottom_D], axis=1)
    _, error = _log_ratio(moment_D5.sum(axis=0), len(top_D))
    if error < 1e-9:  # The same ratio in every document, as a model against itself.
        return Interval(estimate, estimate, estimate, covers=DOCUMENTS)
    drawn_B, drawn_error_B = _resampled(moment_D5, rng)
    spread_B = drawn_B / np.maximum(drawn_error_B, 1e-9)
    upper, lower = np.quantile(spread_B, [0.975, 0.025])
    low = estimate * math.exp(-float(upper * error))
    high = estimate * math.exp(-float(lower * error))
    return Interval(estimate, low, high, covers=DOCUMENTS)


def _log_ratio(sums: Floats, documents: int) -> tuple[Floats, Floats]:
    """Log of the ratio and its standard error by linearisation; ``sums`` is [..., 5]."""
    top, bottom, top2, bottom2, both = np.moveaxis(sums, -1, 0)
    ratio = top / bottom
    residual = np.maximum(top2 - 2 * ratio * both + ratio**2 * bottom2, 0.0)
    error = np.sqrt(residual * documents / max(documents - 1, 1)) / top
    return np.log(ratio), error


def _resampled(moment_D5: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Log ratio and standard error of B draws of D documents, in chunks of bounded memory."""
    documents = len(moment_D5)
    chunk = max(1, min(_DRAWS, _CHUNK // documents))
    sums = []
    for start in range(0, _DRAWS, chunk):
        draws = min(chunk, _DRAWS - start)
        index = rng.integers(0, documents, size=(draws, documents))
        index += np.arange(draws)[:, None] * documents
        counts = np.bincount(index.ravel(), minlength=draws * documents)
        sums.append(counts.reshape(draws, documents).astype(float) @ moment_D5)
    return _log_ratio(np.concatenate(sums), documents)


def _table(values: npt.ArrayLike) -> Floats:
    table_SN = np.asarray(values, dtype=float)
    if table_SN.ndim != 2 or not table_SN.size:
        raise ValueError(f"a table of seeds by items is needed, and this is {table_SN.shape}")
    if not np.isin(table_SN, (0.0, 1.0)).all():
        raise ValueError("a table of right (1) and wrong (0) answers holds other values")
    return table_SN


def bounded(
    estimate: float, low: float, high: float, floor: float, ceiling: float, covers: str
) -> Interval:
    """An interval that holds its estimate and keeps within what the figure cannot leave."""
    return Interval(
        estimate,
        max(floor, min(estimate, low)),
        min(ceiling, max(estimate, high)),
        covers=covers,
    )
