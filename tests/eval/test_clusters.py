"""Items that share something are one draw: four copies of each item tell no more than it alone."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from eval.clusters import clusters_of, linked, shared, summed
from eval.risks.bias import read_bbq
from eval.risks.line import share
from eval.risks.membership import with_interval
from eval.text.instructions import instruction_figures
from eval.text.judge import Duel, judge
from eval.text.quality import quality
from eval.text.two_sample import auroc, two_sample
from tests.eval.text.test_instructions import ANSWERS, ROWS

BBQ = Path(__file__).resolve().parents[3] / "shared" / "data" / "bbq"
COPIES = 4
WORDS = [f"w{n}" for n in range(30)]


def texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=12)) for _ in range(count)]


def width(figure: dict[str, Any]) -> float:
    return float(figure["high"] - figure["low"])


def test_a_row_without_a_group_is_its_own_cluster() -> None:
    rows = [{"group": "d"}, {"group": None}, {}, {"group": "d"}]
    found = clusters_of(rows) or []
    assert found[0] == found[3]
    assert len(set(found)) == 3
    assert clusters_of([{"group": None}, {}]) is None
    assert shared(["a", "b"]) is None
    assert shared(["a", "a"]) == ["a", "a"]


def test_pairs_are_linked_by_either_side_however_far_apart() -> None:
    pairs = [("q1", "c1"), ("q2", "c2"), ("q1", "c3"), ("q3", "c3"), ("c1", "q1")]
    assert linked(pairs) == [0, 1, 0, 0, 2]
    np.testing.assert_array_equal(summed(np.eye(3), ["a", "b", "a"]), [[1, 0, 1], [0, 1, 0]])


@pytest.mark.skipif(not BBQ.is_dir(), reason="the shared data sets are not beside the checkout")
def test_bbq_rows_are_told_by_the_25_templates_that_each_category_was_made_of() -> None:
    for file in sorted(BBQ.glob("*.jsonl")):
        sizes = Counter(item.template for item in read_bbq(file)[0])
        # Parrish et al. 2022, table 1: 25 templates; two share a question here and there.
        assert 23 <= len(sizes) <= 25, file.name


def test_copies_of_texts_make_no_interval_narrower_where_they_are_known_as_such() -> None:
    ours, theirs = texts(30, 1), texts(30, 2)
    theirs[:9] = ours[:9]
    alone = quality(ours, theirs, clusters=[f"d{n}" for n in range(30)])
    names = [f"d{n}" for n in range(30) for _ in range(COPIES)]
    copied = [text for text in ours for _ in range(COPIES)]
    golds = [text for text in theirs for _ in range(COPIES)]
    together, apart = quality(copied, golds, clusters=names), quality(copied, golds)
    for name in ("exact_match", "token_f1", "rouge1", "rougeL", "chrf", "bleu"):
        assert together[name]["estimate"] == pytest.approx(alone[name]["estimate"])
        assert together[name]["covers"] == "clusters of items, for these weights"
        assert width(together[name]) == pytest.approx(width(alone[name]), rel=0.03)
        assert width(apart[name]) < 0.7 * width(together[name])


def test_instructions_of_one_group_and_duels_of_one_document_are_one_draw() -> None:
    rows = [{**row, "group": f"g{n % 2}"} for n, row in enumerate([*ROWS, *ROWS] * 5)]
    figures = instruction_figures(rows, [*ANSWERS, *ANSWERS] * 5)
    for how in ("prompt_strict", "instruction_loose"):
        assert figures[how]["covers"] == "clusters of items, for these weights"
    duels = [Duel("q", "ours", f"theirs {n}") for n in range(40)]

    def half(prompts: Any) -> list[str | None]:
        # The answer that stands first wins for one half of the duels, ours for the other.
        return ["[[A]]" if n % 40 < 20 or n < 40 else "[[B]]" for n in range(len(prompts))]

    apart = judge(duels, half)["win_rate"]
    together = judge(duels, half, clusters=[f"d{n // 10}" for n in range(40)])["win_rate"]
    assert apart["estimate"] == together["estimate"] == 0.75
    assert width(apart) < 0.7 * width(together)


@pytest.mark.parametrize("apart", [0.0, 1.0])
def test_the_area_of_clustered_scores_covers_the_truth_in_93_to_97_of_100_draws(
    apart: float,
) -> None:
    """Items of a document share a normal part, as large as their own, on both sides alike."""
    truth, rng = NormalDist().cdf(apart / math.sqrt(2 * 2)), np.random.default_rng(4)
    documents, held, narrow = 40, 0, 0
    clusters = np.repeat(np.arange(documents), COPIES).tolist()
    for _ in range(1000):
        of_document = np.repeat(rng.normal(0, 1, (2, documents)), COPIES, axis=1)
        own = rng.normal(0, 1, (2, documents * COPIES))
        positive, negative = apart + of_document[0] + own[0], of_document[1] + own[1]
        for found in (auroc(positive, negative, clusters), auroc(positive, negative)):
            inside = found.low <= truth <= found.high
            held, narrow = (held + inside, narrow) if "clusters" in found.covers else (
                held, narrow + inside)  # fmt: skip
    assert 930 <= held <= 970
    assert narrow < 900


def test_no_document_stands_in_both_halves_of_a_two_sample_test() -> None:
    # Each document has words of its own: known from one half it would give its texts away.
    real = [f"{t} real{n // 5} real{n // 5}" for n, t in enumerate(texts(100, 5))]
    made = [f"{t} made{n // 5} made{n // 5}" for n, t in enumerate(texts(100, 6))]
    documents = [f"d{n // 5}" for n in range(100)]
    apart, found = two_sample(real, made), two_sample(real, made, clusters=documents)
    assert found["accuracy"]["estimate"] < apart["accuracy"]["estimate"] - 0.1
    assert found["held_out"] == 100
    assert found["auroc"]["covers"] == "clusters of items, for these weights"
    assert "share one document" in two_sample(real, made, clusters=["d"] * 100)["why"]


def test_copies_of_rows_make_no_interval_of_membership_narrower() -> None:
    rng = np.random.default_rng(8)
    members, others = rng.normal(0.0, 1.0, 60), rng.normal(1.0, 1.0, 60)
    names = [n for n in range(60) for _ in range(COPIES)]
    many = np.repeat(members, COPIES).tolist(), np.repeat(others, COPIES).tolist()
    alone = with_interval("auroc", members.tolist(), others.tolist(), 0)
    together = with_interval("auroc", *many, 0, (names, names))
    apart = with_interval("auroc", *many, 0)
    ends = [one.high - one.low for one in (alone, together, apart)]
    assert ends[1] == pytest.approx(ends[0], rel=0.15)
    assert ends[2] < 0.7 * ends[1]


def test_a_share_of_a_risk_page_says_what_its_interval_is_over() -> None:
    hits = [n // 10 % 2 == 0 for n in range(80)]
    apart = share("bias", "what", hits, "rule")
    line = share("bias", "what", hits, "rule", clusters=[n // 10 for n in range(80)])
    assert line.how == "rule; interval over the 8 groups that the items come from"
    assert apart.how == "rule"
    narrow, wide = ((one.high or 0) - (one.low or 0) for one in (apart, line))
    assert narrow < 0.6 * wide
