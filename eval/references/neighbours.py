"""Nearest neighbours: the rows of train whose vectors point the way the asked row's does.

A vector is the mean of the last hidden states over a text's tokens, scaled to length 1, as
sentence encoders have it (Reimers and Gurevych 2019, section 3). Neighbours vote with their
cosine similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from eval.batching import OnProgress, batches, device_of, judged_model, padded
from eval.references.task import Item, Task

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
_NUMBERS = (1, 3, 5, 10, 20, 50)
_NO_CHOICE = 5
_AT_ONCE = 1024
_LONGEST = 512


class Encoder:
    """Texts to vectors with a model that reads: an encoder, or the base itself.

    Attributes:
        cut: texts that were longer than the model reads, so far.
        tokens: read of each text of the last call.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        """Loads model and tokenizer from ``folder``.

        Raises:
            ModelError: they cannot be loaded.
        """
        import torch

        from pipeline.modeling.loading import backbone, load_model, load_tokenizer

        on_gpu = torch.cuda.is_available()
        model = load_model(folder, bf16_weights=on_gpu)
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu else "cpu"
        self._body = backbone(model).to(self.device)
        self._tokenizer = load_tokenizer(folder)
        limit = getattr(model.config, "max_position_embeddings", _LONGEST)
        self._longest = min(int(limit), _LONGEST)
        self._batch_size = batch_size
        self.cut = 0
        self.tokens: list[int] = []

    def vectors(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> Vectors:
        """[N, width], each of length 1, in the texts' order."""
        if not texts:
            self.tokens = []
            return np.zeros((0, 1), dtype=np.float32)
        rows = self._ids(texts)
        self.tokens = [len(row) for row in rows]
        found: list[Any] = [None] * len(rows)
        done = 0
        with judged_model(self._body):
            for batch in batches(self.tokens, self._batch_size):
                vectors = self._batch([rows[index] for index in batch])
                for index, vector in zip(batch, vectors, strict=True):
                    found[index] = vector
                done += len(batch)
                if on_progress is not None:
                    on_progress(done, len(rows))
        return np.stack(found)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        whole = self._tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        rows = []
        for ids in whole:
            self.cut += len(ids) > self._longest
            # A text of no tokens still has a place: its padding.
            rows.append(list(ids[: self._longest]) or [self._tokenizer.pad_token_id or 0])
        return rows

    def _batch(self, rows: Sequence[Sequence[int]]) -> Vectors:
        # B texts, T tokens, H width.
        pad = self._tokenizer.pad_token_id or 0
        ids_BT, mask_BT = padded(rows, pad, left=False, device=device_of(self._body))
        hidden_BTH = self._body(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
        weight_BT1 = mask_BT.unsqueeze(-1)
        mean_BH = (hidden_BTH * weight_BT1).sum(1) / weight_BT1.sum(1)
        unit_BH = mean_BH / mean_BH.norm(dim=1, keepdim=True).clamp_min(1e-12)
        made: Vectors = unit_BH.cpu().numpy().astype(np.float32)
        return made


@dataclass
class Neighbours:
    """Vectors of train with their labels.

    Attributes:
        told: the number of neighbours, by what it was chosen, and how well it did there.
    """

    labels: tuple[str, ...]
    several: bool
    vectors: Vectors
    targets: npt.NDArray[np.bool_]
    number: int = _NO_CHOICE
    told: dict[str, Any] = field(default_factory=dict)

    def log_probabilities(self, asked: Vectors, number: int | None = None) -> Floats:
        """[N, L] for asked vectors [N, width]: natural logs of the neighbours' votes.

        One vote is spread evenly over all labels (of several: over on and off), so that no
        label is impossible for the lack of a near row.
        """
        count = min(number or self.number, len(self.vectors))
        found = []
        for start in range(0, len(asked), _AT_ONCE):
            near = asked[start : start + _AT_ONCE] @ self.vectors.T
            # Stable: of rows that are equally near, the first in train counts.
            order = np.argsort(-near, axis=1, kind="stable")[:, :count]
            weight = np.clip(np.take_along_axis(near, order, axis=1), 0, None).astype(np.float64)
            votes = np.einsum("nk,nkl->nl", weight, self.targets[order].astype(np.float64))
            total = weight.sum(axis=1, keepdims=True)
            even = 0.5 if self.several else 1 / len(self.labels)
            found.append(np.log((votes + even) / (total + 1)))
        return np.concatenate(found) if found else np.zeros((0, len(self.labels)))


def fit_neighbours(task: Task, encode: Callable[[Sequence[str]], Vectors]) -> Neighbours:
    """Takes up the rows of train, and chooses the number of neighbours on validation.

    Args:
        encode: texts to vectors of length 1.

    Raises:
        DataError: train has no labelled rows.
    """
    task.require_train("nearest")
    labels = tuple(sorted({label for item in task.train for label in item.labels}))
    targets = np.array([[label in item.labels for label in labels] for item in task.train])
    vectors = encode([item.text for item in task.train])
    model = Neighbours(labels, task.several, vectors, targets)
    numbers = [n for n in _NUMBERS if n <= len(task.train)]
    shares: dict[int, float] = {}
    if task.validation:
        asked = encode([item.text for item in task.validation])
        for number in numbers:
            shares[number] = _right(model.log_probabilities(asked, number), model, task.validation)
        model.number = max(shares, key=lambda number: (shares[number], -number))
    else:
        model.number = min(_NO_CHOICE, len(task.train))
    model.told = {
        "neighbours": model.number,
        "chosen_on": "validation" if task.validation else "nothing: no validation rows",
        "validation_accuracy": shares.get(model.number),
    }
    return model


def _right(logs: Floats, model: Neighbours, items: Sequence[Item]) -> float:
    names = np.array(model.labels)
    right = 0
    for row, item in zip(logs, items, strict=True):
        told = names[row >= np.log(0.5)] if model.several else names[[int(row.argmax())]]
        right += set(told.tolist()) == set(item.labels)
    return right / len(items)
