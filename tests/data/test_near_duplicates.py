"""Near duplicates against exact Jaccard over all pairs, counted with sets."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data import near_duplicates, shingles, similarity_join
from pipeline.data.near_duplicates import (
    COPIES,
    Pairs,
    keep_first,
    label_conflicts,
    near_duplicate_pairs,
)

SHARED = Path(__file__).resolve().parents[3] / "shared/data"
Jaccards = dict[tuple[int, int], float]

# Few letters, so that many pairs are near; some that NFKC and casefold change.
texts_of_few_letters = st.lists(
    st.text(alphabet="abAB \n,ﬁß中①_\ud800", max_size=24), max_size=COPIES
)
thresholds = st.one_of(
    st.sampled_from([0.25, 0.5, 2 / 3, 0.8, 1.0]), st.floats(0.05, 1, exclude_min=True)
)


def shingle_set(text: str) -> frozenset[str]:
    words = re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()
    return frozenset(words[i : i + 5] for i in range(max(1, len(words) - 4)) if words)


def brute_force(texts: list[str], threshold: float) -> Jaccards:
    sets = [shingle_set(text) for text in texts]
    found = {}
    for right in range(len(sets)):
        for left in range(right):
            union = len(sets[left] | sets[right])
            jaccard = len(sets[left] & sets[right]) / union if union else 0.0
            if jaccard >= threshold and sets[left] and sets[right]:
                found[left, right] = jaccard
    return found


def as_dict(pairs: Pairs) -> Jaccards:
    keys = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    return dict(zip(keys, pairs.jaccard.tolist(), strict=True))


def families(count: int, seed: int = 0) -> list[str]:
    """Texts of random words; most have near copies."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 8))) for _ in range(200)]
    texts: list[str] = []
    while len(texts) < count:
        text = rng.choices(words, k=rng.randint(1, 70))
        texts.append(" ".join(text))
        for _ in range(rng.randrange(4)):
            text[rng.randrange(len(text))] = rng.choice(words)
            texts.append(" ".join(text))
    return texts[:count]


@given(texts_of_few_letters, thresholds)
@settings(max_examples=100, deadline=None)
def test_pairs_are_those_of_brute_force_at_any_threshold(
    texts: list[str], threshold: float
) -> None:
    expected = brute_force(texts, threshold)
    assert as_dict(near_duplicate_pairs(texts, threshold=threshold)) == pytest.approx(expected)


@given(st.lists(st.text(max_size=12), max_size=6))
@settings(deadline=None)
def test_pairs_of_any_text_are_those_of_brute_force(texts: list[str]) -> None:
    assert as_dict(near_duplicate_pairs(texts)) == pytest.approx(brute_force(texts, 0.8))


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.8, 0.95])
def test_pairs_of_longer_texts_are_those_of_brute_force(threshold: float) -> None:
    # Lengths go over MOST_SHINGLES: pairs by prefix, by MinHash, and one of either side.
    texts = families(400)
    assert max(len(shingle_set(text)) for text in texts) > similarity_join.MOST_SHINGLES
    expected = brute_force(texts, threshold)
    assert len(expected) > 50
    assert as_dict(near_duplicate_pairs(texts, threshold=threshold)) == pytest.approx(expected)


def test_pairs_are_ordered_and_stand_once() -> None:
    pairs = near_duplicate_pairs(families(300))
    keys = list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert keys == sorted(set(keys))
    assert (pairs.left < pairs.right).all()
    assert pairs.left.dtype == pairs.right.dtype == np.int64
    assert pairs.jaccard.dtype == np.float32


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    texts = families(12, seed=3)
    straight = as_dict(near_duplicate_pairs(texts))
    shuffled = near_duplicate_pairs([texts[row] for row in order])
    back = {tuple(sorted((order[a], order[b]))): j for (a, b), j in as_dict(shuffled).items()}
    assert back == straight


def test_result_ignores_workers_blocks_seed_and_container(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = families(500)
    expected = as_dict(near_duplicate_pairs(texts))
    chunks = pa.chunked_array([texts[:1], [], texts[1:77], texts[77:]], pa.string())
    assert as_dict(near_duplicate_pairs(texts, workers=3)) == expected
    assert as_dict(near_duplicate_pairs(chunks)) == expected
    assert as_dict(near_duplicate_pairs(chunks.combine_chunks())) == expected
    assert as_dict(near_duplicate_pairs(tuple(texts), seed=7)) == expected
    monkeypatch.setattr(shingles, "BLOCK_ROWS", 7)
    monkeypatch.setattr(shingles, "BLOCK_CHARACTERS", 300)
    monkeypatch.setattr(similarity_join, "AT_ONCE", 50)
    monkeypatch.setattr(near_duplicates, "HELD_SHINGLES", 900)
    monkeypatch.setattr(near_duplicates, "SORTED_SHINGLES", 400)
    monkeypatch.setattr(near_duplicates, "SAMPLE", 5)
    monkeypatch.setattr("pipeline.data.spans.WAITING", 3)
    assert as_dict(near_duplicate_pairs(texts, workers=2)) == expected


@given(texts_of_few_letters, thresholds)
@settings(max_examples=100, deadline=None)
def test_no_two_kept_rows_are_near_and_every_dropped_one_has_a_kept_one_before_it(
    texts: list[str], threshold: float
) -> None:
    kept = keep_first(len(texts), near_duplicate_pairs(texts, threshold=threshold))
    near = brute_force(texts, threshold)
    for row in range(len(texts)):
        before = [left for left in range(row) if (left, row) in near and kept[left]]
        assert kept[row] == (not before)


@pytest.mark.parametrize("seed", range(3))
def test_crowded_texts_keep_the_rows_that_all_pairs_would_keep(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = families(150, seed) + [
        f"the order with number {i} was shipped today" for i in range(60)
    ]
    texts += texts[:10] * (COPIES + 3)
    random.Random(seed).shuffle(texts)
    near = brute_force(texts, 0.7)
    everything = keep_first(len(texts), pairs_from(near))
    monkeypatch.setattr(near_duplicates, "CROWDED", 4)
    monkeypatch.setattr(near_duplicates, "CROWDED_PER_TEXT", 0)
    pairs = near_duplicate_pairs(texts, threshold=0.7)
    assert as_dict(pairs).items() <= {k: np.float32(v) for k, v in near.items()}.items()
    assert (keep_first(len(texts), pairs) == everything).all()


def pairs_from(jaccards: Jaccards) -> Pairs:
    keys = np.array(sorted(jaccards), np.int64).reshape(-1, 2)
    values = np.array([jaccards[key] for key in sorted(jaccards)], np.float32)
    return Pairs(keys[:, 0], keys[:, 1], values)


@pytest.mark.parametrize(
    "texts",
    [
        ["The same row again and again."] * 20_000,
        [f"Order {i}: thank you very much for shopping with us, and see you soon in one of our "
         "many stores; your goods arrive at the address that you gave us." for i in range(4_000)],
    ],
    ids=["identical", "template"],
)  # fmt: skip
def test_a_dense_cloud_stays_linear(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "CROWDED", 1 << 16)
    pairs = near_duplicate_pairs(texts)
    assert len(pairs) < 20 * len(texts)
    assert keep_first(len(texts), pairs).sum() == 1


def test_texts_without_words_are_in_no_pair() -> None:
    assert len(near_duplicate_pairs(["", "", "?!", "?!", " \n", "\u0301"])) == 0
    assert len(near_duplicate_pairs([])) == 0
    assert len(near_duplicate_pairs(pa.chunked_array([[None, None]], pa.string()))) == 0


@pytest.mark.parametrize("threshold", [0, -0.1, 1.01, float("nan")])
def test_a_threshold_out_of_bounds_is_refused(threshold: float) -> None:
    with pytest.raises(DataError, match="threshold is"):
        near_duplicate_pairs(["a"], threshold=threshold)


def test_conflicts_name_both_rows() -> None:
    texts = [
        "Where is my new card?",
        "where is my new CARD",
        "Another text",
        "Where is my new card",
    ]
    conflicts = label_conflicts(near_duplicate_pairs(texts), ["a", "b", "a", "a"])
    assert conflicts == [(0, 1, 1.0), (1, 3, 1.0)]


def test_the_near_copies_of_banking77_are_found() -> None:
    folder = SHARED / "banking77"
    if not folder.is_dir():
        pytest.skip("needs the Banking77 rows beside the checkout")
    train, test = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]
        for name in ("train", "test")
    )
    rows = [*train, *test]
    pairs = near_duplicate_pairs([row["text"] for row in rows])
    across = pairs.right[(pairs.left < len(train)) & (pairs.right >= len(train))]
    conflicts = label_conflicts(pairs, [row["label"] for row in rows])
    # Counted once by hand, with other code.
    assert len(set(across.tolist())) == 151
    assert len({b for a, b, _ in conflicts if a < len(train) <= b}) == 10
