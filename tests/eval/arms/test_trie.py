"""Sets of answers that could not be told apart are refused; the others are never confused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.arms.trie import Trie, require_labels
from pipeline.core.errors import DataError

STOP = 1
IDS = st.lists(st.integers(2, 5), min_size=0, max_size=5).map(lambda ids: (*ids, STOP))


@given(st.lists(IDS, min_size=1, max_size=12, unique=True))
def test_every_path_spells_its_answer_and_common_beginnings_stand_once(
    ids: list[tuple[int, ...]],
) -> None:
    trie = Trie({str(number): one for number, one in enumerate(ids)})
    for answer, path, length in zip(ids, trie.paths, trie.lengths, strict=True):
        assert tuple(trie.edges[edge].token for edge in path) == answer
        assert length == len(answer)
    beginnings = {one[:n] for one in ids for n in range(1, len(one))}
    assert len(trie.tokens) == len(beginnings)
    for node, (parent, depth) in enumerate(zip(trie.parents, trie.depths, strict=True), start=1):
        assert parent < node
        assert depth == (1 if parent == 0 else trie.depths[parent - 1] + 1)


@given(st.lists(IDS, min_size=1, max_size=12, unique=True))
def test_a_walk_over_its_tokens_ends_at_each_label(ids: list[tuple[int, ...]]) -> None:
    trie = Trie({str(number): one for number, one in enumerate(ids)})
    for number, answer in enumerate(ids):
        place: int | str = 0
        for token in answer:
            assert isinstance(place, int)
            assert token in trie.next_tokens(place)
            place = trie.after(place, token)
        assert place == str(number)


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ({}, "there are none to choose from"),
        ({"card": (5, 1), "card ": (5, 1)}, "'card ' and 'card' have the same ids"),
        ({"card": ()}, "'card' has no tokens"),
        ({"card": (5,), "card_arrival": (5, 6)}, "ids of 'card' open those of 'card_arrival'"),
        ({"card_arrival": (5, 6), "card": (5,)}, "ids of 'card' open those of 'another label'"),
    ],
)
def test_answers_that_cannot_be_told_apart_are_refused(
    answers: dict[str, tuple[int, ...]], why: str
) -> None:
    with pytest.raises(DataError, match=why):
        Trie(answers)


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([], "there are none to choose from"),
        (["card", ""], "'' is empty"),
        (["card", " \t"], r"' \\t' is empty"),
        (["card", "pin", "card"], "'card' stands twice"),
    ],
)
def test_labels_that_are_no_set_of_answers_are_refused(labels: list[str], why: str) -> None:
    with pytest.raises(DataError, match=why):
        require_labels(labels)
