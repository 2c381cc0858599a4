"""A predictor whose model writes greedily, and can write nothing but a label.

Legend: B rows of the batch, T tokens that are read at once, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eval.arms.grammar import Pieces, grammar_of
from eval.arms.scoring import last_logits, reads_trees
from eval.arms.trie import Answers, require_askable
from eval.batching import (
    OnProgress,
    Row,
    ask_in_batches,
    device_of,
    judged_model,
    padded,
)
from eval.generation import context_of
from eval.record import Prediction
from pipeline.core.errors import ModelError
from pipeline.modeling.loading import plain_model

if TYPE_CHECKING:
    import torch


class ConstrainedPredictor:
    """Takes at each step the likeliest token that still leads to a label.

    A label is known as soon as no other begins like it, and is not asked to its end. With the
    bytes of tokens the answer is that of an engine's structured outputs, which let a label be
    written in any pieces; without them only the rendered ids may be written. It need not be the
    label that is likeliest as a whole.

    A prompt must leave room for the rendered ids of every label. Where a writing in other pieces
    would not fit into what is left, it goes on along pieces that do.
    """

    def __init__(
        self,
        model: Any,
        answers: Answers,
        *,
        pad_id: int,
        batch_size: int,
        pieces: Pieces | None = None,
        stop_ids: Sequence[int] = (),
    ) -> None:
        """Takes a transformers causal language model as it stands: device, dtype, adapters.

        Args:
            answers: label to the ids of its answer, end of turn included.
            pad_id: any id of the vocabulary.
            batch_size: rows at a time.
            pieces: the bytes of each token, see ``eval.arms.grammar.pieces_of``; None: not known.
            stop_ids: ids that end an answer; needed with ``pieces``.

        Raises:
            DataError: no labels, or labels that cannot be told apart.
        """
        self.model, self.answers = model, {label: tuple(ids) for label, ids in answers.items()}
        self.grammar = grammar_of(self.answers, pieces, stop_ids)
        self.pad_id, self.batch_size = pad_id, batch_size

    def predict(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Prediction]], None] | None = None,
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``prompt_ids`` and ``label``.

        Raises:
            DataError: a prompt is empty or leaves no room for the labels, or its label is
                unknown.
            ModelError: a logit is no number; names the row.
        """
        require_askable(self.model, rows, "prompt_ids", self.grammar.longest, self.answers)
        with judged_model(self.model):
            return ask_in_batches(
                rows,
                [len(row["prompt_ids"]) for row in rows],
                self.batch_size,
                self._write,
                self._prediction,
                on_progress=on_progress,
                on_done=on_done,
            )

    def _prediction(self, row: Row, label: str, seconds: float) -> Prediction:
        return Prediction(
            example_id=row["example_id"],
            gold=row["label"],
            label=label,
            scores=None,
            raw_text=label,
            latency_s=seconds,
            prompt_tokens=len(row["prompt_ids"]),
            output_tokens=len(self.answers[label]),
        )

    def _write(self, rows: Sequence[Row]) -> list[str]:
        """The label that each row is answered with."""
        writing = self._writing(rows)
        start = self.grammar.start()
        steps = [start._replace(ids=[*row["prompt_ids"], *start.ids]) for row in rows]
        limit = context_of(self.model)
        left = [None if limit is None else limit - len(step.ids) for step in steps]
        while open_rows := [i for i, step in enumerate(steps) if step.label is None]:
            logits_BV = writing.after(open_rows, [steps[index].ids for index in open_rows])
            for index, logits_V in zip(open_rows, logits_BV, strict=True):
                place, room = steps[index].place, left[index]
                tokens = self.grammar.next_tokens(place, room)
                token = self._best(rows[index], logits_V, tokens)
                steps[index] = self.grammar.after(place, token)
                left[index] = None if room is None else room - len(steps[index].ids)
        return [str(step.label) for step in steps]

    def _writing(self, rows: Sequence[Row]) -> _Cached | _Whole:
        slots = max(len(row["prompt_ids"]) for row in rows) + self.grammar.slots
        kind = _Cached if reads_trees(self.model, slots) else _Whole
        return kind(self.model, self.pad_id)

    def _best(self, row: Row, logits_V: torch.Tensor, tokens: list[int]) -> int:
        # Ascending: of equals the lowest id, as an argmax over the vocabulary would have it.
        logits = logits_V[tokens].float()
        if not bool(logits.isfinite().all()):
            raise ModelError(
                f"constrained: {row['example_id']}: a logit is no number; "
                "look at the weights, or evaluate in float32"
            )
        return tokens[int(logits.argmax())]


class _Cached:
    """Reads what is new of each row; keys and values of the rest are kept."""

    def __init__(self, model: Any, pad_id: int) -> None:
        from transformers.cache_utils import DynamicCache

        self.model, self.pad_id = model, pad_id
        self.cache = DynamicCache(config=plain_model(model).config)
        self.rows: list[int] = []
        self.seen_BT: torch.Tensor | None = None

    def after(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] after the new ids of rows, which are those of the last call or fewer."""
        import torch

        new_BT, real_BT = padded(ids, self.pad_id, left=True, device=device_of(self.model))
        seen_BT = real_BT[:, :0] if self.seen_BT is None else self._kept(rows)
        before_B1 = seen_BT.sum(dim=1, keepdim=True)
        self.rows, self.seen_BT = list(rows), torch.cat([seen_BT, real_BT], dim=1)
        logits_B1V = last_logits(
            self.model,
            1,
            input_ids=new_BT,
            attention_mask=self.seen_BT,
            position_ids=(before_B1 + real_BT.cumsum(dim=1) - 1).clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
        )
        return logits_B1V[:, -1]

    def _kept(self, rows: Sequence[int]) -> torch.Tensor:
        import torch

        assert self.seen_BT is not None
        if list(rows) == self.rows:
            return self.seen_BT
        places = torch.tensor([self.rows.index(row) for row in rows], device=self.seen_BT.device)
        self.cache.batch_select_indices(places)
        return self.seen_BT[places]


class _Whole:
    """Reads every row anew at each step, padded on the right: exact for any causal model."""

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model, self.pad_id = model, pad_id
        self.read: dict[int, list[int]] = {}

    def after(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits [B, V] after the new ids of rows."""
        import torch

        for row, new in zip(rows, ids, strict=True):
            self.read[row] = [*self.read.get(row, []), *new]
        whole = [self.read[row] for row in rows]
        ids_BT, mask_BT = padded(whole, self.pad_id, left=False, device=device_of(self.model))
        first = min(map(len, whole)) - 1
        logits_BTV = last_logits(
            self.model,
            ids_BT.shape[1] - first,
            input_ids=ids_BT,
            attention_mask=mask_BT,
            use_cache=False,
        )
        last_B = mask_BT.sum(dim=1) - 1 - first
        return logits_BTV[torch.arange(len(whole), device=last_B.device), last_B]
