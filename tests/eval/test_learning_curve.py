"""Learning curves: figures against other libraries, and claims that the data bear out or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.naive_bayes import BernoulliNB
from statsmodels.stats.multitest import multipletests

from eval.learning_curve import Point, learning_curve
from eval.record import Prediction
from pipeline.core.errors import IntegrityError

SHARES = (0.01, 0.1, 1.0)
SEEDS = (1, 2, 3)
BUDGET = {"max_steps": 500}
ITEMS = 400


def _predictions(right: Sequence[bool]) -> list[Prediction]:
    golds = ["home" if n % 2 else "away" for n in range(len(right))]
    other = {"home": "away", "away": "home"}
    return [
        Prediction(f"{n:04}", gold, gold if ok else other[gold], None, None, 0.0, 1, 0)
        for n, (gold, ok) in enumerate(zip(golds, right, strict=True))
    ]


def _point(arm: str, share: float, seed: int, accuracy: float, flipped: float = 0.0) -> Point:
    rng = np.random.default_rng([seed, int(share * 100), int(flipped * 100)])
    # The same items are hard for everyone, as they are in life.
    hardness = np.random.default_rng(0).random(ITEMS) * 0.9 + rng.random(ITEMS) * 0.1
    right = hardness < np.quantile(hardness, accuracy)
    return Point(arm, share, flipped, seed, round(1000 * share), _predictions(right.tolist()))


def _points(
    accuracies: Mapping[str, tuple[float, ...]], seeds: Sequence[int] = SEEDS
) -> list[Point]:
    return [
        _point(arm, share, seed, accuracy)
        for arm, figures in accuracies.items()
        for share, accuracy in zip(SHARES, figures, strict=True)
        for seed in seeds
    ]


def _said(curve: dict[str, Any], words: str) -> str:
    (found,) = [line for line in curve["claims"] if words in line]
    return str(found)


def test_a_point_is_the_mean_accuracy_of_its_seeds() -> None:
    points = _points({"likelihood": (0.6, 0.7, 0.8), "classifier": (0.5, 0.7, 0.9)})
    curve = learning_curve(points, BUDGET)
    assert len(curve["points"]) == 6
    for told in curve["points"]:
        mine = [p for p in points if (p.arm, p.share) == (told["arm"], told["share"])]
        theirs = [
            accuracy_score([p.gold for p in one.predictions], [p.label for p in one.predictions])
            for one in mine
        ]
        assert told["accuracy"]["estimate"] == pytest.approx(np.mean(theirs))
        assert told["accuracy"]["low"] < told["accuracy"]["estimate"] < told["accuracy"]["high"]
        assert (told["seeds"], told["rows"]) == (3, round(1000 * told["share"]))


def test_chances_are_held_together_by_holm() -> None:
    curve = learning_curve(
        _points({"likelihood": (0.62, 0.7, 0.8), "classifier": (0.55, 0.7, 0.83)}), BUDGET
    )
    found = curve["differences"]
    theirs = multipletests([d["p"] for d in found], method="holm")[1]
    assert [d["holm_p"] for d in found] == pytest.approx(list(theirs))
    for d in found:
        inside = d["difference"]["low"] <= 0 <= d["difference"]["high"]
        assert inside == (d["p"] >= 0.05)


def test_curves_that_cross_bear_ng_and_jordan_out() -> None:
    curve = learning_curve(
        _points({"joint": (0.7, 0.75, 0.76), "classifier": (0.55, 0.75, 0.9)}), BUDGET
    )
    said = _said(curve, "Ng and Jordan")
    assert "is borne out: it wins at 1% of the rows and loses at 100%: they cross" in said
    assert "1% +0.150" in said
    assert "100% -0.140" in said


def test_a_writer_that_loses_everywhere_bears_nothing_out() -> None:
    curve = learning_curve(
        _points({"generate": (0.5, 0.6, 0.7), "classifier": (0.65, 0.75, 0.85)}), BUDGET
    )
    assert "is not borne out: it loses at 1%, 10%, 100% of the rows" in _said(curve, "Ng and")


def test_what_cannot_be_told_apart_is_said_to_be_so() -> None:
    curve = learning_curve(
        _points({"generate": (0.6, 0.7, 0.8), "classifier": (0.6, 0.7, 0.8)}), BUDGET
    )
    assert "is not shown: at no share can they be told apart" in _said(curve, "Ng and")
    assert "is not shown: at no share" in _said(curve, "needs fewer rows")


def test_ninety_percent_of_each_forms_own_accuracy_is_looked_for() -> None:
    curve = learning_curve(
        _points({"generate": (0.5, 0.62, 0.8), "classifier": (0.6, 0.86, 0.9)}), BUDGET
    )
    reached = {entry["arm"]: entry["share"] for entry in curve["reached"]}
    assert reached == {"generate": 1.0, "classifier": 0.1}
    said = _said(curve, "needs fewer rows")
    assert "is borne out: at 10% of the rows" in said
    assert "classifier head needs 10% of the rows and free writing 100%" in said


def test_what_is_not_above_chance_needs_no_number_of_rows() -> None:
    curve = learning_curve(
        _points({"generate": (0.5, 0.5, 0.5), "classifier": (0.6, 0.8, 0.9)}), BUDGET
    )
    assert "how many rows it needs cannot be said" in _said(curve, "Free writing:")
    assert "could not be tested" in _said(curve, "needs fewer rows")


def test_with_fewer_than_three_seeds_it_is_about_these_weights() -> None:
    accuracies = {"joint": (0.75, 0.75, 0.76), "classifier": (0.55, 0.75, 0.9)}
    curve = learning_curve(_points(accuracies, seeds=(1,)), BUDGET)
    assert "is borne out for these weights" in _said(curve, "Ng and")


def test_what_wrong_labels_cost_is_the_paired_loss() -> None:
    clean = _points({"generate": (0.5, 0.6, 0.8), "classifier": (0.5, 0.6, 0.8)})
    hurt = [_point("generate", 1.0, seed, 0.78, flipped=0.2) for seed in SEEDS]
    hurt += [_point("classifier", 1.0, seed, 0.6, flipped=0.2) for seed in SEEDS]
    curve = learning_curve([*clean, *hurt], BUDGET)
    lost = {e["arm"]: e["lost"]["estimate"] for e in curve["flips"] if "against" not in e}
    assert lost == {"generate": pytest.approx(0.02), "classifier": pytest.approx(0.2)}
    said = _said(curve, "At 20% flipped")
    assert "classifier head loses 0.180 [" in said
    assert "more than free writing" in said


def test_items_that_share_a_phrase_are_drawn_together() -> None:
    points = _points({"generate": (0.5, 0.6, 0.8)})
    alone = learning_curve(points, BUDGET)
    phrases = {f"{n:04}": f"phrase {n // 8}" for n in range(ITEMS // 2)}
    together = learning_curve(points, BUDGET, phrases)
    for one, other in zip(alone["points"], together["points"], strict=True):
        assert one["accuracy"]["estimate"] == other["accuracy"]["estimate"]
        assert one["accuracy"]["covers"] != other["accuracy"]["covers"]


def test_one_form_alone_has_its_points_and_no_rival() -> None:
    curve = learning_curve(_points({"classifier": (0.6, 0.8, 0.9)}), BUDGET)
    assert (curve["differences"], curve["needs"]) == ([], [])
    assert len(curve["claims"]) == 2


def test_points_on_other_items_are_refused() -> None:
    points = _points({"generate": (0.5, 0.6, 0.8)})
    points[-1] = Point("generate", 1.0, 0.0, 3, 9, _predictions([True] * (ITEMS - 1)))
    with pytest.raises(IntegrityError, match="on other items"):
        learning_curve(points, BUDGET)


def test_the_budget_is_said() -> None:
    points = _points({"generate": (0.5, 0.6, 0.8)})
    assert "every training made 500 updates" in learning_curve(points, BUDGET)["claims"][0]
    told = learning_curve(points, {"num_train_epochs": 3.0})["claims"][0]
    assert "epochs were divided by the share" in told


def test_the_published_crossing_is_found_between_two_learners_that_have_it() -> None:
    """Words that come in pairs break naive Bayes's assumption: it starts ahead and ends behind."""
    rng = np.random.default_rng(1)

    def rows(count: int) -> tuple[Any, Any]:
        y = rng.integers(0, 2, count)
        # A word that stands six times together, and two hundred weak ones by themselves.
        strong = rng.random(count) < np.where(y == 1, 0.6, 0.4)
        weak = rng.random((count, 200)) < np.where(y == 1, 0.3, 0.24)[:, None]
        return np.hstack([np.repeat(strong[:, None], 6, axis=1), weak]).astype(float), y

    test, gold = rows(2000)
    learners = {
        "tfidf_bayes": BernoulliNB(),
        "tfidf_logreg": LogisticRegression(C=1e3, max_iter=500),
    }
    points = []
    for seed in SEEDS:
        x, y = rows(4000)
        for share in (0.03, 1.0):
            few = round(share * len(x))
            for arm, learner in learners.items():
                labels = learner.fit(x[:few], y[:few]).predict(test)
                predictions = [
                    Prediction(f"{n:05}", str(g), str(label), None, None, 0.0, 0, 0)
                    for n, (g, label) in enumerate(zip(gold, labels, strict=True))
                ]
                points.append(Point(arm, share, 0.0, seed, few, predictions))
    curve = learning_curve(points, {"max_steps": 1})
    assert "they cross" in _said(curve, "Ng and Jordan"), curve["claims"]
