"""Training rows that stand in a test set, whatever they are dressed in."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.contamination import (
    contaminated,
    fingerprints,
    normalised,
    read_fingerprints,
    row_text,
    write_fingerprints,
)

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


@pytest.mark.parametrize(
    "text",
    [
        "Is my card lost?",
        "is my CARD lost",
        " Is  my\ncard--lost ",
        "Ｉｓ ｍｙ ｃａｒｄ ｌｏｓｔ？",
    ],
)
def test_dress_does_not_hide_a_row(text: str) -> None:
    assert contaminated([text], fingerprints(["Is my card lost?"])) == [0]


@pytest.mark.parametrize("text", ["Is my card last?", "Is my card", "Is my card lost? 1", ""])
def test_another_text_is_another_text(text: str) -> None:
    assert contaminated([text], fingerprints(["Is my card lost?"])) == []


def test_sharp_s_and_ligatures_are_folded() -> None:
    assert normalised("STRASSE") == normalised("Straße")
    assert normalised("\ufb01ne") == "fine"
    assert normalised("河北省，高考！") == "河北省高考"


@given(st.text())
def test_normalised_is_what_unicode_says(text: str) -> None:
    folded = unicodedata.normalize("NFKC", text).casefold()
    # re's \w is the alphanumerics and the underscore, by its own tables.
    assert normalised(text) == re.sub(r"[\W_]", "", folded)


def test_texts_of_symbols_alone_say_nothing() -> None:
    assert fingerprints(["", "?!", " \n"]) == set()
    assert contaminated(["?!"], fingerprints(["..."])) == []


def test_a_row_is_recognised_by_its_question_and_not_by_its_answer() -> None:
    turns = [("system", "s"), ("user", "one"), ("assistant", "x"), ("user", "two")]
    rows: dict[str, dict[str, Any]] = {
        "a": {"text": "a", "label": "b"},
        "p": {"prompt": "p", "completion": "c"},
        "\nq": {"question": "q", "answer": "a"},
        "c\nq": {"question": "q", "answer": "a", "context": "c"},
        "one\ntwo": {"messages": [{"role": r, "content": c} for r, c in turns]},
    }
    assert [row_text(row) for row in rows.values()] == list(rows)


def test_fingerprints_are_kept_for_the_recipes_above(tmp_path: Path) -> None:
    splits = {
        "train": [{"text": "One"}, {"text": "one!"}, {"text": "two"}],
        "test": [{"text": "3"}],
    }
    write_fingerprints(tmp_path, splits)
    kept = read_fingerprints(tmp_path)
    assert set(kept["train"]) == fingerprints(["one", "two"])
    assert set(kept["test"]) == fingerprints(["3"])
    assert contaminated(["ONE", "four", "Two"], set(kept["train"])) == [0, 2]


def test_fingerprints_are_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}"} for i in range(50)]
    for name, given_rows in (("a", rows), ("b", rows[::-1])):
        (tmp_path / name).mkdir()
        write_fingerprints(tmp_path / name, {"train": given_rows})
    files = [(tmp_path / name / "fingerprints.json").read_bytes() for name in "ab"]
    assert files[0] == files[1]


def test_the_29_repeated_rows_of_banking77_are_found() -> None:
    folder = SHARED / "banking77"
    if not folder.is_dir():
        pytest.skip("needs the Banking77 rows beside the checkout")

    def texts(name: str) -> list[str]:
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines]

    # Counted once by hand, with other code.
    assert len(contaminated(texts("test"), fingerprints(texts("train")))) == 29
