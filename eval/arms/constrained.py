"""A predictor whose model writes greedily, and can write nothing but a label.

Legend: B rows of the batch, T tokens that are read at once, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from eval.arms.scoring import last_logits, reads_trees
from eval.arms.trie import Answers, Trie, require_askable
from eval.batching import (
    OnProgress,
    Row,
    ask_in_batches,
    device_of,
    judged_model,
    padded,
)
from eval.record import Prediction
from pipeline.core.errors import ModelError
from pipeline.modeling.loading import plain_model

if TYPE_CHECKING:
    import torch


class ConstrainedPredictor:
    """Takes at each step the likeliest token that still leads to a label.

    What can be written in one way only is not asked for: a label is known as soon as no
    other begins like it. The answer is that of an engine's structured outputs, token by
    token; it need not be the label that is likeliest as a whole.
    """

    def __init__(self, model: Any, answers: Answers, *, pad_id: int, batch_size: int) -> None:
        """Takes a transformers causal language model as it stands: device, dtype, adapters.

        Args:
            answers: label to the ids of its answer, end of turn included.
            pad_id: any id of the vocabulary.
            batch_size: rows at a time.

        Raises:
            DataError: no labels, or labels that cannot be told apart.
        """
        self.model, self.answers = model, {label: tuple(ids) for label, ids in answers.items()}
        self.trie = Trie(self.answers)
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
        require_askable(self.model, rows, "prompt_ids", max(self.trie.lengths), self.answers)
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
        read, start = self._forced(0)
        unread = [[*row["prompt_ids"], *read] for row in rows]
        places: list[int | str] = [start] * len(rows)
        while open_rows := [i for i, place in enumerate(places) if isinstance(place, int)]:
            logits_BV = writing.after(open_rows, [unread[index] for index in open_rows])
            for index, logits_V in zip(open_rows, logits_BV, strict=True):
                node = places[index]
                assert isinstance(node, int)
                token = self._best(rows[index], logits_V, node)
                further, places[index] = self._forced(self.trie.after(node, token))
                unread[index] = [token, *further]
        return [str(place) for place in places]

    def _writing(self, rows: Sequence[Row]) -> _Cached | _Whole:
        longest = max(self.trie.lengths)
        # A step may leave a hole as long as a label in the cache, and windows count holes.
        slots = max(len(row["prompt_ids"]) for row in rows) + longest * longest
        kind = _Cached if reads_trees(self.model, slots) else _Whole
        return kind(self.model, self.pad_id)

    def _forced(self, place: int | str) -> tuple[list[int], int | str]:
        """The only way on from a place, up to where there are several or a label ends."""
        ids: list[int] = []
        while isinstance(place, int) and len(self.trie.next_tokens(place)) == 1:
            ids += self.trie.next_tokens(place)
            place = self.trie.after(place, ids[-1])
        return ids, place

    def _best(self, row: Row, logits_V: torch.Tensor, node: int) -> int:
        # Sorted: of equals the lowest id, as an argmax over the vocabulary would have it.
        tokens = sorted(self.trie.next_tokens(node))
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
