"""The recommendation: the cheapest that is shown to be good enough, in words."""

from __future__ import annotations

from typing import Any

import pytest
from ways_case import asked, rights

from eval.recommendation import recommendation_of
from eval.results import ModelResult
from eval.ways import ways_of


def recommended(results: list[ModelResult], margin: float = 0.02, chance: float = 0.25) -> Any:
    return recommendation_of(ways_of(results, "test"), chance, margin)


def standing(found: Any) -> dict[str, str]:
    return {point["key"]: point["standing"] for point in found["frontier"]}


def test_the_cheapest_that_is_not_worse_is_recommended_with_its_evidence() -> None:
    found = recommended([
        asked("generate", rights(0.905, 1), seconds=40.0),
        asked("classifier", rights(0.897, 1), seconds=3.0),
        asked("tfidf_logreg", rights(0.7, 3), role="reference", seconds=0.1),
    ])  # fmt: skip
    assert (found["arm"], found["trained"], found["undecided"]) == ("classifier", True, [])
    assert standing(found)["classifier"] == "not worse"
    assert standing(found)["tfidf_logreg"] == "worse"
    words = found["words"]
    assert words[0].startswith("Deploy classifier head of demo: the cheapest that is")
    assert "at 3 processor seconds for 1,000 items" in words[0]
    assert words[1].startswith("Against the best, free writing of demo")
    assert any(
        "shown to be worse than the best by more than 0.02: TF-IDF logistic" in w for w in words
    )
    assert any("these weights (1 seed)" in line for line in words)


def test_a_reference_that_is_as_good_means_do_not_fine_tune() -> None:
    found = recommended([
        asked("classifier", rights(0.905, 1), seconds=3.0),
        asked("tfidf_logreg", rights(0.897, 1), role="reference", seconds=0.1),
    ])  # fmt: skip
    assert (found["arm"], found["trained"]) == ("tfidf_logreg", False)
    assert found["words"][0].startswith(
        "Do not fine-tune: TF-IDF logistic regression of rung is the cheapest"
    )


def test_beside_many_others_it_takes_more_to_be_shown_to_be_worse() -> None:
    """Alone its p is below 0.025; as one of six it is not, by Holm's method."""
    best = asked("classifier", rights(0.90, 1), seconds=3.0)
    one = asked("tfidf_logreg", rights(0.871, 2), role="reference", seconds=0.1)
    others = [
        asked(arm, rights(0.89, seed), role="reference", seconds=0.2)
        for seed, arm in enumerate(
            ("tfidf_bayes", "nearest", "zero_shot", "few_shot", "retrieved"), start=3
        )
    ]
    assert standing(recommended([best, one]))["tfidf_logreg"] == "worse"
    assert standing(recommended([best, one, *others]))["tfidf_logreg"] == "undecided"


def test_what_is_cheaper_and_not_shown_either_way_is_undecided_and_not_recommended() -> None:
    found = recommended([
        asked("classifier", rights(0.90, 1), seconds=3.0),
        asked("tfidf_logreg", rights(0.88, 2), role="reference", seconds=0.1),
    ])  # fmt: skip
    assert (found["arm"], found["undecided"]) == ("classifier", ["tfidf_logreg"])
    assert any(
        line.startswith("Undecided: TF-IDF logistic regression (-0.0") for line in found["words"]
    )


def test_small_test_sets_decide_nothing() -> None:
    found = recommended([
        asked("classifier", rights(0.9, 1, 30), seconds=3.0),
        asked("tfidf_logreg", rights(0.9, 1, 30), role="reference", seconds=0.1),
    ])  # fmt: skip
    assert found["arm"] == "tfidf_logreg"  # The same answers: it is the best, and cheaper.
    assert "of rung is as accurate as any, and none is cheaper;" in found["words"][0]
    found = recommended([
        asked("classifier", rights(0.9, 1, 30), seconds=3.0),
        asked("tfidf_logreg", rights(0.8, 1, 30), role="reference", seconds=0.1),
    ])  # fmt: skip
    assert found["undecided"] == ["tfidf_logreg"]


def test_nothing_above_chance_means_deploy_none() -> None:
    found = recommended([asked("classifier", rights(0.26, 1)), asked("generate", rights(0.2, 2))])
    assert found["words"][0].startswith("Deploy none: the best, classifier head of demo")
    assert not found["deploy"]
    assert recommended([asked("classifier", rights(0.9, 1))])["deploy"]


def test_seconds_of_a_gpu_and_of_a_processor_are_not_set_off() -> None:
    results = [
        asked("classifier", rights(0.9, 1), seconds=3.0, device="cuda"),
        asked("tfidf_logreg", rights(0.9, 2), role="reference", seconds=0.1),
    ]
    found = recommended(results)
    assert found["cost_is"] == "seconds by the clock"
    assert [point["cost_s_per_1000"] for point in found["frontier"]] == pytest.approx([10.0, 10.0])
    same = recommended([asked("classifier", rights(0.9, 1), seconds=3.0, device="cuda")])
    assert same["cost_is"] == "GPU seconds"


def test_frontier_holds_what_no_other_beats_in_both() -> None:
    figures = {"classifier": (0.90, 3.0), "generate": (0.92, 40.0), "constrained": (0.85, 45.0),
               "likelihood": (0.93, 90.0), "joint": (0.80, 2.0)}  # fmt: skip
    found = recommended([
        asked(arm, rights(quality, 1), seconds=cost)  # type: ignore[arg-type]
        for arm, (quality, cost) in figures.items()
    ])  # fmt: skip
    on = {point["arm"] for point in found["frontier"] if point["on_frontier"]}
    assert on == {"classifier", "generate", "likelihood", "joint"}


def test_three_seeds_need_no_caveat_and_nothing_measured_gives_nothing() -> None:
    results = [asked("classifier", rights(0.9, s), seed=s) for s in range(3)]
    results += [asked("generate", rights(0.9, 9 + s), seed=s, seconds=30.0) for s in range(3)]
    found = recommended(results)
    assert not any("these weights (" in line for line in found["words"])
    assert recommendation_of([], 0.5) is None
    control = [asked("classifier", rights(0.9, 1), role="control")]
    assert recommendation_of(ways_of(control, "test"), 0.25) is None
