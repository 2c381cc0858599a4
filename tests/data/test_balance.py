"""Class balance against scikit-learn and simple counts."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from pipeline.data.balance import balance

LABELS = st.lists(st.sampled_from(["a", "b", "c", "Ü", "\ud800"]), min_size=1, max_size=60)


@given(LABELS)
def test_weights_are_those_of_scikit_learn_and_their_mean_is_one(labels: list[str]) -> None:
    weights = balance(labels, action="weights").weights
    names = np.array(sorted(set(labels)), dtype=object)
    expected = compute_class_weight("balanced", classes=names, y=np.array(labels, dtype=object))
    assert [weights[name] for name in names] == pytest.approx(expected)
    assert np.mean([weights[label] for label in labels]) == pytest.approx(1)


@given(LABELS, st.integers(1, 20), st.integers(0, 5))
def test_a_cap_keeps_as_many_as_it_says(labels: list[str], cap: int, seed: int) -> None:
    found = balance(labels, action="cap", max_per_class=cap, seed=seed)
    kept = Counter(label for label, keep in zip(labels, found.keep, strict=True) if keep)
    assert kept == {name: min(size, cap) for name, size in Counter(labels).items()}
    again = balance(labels, action="cap", max_per_class=cap, seed=seed)
    assert (again.keep == found.keep).all()


def test_the_default_cap_is_the_median_class() -> None:
    labels = ["a"] * 100 + ["b"] * 11 + ["c"] * 10 + ["d"]
    found = balance(labels, action="cap")
    assert found.max_per_class == 10
    assert Counter(np.array(labels)[found.keep].tolist()) == {"a": 10, "b": 10, "c": 10, "d": 1}


def test_what_is_kept_of_a_class_does_not_depend_on_the_others() -> None:
    alone = balance(["a"] * 50, action="cap", max_per_class=5, seed=3)
    mixed = balance(["b"] * 20 + ["a"] * 50, action="cap", max_per_class=5, seed=3)
    assert (mixed.keep[20:] == alone.keep).all()
    other = balance(["a"] * 50, action="cap", max_per_class=5, seed=4)
    assert (other.keep != alone.keep).any()


def test_the_report_counts_and_keeps_everything() -> None:
    found = balance(["b", "a", "a", "c", "a", "b"])
    assert list(found.counts.items()) == [("a", 3), ("b", 2), ("c", 1)]
    assert found.imbalance_ratio == 3
    assert found.keep.all()
    assert found.weights == {}
    assert found.max_per_class is None


def test_effective_number_of_even_classes_is_their_number() -> None:
    assert balance(["a", "b", "c", "d"] * 5).effective_number == pytest.approx(4)
    assert balance(["a"] * 9).effective_number == pytest.approx(1)


@pytest.mark.parametrize("action", ["report", "cap", "weights"])
def test_no_row_is_no_error(action: str) -> None:
    found = balance([], action=action)  # type: ignore[arg-type]
    assert found.counts == {}
    assert found.effective_number == 0
    assert len(found.keep) == 0
