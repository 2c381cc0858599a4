"""The base by itself: told the labels, shown some rows, or given passages to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from eval.batching import OnProgress
from eval.generation import context_of, stop_ids
from eval.record import Prediction
from eval.references.prompts import CHINESE, ENGLISH, Asker, Turn, drawn
from eval.references.retrieval import Passages, passages_of
from eval.references.task import Item, OnDone, Task, unspaced
from pipeline.core.errors import DataError, ModelError

PASSAGES = 3
"""Passages that `retrieved` gives the base."""
_LOOKED_AT = 16


class Base:
    """A base model in memory, as it was fetched or made.

    Attributes:
        context: tokens that it reads and writes at most.
    """

    def __init__(self, folder: Path, batch_size: int) -> None:
        """Loads it.

        Raises:
            ModelError: it only reads, or cannot be loaded.
        """
        import torch

        from pipeline.modeling.loading import kind_of_folder, load_model, load_tokenizer

        if kind_of_folder(folder) != "causal":
            raise ModelError(
                "reference: the base only reads text, and this rung asks it to write; take "
                "zero_shot, few_shot and retrieved out of evaluate.references"
            )
        on_gpu = torch.cuda.is_available()
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu else "cpu"
        self.model = load_model(folder, bf16_weights=on_gpu).to(self.device).eval()
        self.tokenizer = load_tokenizer(folder)
        self.batch_size = batch_size
        self.context = context_of(self.model)

    @property
    def stop_ids(self) -> list[int]:
        """Ids with which the model itself ends."""
        return stop_ids(self.model, self.tokenizer)


class Prompted:
    """One rung that asks the base.

    Attributes:
        told: how it is asked: by what, with how many rows or passages.
        scored: its answers have scores over the labels.
    """

    def __init__(
        self,
        name: str,
        task: Task,
        base: Base,
        render: Mapping[str, Any],
        config: Mapping[str, Any],
        corpus: Path | None = None,
    ) -> None:
        """Settles the prompt so that the longest one fits.

        Args:
            name: ``zero_shot``, ``few_shot`` or ``retrieved``.
            render: the Dataset's render.json.
            config: ``seed``, ``shots``, ``max_new_tokens``, ``answer_after``.
            corpus: passages to look in; None: those of the questions.

        Raises:
            DataError: the rung does not fit the task, or an item does not fit the context.
        """
        if task.several:
            raise DataError(
                f"reference {name}: a row may have several labels, and the base is asked for one; "
                "take it out of evaluate.references"
            )
        self.name, self.task, self.base, self.config = name, task, base, config
        self.device = base.device
        words = CHINESE if unspaced([item.text for item in task.test]) else ENGLISH
        self.scored = bool(task.labels) and name != "retrieved"
        reply = words.label if self.scored else words.reply
        self.words, self._asker = words, Asker(base.tokenizer, render, words, reply)
        self._passages: Passages | None = None
        if name == "retrieved":
            if task.labels:
                raise DataError(
                    "reference retrieved: it answers open questions, and the data has labels; "
                    "take it out of evaluate.references"
                )
            self._passages = Passages(passages_of(task, corpus))
        self._label_ids = {name: self._asker.answer_ids(name) for name in task.labels}
        self._shown: list[Turn] = []
        self._passages_given = PASSAGES
        self._instruction = self._instructions()[0]
        self.told = self._settle()

    def answers(
        self,
        items: Sequence[Item],
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> list[Prediction]:
        """One answer for each item.

        Args:
            on_done: called with what each batch has finished.
        """
        rows = [
            {
                "example_id": item.example_id,
                "prompt_ids": self.prompt(item),
                "label": item.labels[0],
            }
            for item in items
        ]
        predictor = self._by_likelihood() if self.scored else self._by_writing()
        found: list[Prediction] = predictor.predict(rows, on_progress=on_progress, on_done=on_done)
        return found

    def prompt(self, item: Item) -> list[int]:
        """Ids after which the base answers the item."""
        return self._asker.prompt(self._instruction, self._shown, self._asked(item))

    def _asked(self, item: Item) -> str:
        words = self.words
        if self.scored:
            return f"{words.text}{item.whole}"
        if self._passages is None:
            return f"{words.question}{item.whole}"
        # The question alone is looked up: its own passage has to be found like any other.
        best = self._passages.best(item.text, self._passages_given)
        given = "".join(f"{words.passage}{passage}\n\n" for passage in best)
        return f"{given}{words.question}{item.text}"

    def _instructions(self) -> list[str]:
        """The wished one first, then shorter ones."""
        words = self.words
        if not self.scored:
            return [words.answer if self._passages is None else words.read]
        listed = words.choose.format(labels=words.between.join(self.task.labels))
        return [listed, words.choose_unlisted]

    def _settle(self) -> dict[str, Any]:
        """Takes as many rows or passages as fit beside the longest item, and tells them."""
        items = self._longest()
        wished = int(self.config["shots"]) if self.name == "few_shot" else 0
        shown = self._turns(wished)
        for instruction in self._instructions():
            self._instruction = instruction
            # Rows before a list of labels: without rows the list is all that tells them.
            for number in range(len(shown), min(wished, 1) - 1, -1):
                self._shown = shown[:number]
                if self._fits(items):
                    return self._told(instruction, wished)
        while self._passages is not None and self._passages_given > 1:
            self._passages_given -= 1
            if self._fits(items):
                return self._told(self._instruction, wished)
        raise DataError(
            f"reference {self.name}: its longest prompt with the answer exceeds the base's "
            f"context of {self.base.context} tokens; take it out of evaluate.references"
        )

    def _longest(self) -> list[Item]:
        """The items with the longest prompts: what fits them fits the others."""
        items = [*self.task.test, *(self.task.validation if self.scored else ())]
        return sorted(items, key=lambda item: -len(self.prompt(item)))[:_LOOKED_AT]

    def _turns(self, wished: int) -> list[Turn]:
        if not wished:
            return []
        words = self.words
        before = words.text if self.scored else words.question
        rows = drawn(self.task, wished, int(self.config["seed"]))
        return [Turn(f"{before}{row.whole}", row.labels[0]) for row in rows]

    def _fits(self, items: Sequence[Item]) -> bool:
        if self.base.context is None:
            return True
        room = self._room()
        return all(len(self.prompt(item)) + room <= self.base.context for item in items)

    def _room(self) -> int:
        if self.scored:
            return max(map(len, self._label_ids.values()))
        return int(self.config["max_new_tokens"])

    def _told(self, instruction: str, wished: int) -> dict[str, Any]:
        told: dict[str, Any] = {
            "asked_by": "likelihood of each label with its end" if self.scored else "writing",
            "through": "chat template" if self._asker.chats else "plain text",
        }
        if self.scored:
            told["labels_listed"] = instruction != self.words.choose_unlisted
        if self.name == "few_shot":
            told |= {"shots": len(self._shown), "shots_wished": wished}
        if self._passages is not None:
            told |= {"passages": self._passages_given, "looked_in": len(self._passages.texts)}
        return told

    def _by_writing(self) -> Any:
        from eval.arms.generate import GenerativePredictor

        return GenerativePredictor(
            self.base.model,
            self.base.tokenizer,
            labels=None,
            answer_after=self.config["answer_after"],
            stop_ids=self._asker.stops(self.base.stop_ids),
            pad_id=self.base.tokenizer.pad_token_id or 0,
            max_new_tokens=int(self.config["max_new_tokens"]),
            batch_size=self.base.batch_size,
        )

    def _by_likelihood(self) -> Any:
        from eval.arms.likelihood import LikelihoodPredictor

        return LikelihoodPredictor(
            self.base.model,
            self._label_ids,
            pad_id=self.base.tokenizer.pad_token_id or 0,
            batch_size=self.base.batch_size,
        )
