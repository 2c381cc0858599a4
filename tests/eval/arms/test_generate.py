"""Predictors, held to transformers itself on a tiny random model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from eval.arms.generate import GenerativePredictor
from eval.likelihood import text_losses, windows_of
from eval.metrics import bits_per_byte
from eval.record import Prediction
from pipeline.core.errors import DataError, ModelError

WORDS = ["<pad>", "<stop>", "<mark>", "card", "card_arrival", "pin", "lost", "fee"]
PAD, STOP, MARK, CARD, ARRIVAL, PIN, LOST, FEE = range(8)
LABELS = ["card", "card_arrival", "lost pin"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<stop>", "unk_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=48,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return Qwen3ForCausalLM(config).eval()


def prompts(number: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(seed)
    rows = []
    for index in range(number):
        length = int(torch.randint(1, 30, (1,), generator=rng))
        ids = torch.randint(2, 48, (length,), generator=rng).tolist()
        rows.append({"example_id": f"e{index}", "prompt_ids": ids, "label": "card"})
    return rows


def predictor(
    model: Any, tokenizer: Any, batch_size: int = 4, max_new_tokens: int = 12, **changes: Any
) -> GenerativePredictor:
    settings = {"labels": LABELS, "stop_ids": [STOP], "pad_id": PAD, **changes}
    return GenerativePredictor(
        model, tokenizer, batch_size=batch_size, max_new_tokens=max_new_tokens, **settings
    )


def without_time(predictions: Sequence[Prediction]) -> list[tuple[object, ...]]:
    return [(p.example_id, p.label, p.raw_text, p.output_tokens) for p in predictions]


def test_batched_generation_is_one_by_one(model: Any, tokenizer: Any) -> None:
    rows = prompts(23)
    batched = predictor(model, tokenizer, batch_size=7).predict(rows)
    single = predictor(model, tokenizer, batch_size=1).predict(rows)
    assert without_time(batched) == without_time(single)
    assert [p.example_id for p in batched] == [row["example_id"] for row in rows]
    assert len({p.raw_text for p in batched}) > 10  # Answers that differ: the test can fail.


def test_generation_is_the_argmax_of_full_forward_passes(model: Any, tokenizer: Any) -> None:
    rows = prompts(6, seed=1)
    answers = predictor(model, tokenizer, batch_size=6).predict(rows)
    for row, answer in zip(rows, answers, strict=True):
        ids = list(row["prompt_ids"])
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == STOP:
                break
        written = ids[len(row["prompt_ids"]) :]
        assert answer.output_tokens == len(written)
        expected = tokenizer.decode([token for token in written if token != STOP])
        assert answer.raw_text == expected


def test_models_own_generation_settings_do_not_leak_in(model: Any, tokenizer: Any) -> None:
    rows = prompts(8)
    expected = without_time(predictor(model, tokenizer).predict(rows))
    own = model.generation_config
    strange = GenerationConfig(repetition_penalty=9.0, do_sample=True, temperature=3.0)
    model.generation_config = strange
    try:
        assert without_time(predictor(model, tokenizer).predict(rows)) == expected
        assert model.generation_config is strange
    finally:
        model.generation_config = own


@pytest.mark.parametrize(
    ("ids", "label", "tokens"),
    [
        ([CARD, STOP, FEE], "card", 2),
        ([ARRIVAL, STOP], "card_arrival", 2),
        ([LOST, PIN, STOP], "lost pin", 3),
        ([CARD], None, 1),  # Cut off: it could have become another label.
        ([CARD, FEE, STOP], None, 3),
        ([CARD, MARK, STOP], None, 3),
        ([STOP], None, 1),
        ([PIN, STOP], None, 2),
    ],
)
def test_only_a_finished_exact_label_counts(
    model: Any, tokenizer: Any, ids: list[int], label: str | None, tokens: int
) -> None:
    found = predictor(model, tokenizer).parse(ids)
    assert (found[0], found[2]) == (label, tokens)


def test_label_that_cannot_be_written_in_full_is_refused(model: Any, tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="'lost pin' and its stop take 3 tokens"):
        predictor(model, tokenizer, max_new_tokens=2)
    with pytest.raises(ModelError, match="no stop id"):
        predictor(model, tokenizer, stop_ids=[])


def test_prompt_that_leaves_no_room_is_named(model: Any, tokenizer: Any) -> None:
    long = {"example_id": "long", "prompt_ids": [CARD] * 60, "label": "card"}
    with pytest.raises(DataError, match=r"long: 60 tokens and 12 for the answer exceed .* 64"):
        predictor(model, tokenizer).predict([*prompts(2), long])
    with pytest.raises(DataError, match="empty: it has no tokens"):
        predictor(model, tokenizer).predict([{**long, "example_id": "empty", "prompt_ids": []}])


def test_progress_ends_with_all_rows(model: Any, tokenizer: Any) -> None:
    seen: list[tuple[int, int]] = []
    predictor(model, tokenizer).predict(prompts(10), on_progress=lambda *now: seen.append(now))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def documents() -> list[dict[str, Any]]:
    return [
        {"example_id": row["example_id"], "input_ids": row["prompt_ids"], "text": "é" * 5}
        for row in prompts(9, seed=3)
    ]


def test_text_losses_are_transformers_own_loss_of_every_token_after_the_first_id(
    model: Any,
) -> None:
    rows = documents()
    found = text_losses(model, rows, batch_size=4, max_length=64, first_id=STOP)
    for row, one in zip(rows, found, strict=True):
        ids = torch.tensor([[STOP, *row["input_ids"]]])
        assert one.tokens == len(row["input_ids"])
        assert one.utf8_bytes == 10
        with torch.inference_mode():
            expected = float(model(ids, labels=ids).loss) * one.tokens
        assert one.nll_sum == pytest.approx(expected, rel=1e-5)


def test_an_id_that_a_text_begins_with_is_not_read_twice(model: Any) -> None:
    rows = documents()
    begun = [{**row, "input_ids": [STOP, *row["input_ids"]]} for row in rows]
    one, other = (
        text_losses(model, chosen, batch_size=4, max_length=64, first_id=STOP)
        for chosen in (rows, begun)
    )
    assert [a.nll_sum for a in one] == pytest.approx([b.nll_sum for b in other])
    assert [a.tokens for a in one] == [b.tokens for b in other]


def test_without_a_first_id_the_bytes_that_are_scored_are_not_known(model: Any) -> None:
    rows = documents()
    for row, one in zip(rows, text_losses(model, rows, batch_size=4, max_length=64), strict=True):
        assert (one.tokens, one.utf8_bytes) == (len(row["input_ids"]) - 1, 0)


@pytest.mark.parametrize("window", [2, 7, 64])
def test_bits_of_a_model_that_knows_nothing_are_those_of_its_vocabulary(window: int) -> None:
    """Each token takes log2 V bits, a document's first too."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False,
    )  # fmt: skip
    knows_nothing = Qwen3ForCausalLM(config).eval()
    torch.nn.init.zeros_(knows_nothing.lm_head.weight)
    rows = documents()
    found = text_losses(knows_nothing, rows, batch_size=4, max_length=window, first_id=STOP)
    tokens = sum(len(row["input_ids"]) for row in rows)
    assert bits_per_byte(found) == pytest.approx(tokens * 6 / (10 * len(rows)), rel=1e-6)


def test_long_documents_read_in_windows_score_each_token_in_its_window(model: Any) -> None:
    ids = [3 + (7 * i) % 40 for i in range(50)]
    row = {"example_id": "long", "input_ids": ids}
    (found,) = text_losses(model, [row], batch_size=2, max_length=16, overlap=4)
    expected = 0.0
    for window in windows_of(0, 50, 16, 4):
        with torch.inference_mode():
            logits = model(torch.tensor([ids[window.start : window.end]])).logits[0]
        logprob = logits.log_softmax(-1)
        for position in range(window.scored, window.end):
            expected -= float(logprob[position - window.start - 1, ids[position]])
    assert found.tokens == 49
    assert found.nll_sum == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("length", "overlap"), [(2, 1), (8, 1), (8, 4), (8, 7), (64, 32)])
def test_windows_score_every_token_but_the_first_once(length: int, overlap: int) -> None:
    for tokens in range(100):
        windows = windows_of(0, tokens, length, overlap)
        scored = [token for w in windows for token in range(w.scored, w.end)]
        assert scored == list(range(1, tokens))
        assert all(w.end - w.start <= length and w.start < w.scored for w in windows)


def test_text_losses_do_not_depend_on_the_batch(model: Any) -> None:
    one, many = (text_losses(model, documents(), batch_size=size, max_length=12) for size in (1, 5))
    assert [a.nll_sum for a in one] == pytest.approx([b.nll_sum for b in many], rel=1e-5)


def test_loss_that_is_no_number_names_the_document(model: Any) -> None:
    weight = model.model.norm.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match="text losses: e"):
            text_losses(model, documents(), batch_size=4, max_length=64)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_window_beyond_the_models_context_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="max_length is 65, and the model's context 64"):
        text_losses(model, documents(), batch_size=4, max_length=65)


def test_model_keeps_its_own_mode(model: Any) -> None:
    model.train()
    try:
        text_losses(model, documents(), batch_size=4, max_length=64)
        assert model.training
    finally:
        model.eval()
