"""Sentences by the stated rule, case by case."""

from __future__ import annotations

import pytest

from eval.text.sentences import count_sentences, sentences


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("One", 1),
        ("One. Two", 2),
        ("One! Two? Three.", 3),
        ("It costs 4.50 today.", 1),
        ("See harbour.com now.", 1),
        ("Dr. Vale came at 9 p.m. The hall was dark.", 2),
        ("J. Reed wrote it.", 1),
        ("Wait... what?", 1),
        ("Wait... He came.", 2),
        ("It rose by 3. Then it fell.", 2),
        ("the 3. of May", 1),
        ('"Stop!" she cried. (Nobody did.)', 3),
        ("Fruit, e.g. apples, is dear.", 1),
        ("One line\nwithout stops\nis one", 1),
        ("今天下雨。明天晴！好吗？", 3),
        ("今天下雨。", 1),
    ],
)
def test_sentences_are_counted(text: str, count: int) -> None:
    assert count_sentences(text) == count


def test_sentences_are_whole_and_without_the_blanks_around_them() -> None:
    assert sentences(' "One." Two.\n Three ') == ['"One."', "Two.", "Three"]
