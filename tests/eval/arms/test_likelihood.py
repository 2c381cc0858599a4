"""Likelihood of labels: one pass over all of them is each pair by itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from arms_case import ANSWERS, PAD, STOP, alone, model_of, prompts
from peft import LoraConfig, get_peft_model
from scipy.special import log_softmax
from transformers import Phi3Config, Phi3ForCausalLM

from eval.arms import likelihood
from eval.arms.constrained import ConstrainedPredictor
from eval.arms.likelihood import LikelihoodPredictor, shared_opening
from eval.arms.scoring import TrieScorer, reads_trees, rows_at_once, score_pairs
from eval.arms.trie import Trie
from pipeline.core.errors import DataError, ModelError

LABELS = list(ANSWERS)


def predictor(model: Any, batch_size: int = 4, **changes: Any) -> LikelihoodPredictor:
    settings = {"answers": ANSWERS, "pad_id": PAD, **changes}
    return LikelihoodPredictor(model, settings["answers"], pad_id=PAD, batch_size=batch_size)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_one_pass_scores_every_label_as_if_alone(name: str, attention: str) -> None:
    model = model_of(name, attention)
    rows = prompts(9)
    asked = predictor(model)
    found = asked.predict_both(rows)
    assert asked.in_one_pass
    for row, (by_sum, by_mean) in zip(rows, found, strict=True):
        sums = [alone(model, row["prompt_ids"], ids) for ids in ANSWERS.values()]
        means = [one / len(ids) for one, ids in zip(sums, ANSWERS.values(), strict=True)]
        for prediction, scores in ((by_sum, sums), (by_mean, means)):
            assert prediction.scores is not None
            assert list(prediction.scores) == LABELS
            expected = log_softmax(scores)
            assert list(prediction.scores.values()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
            assert prediction.label == LABELS[scores.index(max(scores))]
            assert prediction.gold == "card"
    # Answers that differ, so that it can fail.
    assert len({by_sum.label for by_sum, _ in found}) > 1
    assert any(by_sum.label != by_mean.label for by_sum, by_mean in found)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_raw_scores_of_both_ways_are_equal_to_1e_5(name: str) -> None:
    model = model_of(name)
    rows = prompts(7, seed=4)
    pairs = [(row["prompt_ids"], ids) for row in rows for ids in ANSWERS.values()]
    with torch.inference_mode():
        joined = TrieScorer(model, Trie(ANSWERS), pad_id=PAD).scores(
            [row["prompt_ids"] for row in rows]
        )
        apart = score_pairs(model, pairs, batch_size=5, pad_id=PAD)
    assert joined.flatten().tolist() == pytest.approx(apart, rel=1e-5)
    assert apart == pytest.approx([alone(model, *pair) for pair in pairs], rel=1e-5)


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2"])
def test_what_all_prompts_open_with_is_read_once(name: str) -> None:
    model, opening = model_of(name), [7, 9, 11, 8] * 5
    rows = [{**row, "prompt_ids": opening + list(row["prompt_ids"])} for row in prompts(9)]
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    asked = predictor(model)
    found = asked.predict(rows)
    hook.remove()
    assert asked.in_one_pass
    # After the proof: the opening by itself, and batches without it.
    longest = max(len(row["prompt_ids"]) for row in rows) + len(asked.trie.tokens)
    at = read.index(len(opening), 2)
    assert max(read[at + 1 :]) == longest - len(opening)
    for row, prediction in zip(rows, found, strict=True):
        sums = [alone(model, row["prompt_ids"], ids) for ids in ANSWERS.values()]
        assert prediction.scores is not None
        expected = log_softmax(sums)
        assert list(prediction.scores.values()) == pytest.approx(expected, rel=1e-5, abs=1e-5)
    # Other rows, another opening: what was remembered is not taken for it.
    (other, _) = asked.predict([{**row, "prompt_ids": [13] * 18 + [5]} for row in rows[:2]])
    sums = [alone(model, [13] * 18 + [5], ids) for ids in ANSWERS.values()]
    assert other.scores is not None
    assert list(other.scores.values()) == pytest.approx(log_softmax(sums), rel=1e-5, abs=1e-5)


def test_an_opening_leaves_a_token_to_each() -> None:
    assert shared_opening([[4] * 30, [4] * 30]) == 29
    assert shared_opening([[4] * 20 + [5], [4] * 20 + [6, 7], [4] * 18]) == 17
    assert shared_opening([[4] * 5, [4] * 9]) == 0
    assert shared_opening([[4] * 90]) == 0
    assert shared_opening([[3], [5] * 40]) == 0


@pytest.mark.parametrize("name", ["mistral", "bloom", "mamba"])
def test_models_that_cannot_read_trees_are_given_pairs(name: str) -> None:
    model = model_of(name)
    rows = [row for row in prompts(6) if len(row["prompt_ids"]) > 6]
    asked = predictor(model)
    found = asked.predict(rows)
    assert asked.in_one_pass is False
    for row, prediction in zip(rows, found, strict=True):
        sums = [alone(model, row["prompt_ids"], ids) for ids in ANSWERS.values()]
        assert prediction.scores is not None
        assert list(prediction.scores.values()) == pytest.approx(log_softmax(sums), abs=1e-4)


def test_an_adapter_beside_the_weights_is_read_as_it_is_when_merged() -> None:
    torch.manual_seed(1)
    config = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj", "up_proj"], init_lora_weights=False
    )
    model: Any = get_peft_model(model_of("qwen3"), config).eval()
    rows = prompts(5)
    asked = predictor(model)
    found = asked.predict(rows)
    greedy = ConstrainedPredictor(model, ANSWERS, pad_id=PAD, batch_size=3).predict(rows)
    assert asked.in_one_pass
    merged = model.merge_and_unload()
    for row, prediction in zip(rows, found, strict=True):
        sums = [alone(merged, row["prompt_ids"], ids) for ids in ANSWERS.values()]
        assert prediction.scores is not None
        assert list(prediction.scores.values()) == pytest.approx(log_softmax(sums), abs=1e-4)
    again = ConstrainedPredictor(merged, ANSWERS, pad_id=PAD, batch_size=3).predict(rows)
    assert [p.label for p in greedy] == [p.label for p in again]


def test_a_window_longer_than_the_rows_does_not_count() -> None:
    model = model_of("mistral")
    assert reads_trees(model, 6)
    assert not reads_trees(model, 7)


def test_a_model_that_reads_trees_otherwise_than_pairs_is_found_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = model_of("qwen3")

    class Wrong(TrieScorer):
        def scores(self, prompts: Any) -> torch.Tensor:
            return super().scores(prompts) * 1.01

    monkeypatch.setattr(likelihood, "TrieScorer", Wrong)
    asked = predictor(model)
    (found,) = asked.predict(prompts(1))
    assert asked.in_one_pass is False
    sums = [alone(model, prompts(1)[0]["prompt_ids"], ids) for ids in ANSWERS.values()]
    assert found.scores is not None
    assert list(found.scores.values()) == pytest.approx(log_softmax(sums), abs=1e-5)


def test_batch_size_changes_no_score() -> None:
    model, rows = model_of("qwen3"), prompts(11)
    one, many = (predictor(model, size).predict(rows) for size in (1, 11))
    for a, b in zip(one, many, strict=True):
        assert a.scores is not None
        assert b.scores is not None
        assert list(a.scores.values()) == pytest.approx(list(b.scores.values()), abs=1e-5)
    assert [p.example_id for p in many] == [row["example_id"] for row in rows]


def test_a_closed_form_gives_its_own_probabilities() -> None:
    """Logits that no context changes: each token's probability is known by hand."""
    model = model_of("llama")
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.fill_(1.0)
        model.lm_head.weight.zero_()
        # RMS norm of ones is ones: a row of a gives the logit 32 a.
        for token, weight in ((5, 4.0), (STOP, 2.0), (6, 1.0)):
            model.lm_head.weight[token].fill_(math.log(weight) / 32)
    total = 4.0 + 2.0 + 1.0 + 57.0
    answers = {"card": (5, STOP), "card_arrival": (5, 6, STOP)}
    asked = LikelihoodPredictor(model, answers, pad_id=PAD, batch_size=2)
    ((by_sum, by_mean),) = asked.predict_both(prompts(1))
    first, second = 4 * 2 / total**2, 4 * 1 * 2 / total**3
    assert by_sum.scores == pytest.approx(
        {"card": math.log(first / (first + second)),
         "card_arrival": math.log(second / (first + second))}, rel=1e-4)  # fmt: skip
    means = log_softmax([math.log(first) / 2, math.log(second) / 3])
    assert by_mean.scores == pytest.approx(dict(zip(answers, means, strict=True)), rel=1e-4)


def test_each_batch_is_told_once_and_all_rows_are() -> None:
    told: list[Any] = []
    seen: list[tuple[int, int]] = []
    rows = prompts(10)
    found = predictor(model_of("qwen3")).predict_both(
        rows, on_progress=lambda *now: seen.append(now), on_done=told.extend
    )
    assert sorted(one.example_id for one, _ in told) == sorted(r["example_id"] for r in rows)
    assert {id(one) for pair in told for one in pair} == {id(o) for pair in found for o in pair}
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_scores_that_are_no_numbers_name_the_row() -> None:
    model = model_of("qwen3")
    with torch.no_grad():
        model.model.embed_tokens.weight[20].fill_(float("nan"))
    rows = [{"example_id": "bad", "prompt_ids": [20], "label": "card"}]
    with pytest.raises(ModelError, match=r"likelihood: bad: the score of label 'card' is nan"):
        predictor(model).predict(rows)


def test_rows_that_do_not_fit_are_named() -> None:
    asked = predictor(model_of("qwen3"))
    long = {"example_id": "long", "prompt_ids": [5] * 92, "label": "card"}
    with pytest.raises(DataError, match=r"long: 92 tokens and 5 for the answer exceed .* of 96"):
        asked.predict([*prompts(2), long])
    with pytest.raises(DataError, match="empty: it has no tokens"):
        asked.predict([{**long, "example_id": "empty", "prompt_ids": []}])
    with pytest.raises(DataError, match="long: its label 'loan' is none of the 7 labels"):
        asked.predict([{**long, "prompt_ids": [5], "label": "loan"}])


def test_no_rows_are_no_answers() -> None:
    assert predictor(model_of("qwen3")).predict([]) == []


def test_fewer_rows_are_taken_where_memory_would_go() -> None:
    model = model_of("qwen3")
    assert rows_at_once(model, 8, 64) == 64
    # Logits over the vocabulary of 60, and pairs of tokens of which one may see the other.
    assert rows_at_once(model, 10_000, 64) == (1 << 22) // (10_000 * 60)
    assert rows_at_once(model, 8, 64, sight=10**6) == (1 << 24) // 1_000_000
    assert rows_at_once(model, 10**9, 64, sight=10**12) == 1
    # Keys and values of both layers: 2 x 2 x heads x width numbers of each token.
    config = model.config
    of_a_token = 2 * 2 * config.num_key_value_heads * config.head_dim
    assert rows_at_once(model, 8, 64, remembered=10**6) == (1 << 28) // (10**6 * of_a_token)


def test_angles_that_change_with_the_length_are_not_shared() -> None:
    """Phi-3's kind: what is read early is turned otherwise once the whole is long."""
    torch.manual_seed(0)
    config = Phi3Config(
        vocab_size=60, hidden_size=64, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
        max_position_embeddings=256, original_max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope", "rope_theta": 10_000.0, "short_factor": [1.0] * 8,
            "long_factor": [1.0 + 0.8 * i for i in range(8)],
        },
    )  # fmt: skip
    model = Phi3ForCausalLM(config).eval()
    for parameter in model.parameters():
        parameter.data *= 5 if parameter.dim() > 1 else 1
    opening = [7, 9, 11, 8] * 12
    rows = [{**r, "prompt_ids": opening + [5] * 20 + list(r["prompt_ids"])} for r in prompts(3)]
    asked = predictor(model)
    found = asked.predict(rows)
    for row, prediction in zip(rows, found, strict=True):
        sums = [alone(model, row["prompt_ids"], ids) for ids in ANSWERS.values()]
        assert prediction.scores is not None
        assert list(prediction.scores.values()) == pytest.approx(log_softmax(sums), abs=1e-4)
