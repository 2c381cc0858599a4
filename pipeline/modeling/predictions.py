"""What a head answers, offline: labels with log-probabilities, tags, numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.core.errors import ModelError
from pipeline.modeling.heads import Classifier

THRESHOLD = 0.5
"""Of several labels those at least this probable are the answer."""


@dataclass(frozen=True)
class Answer:
    """One row's answer; what has no meaning for the head's kind is empty.

    Attributes:
        labels: the likeliest label; of a head with several labels, those above THRESHOLD in the
            labels' order; of a tagger, one tag for each token.
        scores: label to natural log-probability; of several labels each by itself.
        value: of a regressor, in the units of the data.
    """

    labels: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None
    value: float | None = None


def chosen(logits: torch.Tensor) -> torch.Tensor:
    """Of several labels those that are the answer."""
    return logits.sigmoid() >= THRESHOLD


@torch.inference_mode()
def predict(
    classifier: Classifier, rows: Sequence[Mapping[str, Any]], *, pad_id: int
) -> list[Answer]:
    """Answers of one batch, in its order; rows of like length go together best.

    Args:
        classifier: as ``load_classifier`` gives it; its mode is left as it was.
        rows: with ``input_ids``, and raw ``features`` where the head takes some.
        pad_id: fills rows up to the longest beside them.

    Raises:
        ModelError: a logit is no number; names the row's ``example_id``.
    """
    training = classifier.training
    classifier.eval()
    try:
        logits = _logits(classifier, rows, pad_id)
    finally:
        classifier.train(training)
    for row, finite in zip(rows, logits.isfinite().flatten(1).all(dim=1).tolist(), strict=True):
        if not finite:
            raise ModelError(
                f"head: {row.get('example_id', 'a row')}: a logit is no number; "
                "look at the weights, or ask it in float32"
            )
    tags = classifier.config.kind == "tag"
    return [
        _answer(classifier, of_row[: len(row["input_ids"])] if tags else of_row)
        for of_row, row in zip(logits, rows, strict=True)
    ]


def _logits(classifier: Classifier, rows: Sequence[Mapping[str, Any]], pad_id: int) -> torch.Tensor:
    device = classifier.score.weight.device
    lengths = [len(row["input_ids"]) for row in rows]
    ids = torch.full((len(rows), max(lengths)), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[index, :length] = torch.tensor(row["input_ids"])
        mask[index, :length] = 1
    inputs = [ids, mask]
    scale = classifier.config.features
    if scale is not None:
        inputs.append(scale.scaled([row["features"] for row in rows]))
    logits: torch.Tensor = classifier(*(tensor.to(device) for tensor in inputs)).cpu()
    return logits


def _answer(classifier: Classifier, logits: torch.Tensor) -> Answer:
    config = classifier.config
    if config.kind == "regress":
        return Answer(value=float(logits[0].double()) * config.value_std + config.value_mean)
    if config.kind == "tag":
        return Answer(tuple(config.labels[tag] for tag in logits.argmax(dim=-1).tolist()))
    several = config.kind == "multi"
    # From logits, in float64: the log of a probability that has become 0 or 1 tells nothing more.
    exact = logits.double()
    logs = torch.nn.functional.logsigmoid(exact) if several else exact.log_softmax(dim=-1)
    scores = dict(zip(config.labels, logs.tolist(), strict=True))
    if several:
        on = chosen(logits).tolist()
        return Answer(tuple(n for n, is_on in zip(config.labels, on, strict=True) if is_on), scores)
    return Answer((config.labels[int(logits.argmax())],), scores)
