"""The evaluation benchmark compares what is equal, on a tiny shape."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import eval_labels
from benchmarks.eval_labels import LABELS, TOKENS, Case, _difference, _task, build
from pipeline.data import generators

TINY = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 400,
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny() -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        # The docstrings of the whole library take seconds to read.
        text = " ".join(str(eval_labels.__doc__).split())
        patch.setattr(generators, "generate", lambda *_given: [{"text": text}])
        yield build(TINY, rows=3)


def test_both_sides_score_the_same_labels_after_prompts_of_the_stated_length(tiny: Case) -> None:
    assert len(tiny.answers) == LABELS
    assert statistics.median(map(len, tiny.prompts)) == pytest.approx(TOKENS, abs=8)
    pairs = [(prompt, ids) for prompt in tiny.prompts for ids in tiny.answers.values()]
    assert 0 < _difference(tiny, pairs, 16) < 1e-5


def test_without_the_data_there_are_as_many_labels_with_common_beginnings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.eval_labels.REAL", tmp_path)
    words = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    labels, texts = _task([" ".join(words)], 4)
    assert len(set(labels)) == LABELS
    assert len(texts) == 4
    assert len({label.partition("_")[0] for label in labels}) <= 20
