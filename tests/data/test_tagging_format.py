"""Format tagging: texts with entities, and tokens with their tags, as canonical rows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.data.format_case import made, refused
from tests.data.tagging_case import entity

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"tokens": ["a"], "tags": ["O", "O"]}, "1 tokens and 2 tags"),
    ({"tokens": ["a"], "tags": ["S-PER"]}, "tag 'S-PER' is none of BIO"),
    ({"tokens": ["a"], "tags": ["B"]}, "tag 'B' is none of BIO"),
    ({"tokens": ["a"], "tags": [3]}, "a tag is a number"),
    ({"tokens": ["a"], "tags": ["B- "]}, "label is empty"),
    ({"tokens": [], "tags": []}, "no tokens"),
    ({"tokens": ["a", ""], "tags": ["O", "O"]}, "a token is empty"),
    ({"tokens": "a b", "tags": ["O"]}, "tokens is not JSON"),
    ({"tokens": {"a": 1}, "tags": ["O"]}, "tokens are an object"),
    ({"tokens": ["a"]}, "no column 'tags'"),
    ({"text": "ab", "entities": [entity(0, 10**400)]}, "out of range"),
]


@pytest.mark.parametrize(("row", "words"), REFUSED)
def test_tags_that_say_nothing_are_refused(row: dict[str, Any], words: str) -> None:
    assert words in refused("tagging", row)


def test_characters_of_a_script_without_blanks_are_joined_without_any() -> None:
    row = made("tagging", {"tokens": [*"在北京", "IBM", "Lee"],
                           "tags": ["O", "B-LOC", "I-LOC", "O", "B-PER"]})  # fmt: skip
    assert row == {"text": "在北京 IBM Lee", "entities": [entity(1, 3, "LOC"), entity(8, 11)]}


def test_entities_of_a_table_are_read_from_their_json() -> None:
    row = made("tagging", {"text": "Ann", "entities": json.dumps([entity(0, 3)])})
    assert row["entities"] == [entity(0, 3)]
