"""A predictor whose model writes its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from eval.answers import final_answer, normalised_answer
from eval.batching import OnProgress, Row, ask_in_batches, check_length, judged_model
from eval.generation import context_of, plain_generation, written
from eval.record import Prediction
from eval.sampling import drawing
from pipeline.core.errors import ModelError


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is needed here."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(
        self, ids: Sequence[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str: ...


class GenerativePredictor:
    """Lets the model write its answer and takes it only where it is exactly a label.

    Greedy, batched with left padding. An answer counts once its stop token was written:
    ``card`` cut off by the length limit could have become ``card_arrival``.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        labels: Sequence[str] | None,
        stop_ids: Sequence[int],
        pad_id: int,
        max_new_tokens: int,
        batch_size: int,
        answer_after: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        """Takes a transformers causal language model as it stands: device, dtype, adapters.

        Args:
            labels: the answers there are; None for open answers, compared after
                eval.answers.normalised_answer.
            answer_after: an open answer is what follows the last of these marks.
            temperature: above 0, texts are drawn (see eval.sampling) instead of written greedily.
            seed: of the draws.

        Raises:
            ModelError: there is no stop id, or a label does not fit into ``max_new_tokens``.
        """
        if not stop_ids:
            raise ModelError(
                "generative predictor: no stop id; give the id that ends a turn in the template"
            )
        for label in labels or ():
            needed = len(tokenizer.encode(label, add_special_tokens=False)) + 1
            if needed > max_new_tokens:
                raise ModelError(
                    f"generative predictor: label {label!r} and its stop take {needed} tokens; "
                    f"raise max_new_tokens from {max_new_tokens}"
                )
        self.model, self.tokenizer = model, tokenizer
        self.labels = None if labels is None else frozenset(labels)
        self.answer_after = answer_after
        self.stop_ids, self.pad_id = tuple(stop_ids), pad_id
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.temperature, self.seed = temperature, seed

    def predict(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Prediction]], None] | None = None,
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``prompt_ids`` and ``label``.

        Raises:
            DataError: a prompt is empty or leaves no room for the answer.
        """
        limit = context_of(self.model)
        for row in rows:
            check_length(row["example_id"], len(row["prompt_ids"]), limit, self.max_new_tokens)
        with judged_model(self.model), plain_generation(self.model):
            return ask_in_batches(
                rows,
                [len(row["prompt_ids"]) for row in rows],
                self.batch_size,
                self._generate,
                self._prediction,
                on_progress=on_progress,
                on_done=on_done,
            )

    def parse(self, ids: Sequence[int]) -> tuple[str | None, str, int]:
        """Label or None, text as written, and tokens with the stop token counted."""
        for position, token in enumerate(ids):
            if token in self.stop_ids:
                text = self._decode(ids[:position])
                return self._label(text), text, position + 1
        return None, self._decode(ids), len(ids)

    def _label(self, text: str) -> str | None:
        if self.labels is None:
            return normalised_answer(final_answer(text, self.answer_after)) or None
        label = text.strip()
        return label if label in self.labels else None

    def _gold(self, row: Row) -> str:
        gold: str = row["label"]
        if self.labels is None:
            return normalised_answer(final_answer(gold, self.answer_after))
        return gold

    def _decode(self, ids: Sequence[int]) -> str:
        # Special tokens stay: markup in the middle of an answer is no part of a label.
        return self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    def _prediction(self, row: Row, ids: Sequence[int], seconds: float) -> Prediction:
        label, text, tokens = self.parse(ids)
        return Prediction(
            example_id=row["example_id"],
            gold=self._gold(row),
            label=label,
            scores=None,
            raw_text=text,
            latency_s=seconds,
            prompt_tokens=len(row["prompt_ids"]),
            output_tokens=tokens,
        )

    def _generate(self, rows: Sequence[Row]) -> list[list[int]]:
        names = [row["example_id"] for row in rows]
        drawn = drawing(names, self.temperature, self.seed) if self.temperature > 0 else []
        return written(
            self.model,
            [row["prompt_ids"] for row in rows],
            stops=self.stop_ids,
            pad_id=self.pad_id,
            max_new_tokens=self.max_new_tokens,
            processors=drawn,
        )
