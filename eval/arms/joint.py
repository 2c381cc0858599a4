"""The joint form, P(text | label) P(label): a channel model reads the text once for each label.

This is what the textbooks call generative (Ng and Jordan 2001, "On discriminative vs.
generative classifiers"): the model of the text given its label and the prior make the answer,
and their sum over the labels, P(text), tells texts that belong to none of them.

Legend: B rows of the batch, T tokens of a text, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.arms.likelihood import require_numbers, scored_prediction
from eval.arms.scoring import last_logits, log_sums, reads_trees, rows_at_once, score_pairs
from eval.arms.trie import require_askable
from eval.batching import (
    OnProgress,
    Row,
    ask_in_batches,
    device_of,
    judged_model,
    padded,
)
from eval.record import Prediction
from pipeline.core.errors import DataError
from pipeline.modeling.loading import plain_model

if TYPE_CHECKING:
    import torch

Ids = Sequence[int]


class JointPredictor:
    """Scores a label by log P(text | label) + log P(label).

    The text's log-probability is the sum over its tokens, its end of turn included, and is not
    normalised by length: only so is it a probability of the text. The prior is ``log_prior``.
    """

    def __init__(
        self,
        model: Any,
        prompts: Mapping[str, Ids],
        counts: Mapping[str, int],
        *,
        pad_id: int,
        batch_size: int,
        arm: str = "joint",
    ) -> None:
        """Takes a channel model as it stands: device, dtype, adapters.

        Args:
            prompts: label to the ids after which the model writes a text of it.
            counts: label to its rows in train.
            pad_id: any id of the vocabulary.
            batch_size: texts at a time, at most.
            arm: as errors name it.

        Raises:
            DataError: no labels, or counts of other labels.
        """
        if not prompts:
            raise DataError("labels: there are none to choose from; give rows with labels")
        if set(counts) != set(prompts):
            odd = sorted(set(counts) ^ set(prompts))[0]
            raise DataError(
                f"labels: {odd!r} is a label of only one of train and the rows that are judged, "
                "so the labels of model and data differ; judge rows with the labels of train"
            )
        self.model, self.arm = model, arm
        self.prompts = {label: tuple(ids) for label, ids in prompts.items()}
        self.log_prior = log_prior(list(prompts), counts)
        self.pad_id, self.batch_size = pad_id, batch_size
        self._told: list[_Told] | None = None

    def predict(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Prediction]], None] | None = None,
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``text_ids`` (end of turn included) and ``label``.

        Raises:
            DataError: a text is empty or leaves no room for the labels, or its label is unknown.
            ModelError: a score is no number; names the row.
        """
        if not rows:
            return []
        room = max(map(len, self.prompts.values()))
        require_askable(self.model, rows, "text_ids", room, self.prompts)
        longest = max(len(row["text_ids"]) for row in rows)
        with judged_model(self.model):
            self._told = None
            if reads_trees(self.model, longest + room):
                self._told = [_Told(self.model, ids) for ids in self.prompts.values()]

            def at_once(length: int) -> int:
                kept = length + room if self._told else 0
                return rows_at_once(self.model, length, self.batch_size, remembered=kept)

            return ask_in_batches(
                rows,
                [len(row["text_ids"]) for row in rows],
                at_once,
                self._scores,
                self._prediction,
                on_progress=on_progress,
                on_done=on_done,
            )

    def _prediction(self, row: Row, scores: list[float], seconds: float) -> Prediction:
        labels = list(self.prompts)
        require_numbers(self.arm, row, labels, scores)
        text = len(row["text_ids"])
        read = sum(text - 1 + (0 if self._told else len(ids)) for ids in self.prompts.values())
        return scored_prediction(
            row, labels, scores, seconds=seconds, tokens=read, with_evidence=True
        )

    def _scores(self, rows: Sequence[Row]) -> list[list[float]]:
        """Of each row, every label's log P(text, label) in nats."""
        texts = [row["text_ids"] for row in rows]
        if self._told is not None:
            by_label = [told.scores(texts, self.pad_id) for told in self._told]
        else:
            by_label = [self._in_pairs(prompt, texts) for prompt in self.prompts.values()]
        return [
            [likelihood + prior for likelihood, prior in zip(of_row, self.log_prior, strict=True)]
            for of_row in zip(*by_label, strict=True)
        ]

    def _in_pairs(self, prompt: Ids, texts: Sequence[Ids]) -> list[float]:
        pairs = [(prompt, text) for text in texts]
        return score_pairs(self.model, pairs, batch_size=self.batch_size, pad_id=self.pad_id)


def log_prior(labels: Sequence[str], counts: Mapping[str, int] | None) -> list[float]:
    """log P(label) of each label, counted in train; uniform where no rows are known.

    With one more row for each label (Laplace's rule of succession), so that a label without
    rows keeps a chance.
    """
    rows = [(counts or {}).get(label, 0) + 1 for label in labels]
    return [math.log(one / sum(rows)) for one in rows]


class _Told:
    """A label's prompt, read once: what every text after it looks back at."""

    def __init__(self, model: Any, prompt: Ids) -> None:
        import torch
        from transformers.cache_utils import DynamicCache

        self.model, self.length = model, len(prompt)
        cache = DynamicCache(config=plain_model(model).config)
        ids_1T = torch.tensor([list(prompt)], device=device_of(model))
        logits_11V = last_logits(model, 1, input_ids=ids_1T, past_key_values=cache, use_cache=True)
        self.first_V = logits_11V[0, -1].float().log_softmax(dim=-1)
        layers: list[Any] = cache.layers
        self.layers = [(layer.keys, layer.values) for layer in layers]

    def scores(self, texts: Sequence[Ids], pad_id: int) -> list[float]:
        """log P(text | label) of each text."""
        import torch

        ids_BT, real_BT = padded(texts, pad_id, left=False, device=device_of(self.model))
        told_BT = self.first_V[ids_BT[:, :1]]
        if ids_BT.shape[1] > 1:
            told_BT = torch.cat([told_BT, self._later(ids_BT)], dim=1)
        # Padding may foresee anything, infinity too: it is cut out, not multiplied by nothing.
        told_BT = told_BT.double().where(real_BT.bool(), 0.0)
        scores: list[float] = told_BT.sum(dim=1).tolist()
        return scores

    def _later(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [B, T - 1] of all tokens of texts but their first."""
        import torch
        from transformers.cache_utils import DynamicCache

        rows, width = ids_BT.shape
        cache = DynamicCache(config=plain_model(self.model).config)
        for number, (keys, values) in enumerate(self.layers):
            cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
        positions_T = torch.arange(self.length, self.length + width - 1, device=ids_BT.device)
        # No mask: padding stands on the right, where no token of a text looks.
        logits_BTV = last_logits(
            self.model,
            width - 1,
            input_ids=ids_BT[:, :-1],
            position_ids=positions_T.expand(rows, -1),
            past_key_values=cache,
            use_cache=True,
        )
        told_BT = logits_BTV.gather(2, ids_BT[:, 1:, None]).squeeze(2).float()
        return told_BT - log_sums(logits_BTV)
