"""Texts as numbers say the same as the texts."""

from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.contamination_items import near_grams
from pipeline.data.contamination_proof import shingle_set
from pipeline.data.contamination_text import (
    Windows,
    _kinds,
    batch_of,
    exact_keys,
    folded,
    shingles,
    spoken_lengths,
    tokens_in,
    words_of,
)
from pipeline.data.shingles import letters_and_digits as normalised

TEXTS = st.lists(
    st.text(st.one_of(st.characters(), st.sampled_from("ab c,_天地กあ한é\u0301\u00ad"))), max_size=6
)
UNSPACED = ("CJK UNIFIED", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER")


def tokens_by_name(text: str) -> list[str]:
    """Tokens one character after another, scripts by the names that Unicode gives."""
    tokens: list[str] = []
    goes_on = False
    for character in text:
        category = unicodedata.category(character)
        if category == "Cf" or character in "\ufe0e\ufe0f":
            continue
        single = unicodedata.name(character, "").startswith(UNSPACED)
        if not (character.isalnum() or category[0] == "M"):
            goes_on = False
        elif single or not goes_on:
            tokens.append(character)
            goes_on = not single
        else:
            tokens[-1] += character
    return tokens


def test_letters_and_words_are_those_of_python() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1)]
    alnum = np.array([character.isalnum() for character in every])
    word = np.array([re.match(r"\w", character) is not None for character in every])
    assert np.array_equal((_kinds() & 1) != 0, alnum)
    assert np.array_equal((_kinds() & 2) != 0, word)


@given(TEXTS)
def test_exact_keys_are_equal_where_normalised_texts_are(texts: list[str]) -> None:
    batch = batch_of([folded(text) for text in texts])
    keys, plain = exact_keys(batch).tolist(), [normalised(text) for text in texts]
    assert spoken_lengths(batch).tolist() == [len(text) for text in plain]
    for a, one in zip(keys, plain, strict=True):
        for b, other in zip(keys, plain, strict=True):
            assert (a == b) == (one == other)


@given(TEXTS)
def test_shingles_are_those_of_each_text(texts: list[str]) -> None:
    batch = batch_of([folded(text) for text in texts])
    hashes, owner = shingles(batch)
    sets = [set(hashes[owner == index].tolist()) for index in range(len(texts))]
    plain = [shingle_set(text) for text in texts]
    for a, one in zip(sets, plain, strict=True):
        for b, other in zip(sets, plain, strict=True):
            assert len(a & b) == len(one & other)
    distinct, text = near_grams(batch)
    assert np.bincount(text, minlength=len(texts)).tolist() == [len(one) for one in plain]
    assert len(distinct) == sum(map(len, plain))


@given(st.lists(st.text("ab c,_天地กあ한é\u0301\u00adกุ้ง"), max_size=5))
def test_tokens_are_words_and_single_characters(texts: list[str]) -> None:
    plain = [folded(text) for text in texts]
    tokens = tokens_in(batch_of(plain))
    assert [words_of(text) for text in plain] == [tokens_by_name(text) for text in plain]
    assert np.diff(tokens.starts).tolist() == [len(words_of(text)) for text in plain]
    assert tokens.lengths.tolist() == [len(w) for text in plain for w in words_of(text)]


@settings(max_examples=50)
@given(st.lists(st.text("ab天 ", max_size=30), min_size=1, max_size=4))
def test_windows_are_equal_where_runs_of_tokens_are(texts: list[str]) -> None:
    windows = Windows(tokens_in(batch_of(texts)))
    for length in (1, 2, 5):
        hashes = windows.of(length)
        owner, is_whole = windows.owners(np.arange(len(hashes)))
        by_text: list[tuple[int, tuple[str, ...]]] = [
            (index, tuple(words_of(text)[place : place + length]))
            for index, text in enumerate(texts)
            for place in range(len(words_of(text)) - length + 1)
        ]
        assert owner[is_whole].tolist() == [index for index, _ in by_text]
        known = dict(zip(hashes[is_whole].tolist(), (run for _, run in by_text), strict=True))
        assert len(known) == len({run for _, run in by_text})
        assert all(
            known[h] == run for h, (_, run) in zip(hashes[is_whole].tolist(), by_text, strict=True)
        )


def test_a_text_longer_than_the_table_of_powers_has_its_own_key() -> None:
    long = "ab" * 5000
    keys = exact_keys(batch_of([long, long[:-1] + "c", "x" + long, long]))
    assert keys[0] == keys[3]
    assert len(set(keys.tolist())) == 3
