"""Which of two answers a model came to prefer over the model below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from eval.batching import OnProgress, Row
from eval.likelihood import supervised_losses
from eval.record import Prediction, TextLoss

CHOSEN, REJECTED = "chosen", "rejected"


def pair_losses(
    model: Any,
    rows: Sequence[Row],
    *,
    batch_size: int,
    pad_id: int,
    on_progress: OnProgress | None = None,
) -> list[tuple[TextLoss, TextLoss]]:
    """Negative log-likelihood of the chosen and the rejected answer of each row.

    Args:
        rows: ``example_id``, ``input_ids`` and ``supervised`` of the question with the chosen
            answer, ``rejected_ids`` and ``rejected_supervised`` with the other.
    """
    found = supervised_losses(
        model, list(_both(rows)), batch_size=batch_size, pad_id=pad_id, on_progress=on_progress
    )
    return list(zip(found[::2], found[1::2], strict=True))


def _both(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        yield row
        yield {
            "example_id": row["example_id"],
            "input_ids": row["rejected_ids"],
            "supervised": row["rejected_supervised"],
        }


def preferences(
    rows: Sequence[Row],
    ours: Sequence[tuple[TextLoss, TextLoss]],
    below: Sequence[tuple[TextLoss, TextLoss]],
    latency_s: float,
) -> list[Prediction]:
    """One answer for each pair: the one whose reward is higher.

    The reward of an answer is its log-probability under the model less that under the model
    below (Rafailov et al. 2023, section 4, with beta left out: it changes no order).

    Args:
        latency_s: seconds for each row.
    """
    made = []
    for row, mine, theirs in zip(rows, ours, below, strict=True):
        chosen, rejected = (b.nll_sum - a.nll_sum for a, b in zip(mine, theirs, strict=True))
        label = None if chosen == rejected else CHOSEN if chosen > rejected else REJECTED
        made.append(
            Prediction(
                example_id=row["example_id"],
                gold=CHOSEN,
                label=label,
                scores={CHOSEN: chosen, REJECTED: rejected},
                raw_text=None,
                latency_s=latency_s,
                prompt_tokens=len(row["input_ids"]) + len(row["rejected_ids"]),
                output_tokens=0,
            )
        )
    return made
