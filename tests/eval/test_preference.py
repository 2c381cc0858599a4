"""Preferences and answers scored by themselves, held to TRL and to transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from eval.likelihood import supervised_losses
from eval.preference import pair_losses, preferences
from eval.task_figures import figures
from pipeline.core.errors import DataError

PAD = 0


def tiny(seed: int) -> Any:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=48, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=64,
        initializer_range=0.5,
    )  # fmt: skip
    model: Any = Qwen3ForCausalLM(config)  # type: ignore[no-untyped-call]
    return model.eval()


def pairs(number: int = 11) -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(5)

    def drawn(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=rng))
        ids: list[int] = torch.randint(1, 48, (length,), generator=rng).tolist()
        return ids

    return [
        {"prompt_ids": drawn(2, 9), "chosen_ids": drawn(1, 12), "rejected_ids": drawn(1, 12)}
        for _ in range(number)
    ]


def prepared(pair: dict[str, Any], index: int) -> dict[str, Any]:
    """The pair as a prepared row."""
    prompt = pair["prompt_ids"]
    row: dict[str, Any] = {"example_id": f"e{index:02d}"}
    for ids, supervised, answer in (
        ("input_ids", "supervised", pair["chosen_ids"]),
        ("rejected_ids", "rejected_supervised", pair["rejected_ids"]),
    ):
        row[ids] = prompt + answer
        row[supervised] = [0] * len(prompt) + [1] * len(answer)
    return row


def of_trl(model: Any, examples: list[dict[str, Any]]) -> Any:
    """Log-probabilities [2 B], chosen first, as TRL's own parts make them."""
    from trl.trainer.dpo_trainer import DataCollatorForPreference
    from trl.trainer.utils import selective_log_softmax

    batch = DataCollatorForPreference(pad_token_id=PAD)(examples)
    with torch.inference_mode():
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    each = selective_log_softmax(logits[:, :-1], batch["input_ids"][:, 1:])
    return (each * batch["completion_mask"][:, 1:]).sum(dim=1)


def test_accuracy_and_margin_of_preferences_are_trls() -> None:
    model, below, examples = tiny(0), tiny(1), pairs()
    rows = [prepared(pair, index) for index, pair in enumerate(examples)]
    ours, theirs = (pair_losses(each, rows, batch_size=4, pad_id=PAD) for each in (model, below))
    found = figures("preference", [preferences(rows, ours, theirs, latency_s=0.0)])
    rewards = (of_trl(model, examples) - of_trl(below, examples)).view(2, -1)
    accuracy = (rewards[0] > rewards[1]).float().mean()
    assert 0.0 < float(accuracy) < 1.0
    assert found["preference_accuracy"].estimate == pytest.approx(float(accuracy))
    margin = float((rewards[0] - rewards[1]).mean())
    assert found["preference_margin"].estimate == pytest.approx(margin, rel=1e-4)


def test_a_model_against_itself_prefers_neither() -> None:
    model = tiny(0)
    rows = [prepared(pair, index) for index, pair in enumerate(pairs(3))]
    same = pair_losses(model, rows, batch_size=4, pad_id=PAD)
    made = preferences(rows, same, same, latency_s=0.0)
    assert {p.label for p in made} == {None}
    assert all(p.scores == {"chosen": 0.0, "rejected": 0.0} for p in made)


def test_losses_of_answers_are_transformers_own_over_the_same_tokens() -> None:
    model = tiny(2)
    rows = [prepared(pair, index) for index, pair in enumerate(pairs())]
    found = supervised_losses(model, rows, batch_size=3, pad_id=PAD)
    for row, loss in zip(rows, found, strict=True):
        ids = torch.tensor([row["input_ids"]])
        labels = ids.masked_fill(torch.tensor([row["supervised"]]) == 0, -100)
        with torch.inference_mode():
            mean = float(model(ids, labels=labels).loss)
        assert loss.example_id == row["example_id"]
        assert loss.tokens == sum(row["supervised"])
        assert loss.nll_sum == pytest.approx(mean * loss.tokens, rel=1e-5)


def test_a_row_without_an_answer_to_score_is_named() -> None:
    row = {"example_id": "x3", "input_ids": [1, 2], "supervised": [1, 0]}
    with pytest.raises(DataError, match="x3: it has no answer to score"):
        supervised_losses(tiny(0), [row], batch_size=1)
