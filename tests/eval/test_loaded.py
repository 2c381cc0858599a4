"""What a model is asked is what serving makes of the question, and no more."""

from __future__ import annotations

import pytest

from eval.loaded import prompt_ids, question_ids
from pipeline.core.errors import DataError


def test_the_question_ends_where_serving_ends_it_and_not_where_learning_begins() -> None:
    row = {"example_id": "a", "input_ids": [1, 2, 8, 9, 3], "supervised": [0, 0, 0, 0, 1],
           "prompt": 2}  # fmt: skip
    assert prompt_ids(row) == [1, 2]


@pytest.mark.parametrize("more", [{}, {"prompt": None}])
def test_a_row_without_its_questions_end_is_refused_by_name(more: dict[str, None]) -> None:
    row = {"example_id": "a", "input_ids": [1, 2], "supervised": [0, 1], **more}
    with pytest.raises(DataError, match="a: it does not say where its question ends; prepare"):
        prompt_ids(row)


def test_a_head_reads_the_question_and_never_the_answer_after_it() -> None:
    hybrid = {"example_id": "a", "input_ids": [1, 2, 8, 9, 3], "prompt": 2}
    assert question_ids(hybrid) == [1, 2]
    assert question_ids({**hybrid, "prompt": None}) == [1, 2, 8, 9, 3]
