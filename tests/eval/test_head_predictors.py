"""Heads of every kind: labels, tags and numbers from logits that are known."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from eval.head_predictors import Answering, HeadPredictor
from pipeline.core.errors import DataError, ModelError

CARD, PIN, LOST, FEE = range(3, 7)
TOPICS = Answering("single", ("card", "pin", "fee"))


def score(ids_BT: torch.Tensor, mask_BT: torch.Tensor, _rows: Any) -> torch.Tensor:
    """Counts each label's token among the row's own tokens: padding must not count."""
    return torch.stack(
        [((ids_BT == token) * mask_BT).sum(dim=1).float() for token in (CARD, PIN, FEE)], dim=1
    )


def each_token(ids_BT: torch.Tensor, _mask: torch.Tensor, _rows: Any) -> torch.Tensor:
    """Logits [B, T, 3] that are highest for the token's number modulo 3."""
    return torch.nn.functional.one_hot(ids_BT % 3, 3).float()


def class_rows(**more: Any) -> list[dict[str, Any]]:
    tokens = [[PIN, PIN, CARD], [FEE], [CARD, LOST, CARD, PIN, LOST], [LOST, FEE]]
    return [
        {"example_id": str(i), "input_ids": t, "label": "pin", **more} for i, t in enumerate(tokens)
    ]


def test_scores_of_one_label_are_the_softmax_and_padding_is_unseen() -> None:
    found = HeadPredictor(score, TOPICS, batch_size=3, pad_id=CARD).predict(class_rows())
    assert [p.label for p in found] == ["pin", "fee", "card", "fee"]
    assert [p.example_id for p in found] == ["0", "1", "2", "3"]
    assert found[0].scores is not None
    expected = torch.tensor([1.0, 2.0, 0.0]).softmax(0).tolist()
    assert list(found[0].scores.values()) == pytest.approx(expected, abs=1e-6)


def test_several_labels_are_those_with_a_probability_of_one_half_or_more() -> None:
    def less_one(ids: torch.Tensor, mask: torch.Tensor, rows: Any) -> torch.Tensor:
        return score(ids, mask, rows) - 1.0

    answering = Answering("multi", ("card", "pin", "fee"))
    made = HeadPredictor(less_one, answering, batch_size=2)
    found = made.predict(class_rows(labels=["pin", "card"]))
    assert [json.loads(p.label or "") for p in found] == [
        ["card", "pin"], ["fee"], ["card", "pin"], ["fee"],
    ]  # fmt: skip
    assert {p.gold for p in found} == {'["card", "pin"]'}
    assert found[0].scores is not None
    expected = torch.tensor([0.0, 1.0, -1.0]).sigmoid().tolist()
    assert list(found[0].scores.values()) == pytest.approx(expected, abs=1e-6)


def test_a_row_without_any_label_is_an_item_too() -> None:
    answering = Answering("multi", ("card", "pin", "fee"))
    (found, *_) = HeadPredictor(score, answering, batch_size=9).predict(class_rows(labels=[]))
    assert found.gold == "[]"


def test_tags_are_judged_on_marked_tokens_alone_and_in_the_suites_own_numbers() -> None:
    answering = Answering("tag", ("O", "B-PER", "I-PER"))
    rows = [
        {"example_id": "a", "input_ids": [3, 4, 5, 7], "tags": [-100, 0, 1, -100]},
        {"example_id": "b", "input_ids": [4, 5], "tags": [1, 2]},
    ]
    made = HeadPredictor(each_token, answering, batch_size=2, tag_names=["O", "I-PER", "B-LOC"])
    found = made.predict(rows)
    assert [json.loads(p.label or "") for p in found] == [["B-PER", "I-PER"], ["B-PER", "I-PER"]]
    assert [json.loads(p.gold) for p in found] == [["O", "I-PER"], ["I-PER", "B-LOC"]]


def test_a_number_is_back_on_the_scale_of_the_training_values() -> None:
    def one(ids: torch.Tensor, mask: torch.Tensor, rows: Any) -> torch.Tensor:
        return score(ids, mask, rows)[:, :1]

    answering = Answering("regress", value_mean=100.0, value_std=0.5)
    found = HeadPredictor(one, answering, batch_size=3).predict(class_rows(value=0.1 + 0.2))
    assert [json.loads(p.label or "") for p in found] == [100.5, 100.0, 101.0, 100.0]
    assert json.loads(found[0].gold) == 0.1 + 0.2


def test_head_of_another_label_set_is_refused() -> None:
    few = Answering("single", ("card", "pin"))
    with pytest.raises(ModelError, match=r"shape \(4, 3\) for 4 rows and 2 labels"):
        HeadPredictor(score, few, batch_size=8).predict(class_rows())
    tagger = Answering("tag", ("O", "B-x", "I-x"))
    with pytest.raises(ModelError, match=r"shape \(4, 3\)"):
        HeadPredictor(score, tagger, batch_size=8).predict(class_rows(tags=[0]))


def test_a_suite_that_the_head_cannot_be_judged_by_is_refused() -> None:
    number = Answering("regress")
    with pytest.raises(DataError, match="0: it has no value, by which the head's answer is judged"):
        HeadPredictor(score, number, batch_size=8).predict(class_rows())


def test_logit_that_is_no_number_names_the_row() -> None:
    def broken(ids_BT: torch.Tensor, mask_BT: torch.Tensor, rows: Any) -> torch.Tensor:
        logits_BL = score(ids_BT, mask_BT, rows)
        logits_BL[1] = float("nan")
        return logits_BL

    made = HeadPredictor(broken, TOPICS, batch_size=8)
    with pytest.raises(ModelError, match="classifier: 0: a logit is no number"):
        made.predict(class_rows())
