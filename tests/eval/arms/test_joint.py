"""The joint form against plain forward passes, and against probabilities known by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from arms_case import PAD, STOP, alone, model_of, prompts
from scipy.special import log_softmax, logsumexp

from eval.arms.joint import JointPredictor
from pipeline.core.errors import DataError, ModelError

PROMPTS = {"card": (5, 9), "card_arrival": (5, 6, 9), "转账": (11, 12, 13, 14, 9), "fee": (15, 9)}
COUNTS = {"card": 10, "card_arrival": 0, "转账": 3, "fee": 7}


def texts(number: int, longest: int = 20) -> list[dict[str, Any]]:
    return [
        {"example_id": row["example_id"], "text_ids": (*row["prompt_ids"][1:], STOP),
         "label": "card"}
        for row in prompts(number, longest)
    ]  # fmt: skip


def predictor(model: Any, batch_size: int = 4, **changes: Any) -> JointPredictor:
    settings = {"prompts": PROMPTS, "counts": COUNTS, **changes}
    return JointPredictor(
        model, settings["prompts"], settings["counts"], pad_id=PAD, batch_size=batch_size
    )


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "mistral", "bloom", "mamba"])
def test_each_text_is_scored_for_each_label_as_if_alone(name: str) -> None:
    model, rows = model_of(name), texts(9)
    for row, found in zip(rows, predictor(model).predict(rows), strict=True):
        joint = [
            alone(model, list(ids), row["text_ids"]) + math.log((COUNTS[label] + 1) / 24)
            for label, ids in PROMPTS.items()
        ]
        assert found.evidence == pytest.approx(logsumexp(joint), rel=1e-5)
        assert found.scores is not None
        assert list(found.scores.values()) == pytest.approx(log_softmax(joint), abs=2e-4)
        assert found.label == list(PROMPTS)[joint.index(max(joint))]


def test_a_text_of_its_end_alone_is_scored_too() -> None:
    model = model_of("qwen3")
    row = {"example_id": "e", "text_ids": (STOP,), "label": "card"}
    (found,) = predictor(model).predict([row])
    joint = [
        alone(model, list(ids), (STOP,)) + math.log((COUNTS[label] + 1) / 24)
        for label, ids in PROMPTS.items()
    ]
    assert found.evidence == pytest.approx(logsumexp(joint), rel=1e-5)


def test_where_texts_tell_nothing_the_prior_and_the_length_make_the_figures() -> None:
    """A model that holds every token for equally likely: log P(x) = -T log V."""
    model = model_of("llama")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    (found,) = predictor(model).predict([{**texts(1)[0], "text_ids": (3, 4, STOP)}])
    assert found.evidence == pytest.approx(-3 * math.log(60), rel=1e-5)
    assert found.scores == pytest.approx(
        {label: math.log((n + 1) / 24) for label, n in COUNTS.items()}, rel=1e-4
    )
    assert found.label == "card"


def test_batch_size_changes_no_score() -> None:
    model, rows = model_of("qwen3"), texts(11)
    one, many = (predictor(model, size).predict(rows) for size in (1, 11))
    for a, b in zip(one, many, strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
        assert a.example_id == b.example_id


@pytest.mark.parametrize("counts", [{"card": 1}, {**COUNTS, "loan": 2}])
def test_a_train_of_other_labels_is_refused(counts: dict[str, int]) -> None:
    with pytest.raises(DataError, match="the labels of model and data differ"):
        predictor(None, counts=counts)


def test_no_labels_are_refused() -> None:
    with pytest.raises(DataError, match="there are none to choose from"):
        predictor(None, prompts={}, counts={})


def test_scores_that_are_no_numbers_name_the_row() -> None:
    model = model_of("qwen3")
    with torch.no_grad():
        model.model.embed_tokens.weight[20].fill_(float("nan"))
    rows = [{"example_id": "bad", "text_ids": (20, STOP), "label": "card"}]
    with pytest.raises(ModelError, match="joint: bad: the score of label 'card' is nan"):
        predictor(model).predict(rows)


def test_rows_that_do_not_fit_are_named() -> None:
    asked = predictor(model_of("qwen3"))
    long = {"example_id": "long", "text_ids": (3,) * 92, "label": "card"}
    with pytest.raises(DataError, match=r"long: 92 tokens and 5 for the answer exceed .* of 96"):
        asked.predict([*texts(2), long])
    with pytest.raises(DataError, match="long: its label 'loan' is none of the 4 labels"):
        asked.predict([{**long, "text_ids": (3,), "label": "loan"}])
