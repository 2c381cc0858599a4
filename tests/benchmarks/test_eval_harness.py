"""The benchmark against lm-evaluation-harness runs, and both sides answer the same."""

from __future__ import annotations

import pytest

from benchmarks.eval_harness import _raced

TINY = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 512,
}  # fmt: skip


@pytest.mark.long
def test_both_sides_answer_the_same_and_ours_is_faster(capsys: pytest.CaptureFixture[str]) -> None:
    # It ends the process where a label or a log-likelihood differs.
    assert _raced("tiny", TINY, 4, 1) > 1
    assert "log-likelihoods differ by" in capsys.readouterr().out
