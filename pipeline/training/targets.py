"""A global batch as tensors, and what its loss is divided by."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from pipeline.core.errors import DataError, TrainingError
from pipeline.training.batches import collate, row_weights
from pipeline.training.modules import head_of
from pipeline.training.objectives import NO_TAG
from pipeline.training.trainee import Trainee, special_ids

Batch = dict[str, torch.Tensor]
Rows = Sequence[Mapping[str, Any]]
# Of a split: its supervised tokens, its rows by weight, and its rows.
Totals = tuple[float, float, int]
# Tensors whose last dimension is tokens: [B, T], or [B, 2, T] of pairs. All have rows first.
TOKENWISE = (
    "input_ids", "attention_mask", "supervised", "position_ids", "masked_ids", "chosen",
    "weights", "tags",
)  # fmt: skip


def batch_of(
    rows: Rows,
    trainee: Trainee,
    config: Mapping[str, Any],
    step: int | None,
    totals: Totals | None = None,
) -> Batch:
    """The rows of update ``step`` with all that the objective needs.

    Args:
        rows: of a Dataset; padded to the longest. Of pairs with ``reference``, the two
            log-probabilities before the first update, that is in the batch too.
        trainee: whose tokenizer, head and class weights count.
        config: the settings of `train`.
        step: masks are drawn from the seed and this number; None: of a validation, where each
            row's are its own, so that no figure depends on which rows stand together.
        totals: of the whole split where the rows are a part of one that is judged.
    """
    pad_id, objective = trainee.tokenizer.pad_token_id or 0, config["objective"]
    if objective == "dpo":
        return _pairs(rows, pad_id, trainee.pad_to)
    batch = collate(rows, pad_id, trainee.pad_to)
    if objective in _WITH_HEAD:
        return batch | _features(rows, trainee) | _WITH_HEAD[objective](rows, batch, trainee)
    if objective == "hybrid":
        return batch | _hybrid(rows, batch, trainee, config, totals)
    if objective == "mlm":
        batch = mask_tokens(
            batch,
            special_ids=special_ids(trainee.tokenizer),
            mask_id=trainee.tokenizer.mask_token_id,
            vocab_size=len(trainee.tokenizer),
            probability=config["mlm_probability"],
            generators=_generators(rows, config["seed"], step),
            each_row=step is None,
        )
    if config.get("loss_weighting", "token") == "row":
        batch["weights"] = row_weights(batch)
    return batch


def _generators(rows: Rows, seed: int, step: int | None) -> list[torch.Generator]:
    """Where each row's masks are drawn from: one after the other, or each from its own name."""
    if step is not None:
        return [torch.Generator().manual_seed(seed * 1_000_003 + step)] * len(rows)
    names = (zlib.crc32(str(row["example_id"]).encode()) for row in rows)
    return [torch.Generator().manual_seed(seed * 1_000_003 + name) for name in names]


def _nothing_to_learn(rows: Rows) -> TrainingError:
    first = f" (first row {rows[0]['example_id']})" if rows else ""
    return TrainingError(
        f"train: an update without supervised tokens{first}; check format and prompt of data.train"
    )


def target_count(module: Any, batch: Mapping[str, torch.Tensor], rows: Rows = ()) -> float:
    """What the summed loss of a global batch is divided by.

    Args:
        module: an `objectives.Objective`; it knows what it sums over.
        rows: that the batch was made of, to name the first one.

    Raises:
        TrainingError: nothing to learn from.
    """
    count = float(module.count(batch))
    if count == 0:
        raise _nothing_to_learn(rows)
    return count


def _labels(rows: Rows, _batch: Batch, trainee: Trainee) -> Batch:
    known = {label: index for index, label in enumerate(trainee.labels)}
    if head_of(trainee.module).kind == "multi":
        labels_BL = torch.zeros(len(rows), len(known))
        for row, marks in zip(rows, labels_BL, strict=True):
            marks[[_index(known, label, row) for label in row["labels"] or ()]] = 1.0
        return {"labels": labels_BL}
    labels_B = torch.tensor([_index(known, row["label"], row) for row in rows])
    if trainee.class_weights is None:
        return {"labels": labels_B}
    return {"labels": labels_B, "row_weights": trainee.class_weights[labels_B]}


def _index(known: Mapping[str, int], label: Any, row: Mapping[str, Any]) -> int:
    if label not in known:
        raise DataError(
            f"data: row {row['example_id']!r}: label {label!r} is none of the {len(known)} labels "
            "that are trained; prepare the data again"
        )
    return known[label]


def _features(rows: Rows, trainee: Trainee) -> Batch:
    scale = head_of(trainee.module).features
    return {} if scale is None else {"features": scale.scaled([row["features"] for row in rows])}


def _tags(rows: Rows, batch: Batch, trainee: Trainee) -> Batch:
    tags_BT = torch.full_like(batch["input_ids"], NO_TAG)
    for index, row in enumerate(rows):
        tags = row["tags"]
        if len(tags) != len(row["input_ids"]) or max(tags, default=0) >= len(trainee.labels):
            raise DataError(
                f"data: row {row['example_id']!r}: its tags do not go with its tokens or with "
                f"the {len(trainee.labels)} tags of labels.json; prepare the data again"
            )
        tags_BT[index, : len(tags)] = torch.tensor(tags)
    return {"tags": tags_BT}


def _values(rows: Rows, _batch: Batch, trainee: Trainee) -> Batch:
    head = head_of(trainee.module)
    raw_B = torch.tensor([row["value"] for row in rows], dtype=torch.float64)
    return {"values": ((raw_B - head.value_mean) / head.value_std).float()}


_WITH_HEAD: Mapping[str, Callable[[Rows, Batch, Trainee], Batch]] = {
    "classify": _labels, "tag": _tags, "regress": _values
}  # fmt: skip


def hybrid_totals(
    rows: Iterable[Mapping[str, Any]], trainee: Trainee, config: Mapping[str, Any]
) -> Totals:
    """What both losses of a split are divided by; the rows are read one by one."""
    tokens = weights = 0.0
    count = 0
    for row in rows:
        count += 1
        batch = collate([row], 0, 1)
        tokens_BT, rows_B, _ = _hybrid_weights([row], batch, trainee, config)
        tokens += float(tokens_BT.double().sum())
        weights += float(rows_B.double().sum())
    return tokens, weights, count


def _hybrid_weights(
    rows: Rows, batch: Batch, trainee: Trainee, config: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    made = _labels(rows, batch, trainee)
    by_row = config.get("loss_weighting", "token") == "row"
    tokens_BT = row_weights(batch) if by_row else batch["supervised"].float()
    return tokens_BT, made.get("row_weights", torch.ones(len(rows))), made


def _hybrid(
    rows: Rows,
    batch: Batch,
    trainee: Trainee,
    config: Mapping[str, Any],
    totals: Totals | None,
) -> Batch:
    """Both losses' shares as weights, so that their sum over the rows is all there is to do.

    The loss is ``generative`` times the mean over the global batch's (or the judged split's)
    supervised tokens plus ``head`` times the mean over its rows. The count is the rows, hence
    the factor.
    """
    shares = config["hybrid"]
    tokens_BT, rows_B, made = _hybrid_weights(rows, batch, trainee, config)
    if totals is None:
        totals = float(tokens_BT.double().sum()), float(rows_B.double().sum()), len(rows)
    tokens, weights, count = totals
    if tokens == 0:
        raise _nothing_to_learn(rows)
    factors = (shares["generative"] * count / tokens, shares["head"] * count / weights)
    return {
        "labels": made["labels"],
        "prompt": torch.tensor([row["prompt"] for row in rows]),
        "weights": tokens_BT * factors[0],
        "row_weights": rows_B * factors[1],
    }


def _pairs(rows: Rows, pad_id: int, pad_to: int) -> Batch:
    """[B, 2, T]: chosen and rejected."""
    flat = [
        {"input_ids": row[ids], "supervised": row[flags]}
        for row in rows
        for ids, flags in (("input_ids", "supervised"), ("rejected_ids", "rejected_supervised"))
    ]
    batch = {name: t.unflatten(0, (-1, 2)) for name, t in collate(flat, pad_id, pad_to).items()}
    if all(row.get("reference") is not None for row in rows):
        batch["reference"] = torch.tensor([list(row["reference"]) for row in rows])
    return batch


def mask_tokens(
    batch: Batch,
    *,
    special_ids: Sequence[int],
    mask_id: int,
    vocab_size: int,
    probability: float,
    generators: Sequence[torch.Generator],
    each_row: bool = False,
) -> Batch:
    """Chooses tokens to predict: 80 % become the mask, 10 % a random token, 10 % stay.

    Drawn for each row's own tokens, so that padding changes nothing. Adds ``masked_ids`` and
    ``chosen`` [B, T].

    Args:
        generators: one for each row, or the same one several times.
        each_row: at least one token of each row is chosen; else of the batch.
    """
    ids = batch["input_ids"]
    special = torch.isin(ids, torch.tensor(list(special_ids))) | (batch["attention_mask"] == 0)
    draw, kind, random_ids = torch.full(ids.shape, 2.0), torch.ones(ids.shape), ids.clone()
    lengths = batch["attention_mask"].sum(dim=1).tolist()
    for row, (length, generator) in enumerate(zip(lengths, generators, strict=True)):
        draw[row, :length] = torch.rand(length, generator=generator)
        kind[row, :length] = torch.rand(length, generator=generator)
        random_ids[row, :length] = torch.randint(vocab_size, (length,), generator=generator)
    draw = draw.masked_fill(special, 2.0)
    chosen = draw < probability
    if each_row:
        chosen |= (draw == draw.min(dim=1, keepdim=True).values) & ~chosen.any(dim=1, keepdim=True)
        chosen &= ~special
    elif not chosen.any():
        chosen.view(-1)[draw.argmin()] = True
    masked = ids.clone()
    masked[chosen & (kind < 0.8)] = mask_id
    swapped = chosen & (kind >= 0.8) & (kind < 0.9)
    masked[swapped] = random_ids[swapped]
    return {**batch, "masked_ids": masked, "chosen": chosen}
