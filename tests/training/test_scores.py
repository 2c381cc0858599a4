"""Scores against scikit-learn's and seqeval's on the same answers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score as entity_f1_score
from sklearn import metrics

from pipeline.core.objectives import OBJECTIVES
from pipeline.core.schema_train import Train
from pipeline.modeling.heads import HeadConfig
from pipeline.modeling.predictions import predict
from pipeline.training.scores import GREATER_IS_BETTER, Scoreboard

TAGS = ("O", "B-loc", "B-per", "I-loc", "I-per")
LABELS = ("a", "b", "c", "d", "e")


def boards(kind: str, labels: Any, cases: list[tuple[dict[str, torch.Tensor], torch.Tensor]],
           std: float = 1.0) -> dict[str, float]:  # fmt: skip
    """Half of the batches on one board and half on another, as two processes would have them."""
    both = [Scoreboard(kind, labels, std) for _ in "ab"]
    for index, (batch, logits) in enumerate(cases):
        both[index % 2].add(batch, logits)
    both[0].totals += both[1].totals
    return both[0].metrics()


@pytest.mark.parametrize("seed", range(5))
def test_one_label_is_scored_as_in_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(4):
        # Label e is never gold, and with few rows some label is absent altogether.
        labels = torch.randint(4, (3,), generator=generator)
        cases.append(({"labels": labels}, torch.randn(3, 5, generator=generator)))
    gold = torch.cat([batch["labels"] for batch, _ in cases])
    answer = torch.cat([logits.argmax(1) for _, logits in cases])
    assert boards("single", LABELS, cases) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(gold, answer),
            "macro_f1": metrics.f1_score(gold, answer, average="macro", zero_division=0),
            "micro_f1": metrics.f1_score(gold, answer, average="micro"),
        }
    )


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_are_scored_as_in_scikit_learn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(4):
        labels = (torch.rand(6, 5, generator=generator) < 0.4).float()
        cases.append(({"labels": labels}, torch.randn(6, 5, generator=generator)))
    gold = torch.cat([batch["labels"] for batch, _ in cases]).numpy().astype(int)
    answer = torch.cat([logits.sigmoid() > 0.5 for _, logits in cases]).numpy().astype(int)
    assert boards("multi", LABELS, cases) == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(gold, answer),
            "macro_f1": metrics.f1_score(gold, answer, average="macro", zero_division=0),
            "micro_f1": metrics.f1_score(gold, answer, average="micro", zero_division=0),
        }
    )


@pytest.mark.parametrize("seed", range(20))
def test_entities_are_scored_as_in_seqeval(seed: int) -> None:
    """seqeval's default mode: an I- without its B- begins an entity too."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    gold: list[list[str]] = []
    answer: list[list[str]] = []
    for _ in range(4):
        tags = torch.randint(5, (3, 9), generator=generator)
        untagged = torch.rand(tags.shape, generator=generator) < 0.2
        logits = torch.nn.functional.one_hot(tags, 5) + torch.randn(3, 9, 5, generator=generator)
        cases.append(({"tags": tags.masked_fill(untagged, -100)}, logits))
        for row, found, gone in zip(tags, logits.argmax(2), untagged, strict=True):
            gold.append([TAGS[tag] for tag in row[~gone]])
            answer.append([TAGS[tag] for tag in found[~gone]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entities = entity_f1_score(gold, answer)
    assert boards("tag", TAGS, cases) == pytest.approx(
        {
            "entity_f1": entities,
            "accuracy": metrics.accuracy_score(np.concatenate(gold), np.concatenate(answer)),
        }
    )


def test_values_are_scored_as_in_scikit_learn_in_their_own_units() -> None:
    generator = torch.Generator().manual_seed(0)
    cases = [
        ({"values": torch.randn(5, generator=generator)}, torch.randn(5, generator=generator))
        for _ in range(4)
    ]
    gold = torch.cat([batch["values"] for batch, _ in cases]).double() * 12.5 + 100
    answer = torch.cat([found for _, found in cases]).double() * 12.5 + 100
    assert boards("regress", (), cases, std=12.5) == pytest.approx(
        {
            "mae": metrics.mean_absolute_error(gold, answer),
            "r2": metrics.r2_score(gold, answer),
        }
    )


def test_values_that_do_not_vary_have_no_r2() -> None:
    batch = {"values": torch.full((4,), 0.3)}
    assert boards("regress", (), [(batch, torch.randn(4))]).keys() == {"mae"}


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-8), (0.0, 1.0), (3.0, 1e-3), (0.0, 1e9)])
def test_small_values_vary_as_well_as_large_ones(offset: float, scale: float) -> None:
    """Of a validation split whose values lie close together, or far from the training split's."""
    generator = torch.Generator().manual_seed(1)
    gold = offset + scale * torch.randn(40, generator=generator)
    found = gold + 0.5 * scale * torch.randn(40, generator=generator)
    measured = boards("regress", (), [({"values": gold}, found)])
    assert measured["r2"] == pytest.approx(metrics.r2_score(gold, found), rel=1e-4)


class Known(torch.nn.Module):
    """A head with several labels whose logits are known."""

    def __init__(self, logits_BL: torch.Tensor) -> None:
        super().__init__()
        self.config = HeadConfig(LABELS[: logits_BL.shape[1]], "last", 0.0, 1, "multi")
        self.score = torch.nn.Linear(1, 1)
        self.known = logits_BL

    def forward(self, *_inputs: torch.Tensor) -> torch.Tensor:
        return self.known


def test_validation_counts_the_labels_that_the_model_answers() -> None:
    """At the threshold itself, and so near that a probability in float32 cannot tell."""
    logits_BL = torch.tensor([[0.0, -1e-9, 1e-9, -1e-3, 1e-3]])
    head: Any = Known(logits_BL)
    (answer,) = predict(head, [{"input_ids": [1]}], pad_id=0)
    gold = torch.tensor([[float(label in answer.labels) for label in LABELS]])
    assert boards("multi", LABELS, [({"labels": gold}, logits_BL)])["accuracy"] == 1.0
    assert answer.labels == ("a", "b", "c", "e")


def test_pairs_are_right_where_the_chosen_has_more_reward() -> None:
    rewards = torch.tensor([[1.0, 0.5], [0.2, 0.2], [-2.0, -1.0], [0.1, 0.0]])
    assert boards("preference", (), [({}, rewards)]) == {"reward_accuracy": 0.5}


def test_nothing_scored_is_no_figure() -> None:
    for kind in ("single", "multi", "tag", "regress", "preference", "text"):
        assert Scoreboard(kind, LABELS).metrics() == {}


def test_every_measure_a_recipe_may_name_is_measured_and_has_a_direction() -> None:
    import typing

    named = Train.model_fields["metric_for_best_model"].annotation
    offered = {m for part in typing.get_args(named) for m in typing.get_args(part)}
    assert offered == set(GREATER_IS_BETTER)
    assert offered - {"loss"} == {name for info in OBJECTIVES.values() for name in info.measures}
