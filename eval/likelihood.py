"""How well a model foresees text: teacher-forced negative log-likelihood by document.

Legend: B windows of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval.batching import OnProgress, Row, batches, check_length, device_of, judged_model, padded
from eval.record import TextLoss
from pipeline.core.errors import DataError, ModelError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Window:
    """A stretch of one document: tokens [start, end), of which [scored, end) are scored."""

    document: int
    start: int
    scored: int
    end: int


def windows_of(document: int, tokens: int, max_length: int, overlap: int) -> list[Window]:
    """Windows that score every token but the first exactly once.

    Every window after the first repeats the last ``overlap`` tokens before its scored ones,
    so that none of those is foreseen from nothing.
    """
    if not 1 <= overlap < max_length:
        raise ValueError(f"overlap is {overlap}; it lies between 1 and max_length {max_length}")
    end = min(max_length, tokens)
    found = [Window(document, 0, 1, end)] if tokens > 1 else []
    while end < tokens:
        start, scored = end - overlap, end
        end = min(start + max_length, tokens)
        found.append(Window(document, start, scored, end))
    return found


def text_losses(
    model: Any,
    rows: Sequence[Row],
    *,
    batch_size: int,
    max_length: int,
    overlap: int | None = None,
    first_id: int | None = None,
    pad_id: int = 0,
    on_progress: OnProgress | None = None,
) -> list[TextLoss]:
    """Negative log-likelihood of documents in nats, in the rows' order.

    Every token of a document is scored, its first given ``first_id``, as the rolling likelihood
    of lm-evaluation-harness begins: else a tokenizer of few long tokens would have more bytes
    for nothing than one of many short ones.

    Args:
        model: a transformers causal language model.
        rows: ``example_id``, ``input_ids``, and ``utf8_bytes`` or ``text`` for bits per byte.
        batch_size: windows at a time.
        max_length: tokens of a window; longer documents take several.
        overlap: tokens that a further window repeats as context; by default half a window.
        first_id: what is read before a document that does not begin with it, and is not scored:
            the tokenizer's BOS, else its EOS. With None the first token is not scored, and the
            bytes that the others hold are not known.
        pad_id: any id of the vocabulary; padding is neither read nor scored.
        on_progress: called with (windows done, windows in all) after each batch.

    Raises:
        DataError: a row has no tokens.
        ModelError: a loss that is no number, or a window longer than the model's context.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and max_length > limit:
        raise ModelError(
            f"text losses: max_length is {max_length}, and the model's context {limit}; lower it"
        )
    half = max(1, max_length // 2) if overlap is None else overlap
    windows: list[Window] = []
    ids: list[list[int]] = []
    for document, row in enumerate(rows):
        check_length(row["example_id"], len(row["input_ids"]), None, 0)
        ids.append(_begun(row["input_ids"], first_id))
        windows += windows_of(document, len(ids[-1]), max_length, half)
    nll = [0.0] * len(rows)
    done = 0
    with judged_model(model):
        for batch in batches([window.end - window.start for window in windows], batch_size):
            chosen = [windows[index] for index in batch]
            for window, loss in zip(chosen, _scored(model, ids, chosen, pad_id), strict=True):
                _check_number(rows[window.document], loss)
                nll[window.document] += loss
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(windows))
    return [
        TextLoss(
            row["example_id"], loss, len(read) - 1, 0 if first_id is None else _utf8_bytes(row)
        )
        for row, read, loss in zip(rows, ids, nll, strict=True)
    ]


def _begun(input_ids: Sequence[int], first_id: int | None) -> list[int]:
    if first_id is None or input_ids[0] == first_id:
        return list(input_ids)
    return [first_id, *input_ids]


def supervised_losses(
    model: Any,
    rows: Sequence[Row],
    *,
    batch_size: int,
    pad_id: int = 0,
    on_progress: OnProgress | None = None,
) -> list[TextLoss]:
    """Negative log-likelihood in nats of the supervised tokens of each row, given all before.

    Args:
        model: a transformers causal language model.
        rows: ``example_id``, ``input_ids`` and ``supervised`` (1: a token that counts).
        batch_size: rows at a time.
        pad_id: any id of the vocabulary; padding is neither read nor scored.
        on_progress: called with (rows done, rows in all) after each batch.

    Raises:
        DataError: no token of a row counts, or it exceeds the model's context.
        ModelError: a loss that is no number.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    for row in rows:
        check_length(row["example_id"], len(row["input_ids"]), limit, 0)
        if not any(row["supervised"][1:]):
            raise DataError(f"{row['example_id']}: it has no answer to score; prepare it again")
    found: list[TextLoss | None] = [None] * len(rows)
    done = 0
    with judged_model(model):
        for batch in batches([len(row["input_ids"]) for row in rows], batch_size):
            chosen = [rows[index] for index in batch]
            ids_BT, mask_BT = padded(
                [row["input_ids"] for row in chosen], pad_id, left=False, device=device_of(model)
            )
            logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
            for place, (index, row) in enumerate(zip(batch, chosen, strict=True)):
                window = Window(index, 0, 1, len(row["input_ids"]))
                loss_T = _token_losses(logits_BTV[place], ids_BT[place], window)
                counts_T = loss_T.new_tensor(row["supervised"][1:])
                nll = float((loss_T * counts_T).sum())
                _check_number(row, nll)
                found[index] = TextLoss(row["example_id"], nll, int(counts_T.sum()), 0)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(rows))
    return [loss for loss in found if loss is not None]


def _scored(
    model: Any, documents: Sequence[Sequence[int]], windows: Sequence[Window], pad_id: int
) -> list[float]:
    """Summed loss of the scored tokens of each window."""
    stretches = [documents[w.document][w.start : w.end] for w in windows]
    ids_BT, mask_BT = padded(stretches, pad_id, left=False, device=device_of(model))
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    return [
        _window_loss(logits_BTV[index], ids_BT[index], window)
        for index, window in enumerate(windows)
    ]


def _window_loss(logits_TV: torch.Tensor, ids_T: torch.Tensor, window: Window) -> float:
    return float(_token_losses(logits_TV, ids_T, window).sum())


def _token_losses(logits_TV: torch.Tensor, ids_T: torch.Tensor, window: Window) -> torch.Tensor:
    from torch.nn.functional import cross_entropy

    first, last = window.scored - window.start, window.end - window.start
    # One window at a time in float32: a whole batch of logits would be gigabytes.
    loss_T = cross_entropy(
        logits_TV[first - 1 : last - 1].float(), ids_T[first:last], reduction="none"
    )
    return loss_T.double()


def _check_number(row: Row, loss: float) -> None:
    if not loss < float("inf"):
        raise ModelError(
            f"text losses: {row['example_id']}: the loss is {loss}; "
            "look at the weights, or evaluate in float32"
        )


def _utf8_bytes(row: Row) -> int:
    if "utf8_bytes" in row:
        return int(row["utf8_bytes"])
    return len(row["text"].encode()) if "text" in row else 0
