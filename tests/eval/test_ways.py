"""Every two ways of answering: who is paired with whom, and what may be said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import (  # type: ignore[import-untyped]
    mcnemar as oracle_mcnemar,
)
from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]
from ways_case import ITEMS, asked, rights

from eval.results import ModelResult
from eval.ways import pairs_of, ways_of
from pipeline.core.arms import Arm
from pipeline.core.errors import IntegrityError


def seeds(arm: Arm, share: float, number: int = 3, **more: object) -> list[ModelResult]:
    return [
        asked(arm, rights(share, 7 * seed + len(arm)), seed=seed, **more)  # type: ignore[arg-type]
        for seed in range(number)
    ]


def test_models_and_references_are_paired_and_a_control_with_its_own_arm_alone() -> None:
    results = [
        *seeds("classifier", 0.9), *seeds("generate", 0.8),
        *seeds("classifier", 0.7, role="control"), *seeds("tfidf_logreg", 0.6, 1, role="reference"),
    ]  # fmt: skip
    found = {(pair["a"], pair["b"]) for pair in pairs_of(ways_of(results, "test"))}
    assert found == {
        ("classifier", "generate"), ("classifier", "tfidf_logreg"), ("generate", "tfidf_logreg"),
        ("classifier", "classifier (control)"),
    }  # fmt: skip


def test_holm_over_the_pairs_and_mcnemar_are_statsmodels() -> None:
    shares: dict[Arm, float] = {
        "classifier": 0.90, "generate": 0.895, "constrained": 0.88, "joint": 0.86,
    }  # fmt: skip
    results = [asked(arm, rights(share, n)) for n, (arm, share) in enumerate(shares.items())]
    pairs = pairs_of(ways_of(results, "test"))
    expected = multipletests([pair["p"] for pair in pairs], method="holm")[1]
    assert [pair["holm_p"] for pair in pairs] == pytest.approx(expected)
    a, b = (np.array([p.label == p.gold for p in r.predictions["test"]]) for r in results[:2])
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    assert pairs[0]["mcnemar_p"] == pytest.approx(oracle_mcnemar(table, exact=True).pvalue)


def test_three_seeds_may_say_beats_and_one_speaks_of_these_weights() -> None:
    three = [*seeds("classifier", 0.9), *seeds("generate", 0.7)]
    (pair,) = pairs_of(ways_of(three, "test"))
    assert pair["words"].startswith("Classifier head beats free writing by +0.")
    assert pair["seeds"] == 3
    (pair,) = pairs_of(ways_of([three[0], three[3]], "test"))
    assert pair["words"].startswith(
        "For these weights classifier head is better than free writing by +0."
    )


def test_what_is_not_shown_says_what_would_have_been() -> None:
    same = [asked("generate", rights(0.8, 1)), asked("classifier", rights(0.8, 2))]
    (pair,) = pairs_of(ways_of(same, "test"))
    assert "cannot be told apart" in pair["words"]
    assert (
        f"a difference of {pair['smallest_difference']:.3f} would have been shown" in pair["words"]
    )


def test_the_worse_of_two_is_told_from_the_side_of_the_better() -> None:
    results = [asked("generate", rights(0.6, 1)), asked("classifier", rights(0.9, 2))]
    (pair,) = pairs_of(ways_of(results, "test"))
    assert pair["difference"]["estimate"] < 0
    assert "classifier head is better than free writing by +0." in pair["words"]


def test_every_seed_stands_against_a_reference_and_strangers_are_not_paired() -> None:
    results = [*seeds("classifier", 0.9), *seeds("nearest", 0.6, 1, role="reference")]
    (pair,) = pairs_of(ways_of(results, "test"))
    assert pair["seeds"] == 3
    strangers = [*seeds("classifier", 0.9, 1), replace(seeds("generate", 0.9, 1)[0], seed=5)]
    assert pairs_of(ways_of(strangers, "test")) == []


def test_clusters_widen_the_interval() -> None:
    names = {f"i{index:05d}": str(index // 10) for index in range(ITEMS)}
    right = rights(0.8, 1, ITEMS // 10)
    repeated = [one for one in right for _ in range(10)]
    other = [one for one in rights(0.75, 2, ITEMS // 10) for _ in range(10)]
    plain = [asked("classifier", repeated), asked("generate", other)]
    grouped = [
        asked("classifier", repeated, clusters=names),
        asked("generate", other, clusters=names),
    ]
    wide, narrow = (pairs_of(ways_of(results, "test"))[0] for results in (grouped, plain))
    assert (wide["clusters"], narrow["clusters"]) == (200, None)
    widths = [pair["difference"]["high"] - pair["difference"]["low"] for pair in (wide, narrow)]
    assert widths[0] > 2.5 * widths[1]
    assert wide["difference"]["covers"] == "clusters of items, for these weights"


def test_two_of_one_seed_are_refused() -> None:
    one = asked("classifier", rights(0.8, 1))
    with pytest.raises(IntegrityError, match="same form, role and seed"):
        ways_of([one, one], "test")


def test_ways_of_one_arm_and_different_models_are_called_by_them() -> None:
    results = [asked("classifier", rights(0.8, 1), name=name) for name in ("small", "large")]
    assert [way.key for way in ways_of(results, "test")] == [
        "classifier of small", "classifier of large",
    ]  # fmt: skip
