"""Heads of every kind: labels, tags and numbers from logits that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, BertConfig, RobertaConfig

from eval.arms.classifier import HeadPredictor
from eval.generation import context_of
from pipeline.core.errors import DataError, ModelError
from pipeline.modeling.heads import HeadConfig, Kind
from pipeline.modeling.predictions import predict

CARD, PIN, LOST, FEE = range(3, 7)
TOPICS = ("card", "pin", "fee")


def score(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Counts each label's token among the row's own tokens: padding must not count."""
    return torch.stack(
        [((ids_BT == token) * mask_BT).sum(dim=1).float() for token in (CARD, PIN, FEE)], dim=1
    )


def each_token(ids_BT: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
    """Logits [B, T, 3] that are highest for the token's number modulo 3."""
    return nn.functional.one_hot(ids_BT % 3, 3).float()


class Known(nn.Module):
    """A head whose logits are known."""

    def __init__(self, logits: Callable[..., torch.Tensor], config: HeadConfig) -> None:
        super().__init__()
        self.logits, self.config = logits, config
        self.score = nn.Linear(1, 1)

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        return self.logits(ids_BT, mask_BT)


def predictor(
    logits: Callable[..., torch.Tensor], kind: Kind, labels: tuple[str, ...] = TOPICS,
    *, batch_size: int = 3, tag_names: tuple[str, ...] = (), context: int | None = None,
    **more: Any,
) -> HeadPredictor:  # fmt: skip
    head: Any = Known(logits, HeadConfig(labels, "last", 0.0, 1, kind, **more))

    def answered(rows: Any) -> Any:
        return predict(head, rows, pad_id=CARD)

    return HeadPredictor(answered, kind, batch_size=batch_size, tag_names=tag_names,
                         context=context)  # fmt: skip


def class_rows(**more: Any) -> list[dict[str, Any]]:
    tokens = [[PIN, PIN, CARD], [FEE], [CARD, LOST, CARD, PIN, LOST], [LOST, FEE]]
    return [
        {"example_id": str(i), "input_ids": t, "label": "pin", **more} for i, t in enumerate(tokens)
    ]


def test_scores_of_one_label_are_the_softmax_and_padding_is_unseen() -> None:
    found = predictor(score, "single").predict(class_rows())
    assert [p.label for p in found] == ["pin", "fee", "card", "fee"]
    assert [p.example_id for p in found] == ["0", "1", "2", "3"]
    assert {p.gold for p in found} == {"pin"}
    assert found[0].scores is not None
    expected = torch.tensor([1.0, 2.0, 0.0]).log_softmax(0).tolist()
    assert list(found[0].scores.values()) == pytest.approx(expected, abs=1e-6)


def test_several_labels_are_those_with_a_probability_of_one_half_or_more() -> None:
    def less_one(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return score(ids, mask) - 1.0

    found = predictor(less_one, "multi").predict(class_rows(labels=["pin", "card"]))
    assert [json.loads(p.label or "") for p in found] == [
        ["card", "pin"], ["fee"], ["card", "pin"], ["fee"],
    ]  # fmt: skip
    assert {p.gold for p in found} == {'["card", "pin"]'}
    assert found[0].scores is not None
    expected = torch.nn.functional.logsigmoid(torch.tensor([0.0, 1.0, -1.0])).tolist()
    assert list(found[0].scores.values()) == pytest.approx(expected, abs=1e-6)


def test_a_row_without_any_label_is_an_item_too() -> None:
    found = predictor(score, "multi", batch_size=9).predict(class_rows(labels=[]))
    assert found[0].gold == "[]"


def test_tags_are_judged_on_marked_tokens_alone_and_in_the_suites_own_numbers() -> None:
    rows = [
        {"example_id": "a", "input_ids": [3, 4, 5, 7], "tags": [-100, 0, 1, -100]},
        {"example_id": "b", "input_ids": [4, 5], "tags": [1, 2]},
    ]
    made = predictor(each_token, "tag", ("O", "B-PER", "I-PER"), tag_names=("O", "I-PER", "B-LOC"))
    found = made.predict(rows)
    assert [json.loads(p.label or "") for p in found] == [["B-PER", "I-PER"], ["B-PER", "I-PER"]]
    assert [json.loads(p.gold) for p in found] == [["O", "I-PER"], ["I-PER", "B-LOC"]]


def test_a_number_is_back_on_the_scale_of_the_training_values() -> None:
    def one(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return score(ids, mask)[:, :1]

    made = predictor(one, "regress", (), value_mean=100.0, value_std=0.5)
    found = made.predict(class_rows(value=0.1 + 0.2))
    assert [json.loads(p.label or "") for p in found] == [100.5, 100.0, 101.0, 100.0]
    assert json.loads(found[0].gold) == 0.1 + 0.2


def test_a_suite_that_the_head_cannot_be_judged_by_is_refused() -> None:
    with pytest.raises(DataError, match="0: it has no value, by which the head's answer is judged"):
        predictor(score, "regress", ()).predict(class_rows())


def test_a_row_that_the_context_does_not_hold_is_named_before_anything_is_asked() -> None:
    def never(_ids: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
        raise AssertionError("asked")

    told = "2: 5 tokens exceed the model's context of 4; shorten the row or lower max_length"
    with pytest.raises(DataError, match=told):
        predictor(never, "single", context=4).predict(class_rows())
    assert len(predictor(score, "single", context=5).predict(class_rows())) == 4


@pytest.mark.parametrize("kind", [BertConfig, RobertaConfig])
def test_the_context_of_an_encoder_is_the_longest_row_that_it_can_read(kind: Any) -> None:
    shape = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16, "max_position_embeddings": 34}  # fmt: skip
    model = AutoModelForMaskedLM.from_config(kind(**shape)).eval()
    limit = context_of(model)
    assert limit == (34 if kind is BertConfig else 32)
    model(torch.full((1, limit), 5))
    with pytest.raises((RuntimeError, IndexError)):
        model(torch.full((1, limit + 1), 5))


def test_logit_that_is_no_number_names_the_row() -> None:
    def broken(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        logits_BL = score(ids_BT, mask_BT)
        # The longest row comes first.
        logits_BL[0] = float("nan")
        return logits_BL

    with pytest.raises(ModelError, match="head: 2: a logit is no number"):
        predictor(broken, "single", batch_size=9).predict(class_rows())


def test_rows_of_like_length_are_asked_together_and_answered_in_their_order() -> None:
    asked: list[list[int]] = []

    def lengths(ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        asked.append(mask_BT.sum(dim=1).tolist())
        return mask_BT.sum(dim=1, keepdim=True).float()

    rows = [{"example_id": str(n), "input_ids": [CARD] * n, "value": 0.0} for n in (2, 9, 1, 8, 3)]
    found = predictor(lengths, "regress", (), batch_size=2).predict(rows)
    assert asked == [[9, 8], [3, 2], [1]]
    assert [json.loads(p.label or "") for p in found] == [2.0, 9.0, 1.0, 8.0, 3.0]
