"""Decoding that can write nothing but a label, held to transformers' own constrained generate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from arms_case import ANSWERS, PAD, STOP, model_of, prompts
from transformers import GenerationConfig

from eval.arms.constrained import ConstrainedPredictor
from eval.arms.likelihood import LikelihoodPredictor
from eval.arms.trie import Answers
from pipeline.core.errors import DataError, ModelError


def predictor(model: Any, batch_size: int = 4, answers: Answers = ANSWERS) -> ConstrainedPredictor:
    return ConstrainedPredictor(model, answers, pad_id=PAD, batch_size=batch_size)


def by_transformers(model: Any, prompt: list[int]) -> str:
    """The label that ``generate`` writes where only beginnings of answers are allowed."""

    def allowed(_batch: int, ids: torch.Tensor) -> list[int]:
        written = tuple(ids[len(prompt) :].tolist())
        return [a[len(written)] for a in ANSWERS.values()
                if a[: len(written)] == written and len(a) > len(written)]  # fmt: skip

    config = GenerationConfig(
        max_new_tokens=8, do_sample=False, eos_token_id=STOP, pad_token_id=PAD
    )
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        generation_config=config,
        prefix_allowed_tokens_fn=allowed,
    )
    written = tuple(output[0, len(prompt) :].tolist())
    return next(label for label, ids in ANSWERS.items() if ids == written)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "mistral", "bloom", "mamba"])
def test_batched_it_writes_what_transformers_writes_alone(name: str) -> None:
    model = model_of(name)
    rows = prompts(40)
    expected = [by_transformers(model, row["prompt_ids"]) for row in rows]
    for size in (1, 7, 40):
        found = predictor(model, size).predict(rows)
        assert [prediction.label for prediction in found] == expected
    # A bug that mixed up labels of one beginning would be seen.
    if name != "mamba":
        assert {"card", "card_arrival"} <= set(expected) or len(set(expected)) > 3


def test_what_is_recorded_is_the_label_its_tokens_and_no_scores() -> None:
    rows = prompts(5)
    for row, found in zip(rows, predictor(model_of("qwen3")).predict(rows), strict=True):
        assert found.example_id == row["example_id"]
        assert found.raw_text == found.label
        assert found.label is not None
        assert found.output_tokens == len(ANSWERS[found.label])
        assert (found.prompt_tokens, found.scores) == (len(row["prompt_ids"]), None)


def test_greedy_need_not_end_at_the_likeliest_label() -> None:
    """A token that is likely at once leads to labels that are not: the two forms differ."""
    model, rows = model_of("qwen3"), prompts(60)
    greedy = [p.label for p in predictor(model).predict(rows)]
    whole = LikelihoodPredictor(model, ANSWERS, pad_id=PAD, batch_size=4).predict(rows)
    assert greedy != [p.label for p in whole]


def test_a_single_label_is_written_without_asking_the_model() -> None:
    model = model_of("qwen3")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    found = predictor(model, answers={"card": (5, 6, STOP)}).predict(prompts(3))
    assert [p.label for p in found] == ["card"] * 3


def test_logits_that_are_no_numbers_name_the_row() -> None:
    model = model_of("qwen3")
    with torch.no_grad():
        model.model.embed_tokens.weight[20].fill_(float("nan"))
    rows = [{"example_id": "bad", "prompt_ids": [20], "label": "card"}]
    with pytest.raises(ModelError, match="constrained: bad: a logit is no number"):
        predictor(model).predict(rows)


def test_rows_that_do_not_fit_are_named() -> None:
    asked = predictor(model_of("qwen3"))
    long = {"example_id": "long", "prompt_ids": [5] * 92, "label": "card"}
    with pytest.raises(DataError, match=r"long: 92 tokens and 5 for the answer exceed .* of 96"):
        asked.predict([*prompts(2), long])
    with pytest.raises(DataError, match="long: its label 'loan' is none of the 7 labels"):
        asked.predict([{**long, "prompt_ids": [5], "label": "loan"}])


def test_each_batch_is_told_when_it_is_done() -> None:
    told: list[Any] = []
    sizes: list[int] = []
    rows = prompts(10)

    def done(found: list[Any]) -> None:
        told.extend(found)
        sizes.append(len(found))

    found = predictor(model_of("qwen3")).predict(rows, on_done=done)
    assert sizes == [4, 4, 2]
    assert {id(one) for one in told} == {id(one) for one in found}
