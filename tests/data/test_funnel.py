"""The account adds up, or says that it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.funnel import REASONS, Funnel, require_sum


@given(st.dictionaries(st.sampled_from(REASONS), st.integers(0, 50)), st.integers(0, 50))
def test_rows_in_are_rows_out_and_rows_accounted_for(lost: dict[str, int], kept: int) -> None:
    funnel = Funnel(read=sum(lost.values()) + kept, kept=kept)
    for reason, count in lost.items():
        funnel.lose(reason, count)
    require_sum({"train": funnel})
    funnel.read += 1
    with pytest.raises(RuntimeError, match="funnel of train does not add up"):
        require_sum({"train": funnel})


def test_a_reason_that_nobody_prints_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Funnel().lose("vanished")


def test_reasons_stand_in_the_order_in_which_rows_meet_them() -> None:
    funnel = Funnel(read=3, kept=1)
    funnel.lose("contaminated")
    funnel.lose("quarantined")
    assert list(funnel.to_json()) == ["read", "quarantined", "contaminated", "kept", "details"]
