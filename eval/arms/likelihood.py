"""Which label a model holds for likeliest, given the prompt: by sum, and by the mean token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from eval.arms.scoring import TrieScorer, reads_trees, rows_at_once, score_pairs
from eval.arms.trie import Answers, Trie, require_askable
from eval.batching import OnProgress, Row, ask_in_batches, judged_model
from eval.record import Prediction
from pipeline.core.errors import ModelError

Both = tuple[Prediction, Prediction]
# Of a sum of log-probabilities: what rounding may change, by precision.
_ROUNDING = {"torch.float32": 1e-4, "torch.float64": 1e-8}
_COARSE_ROUNDING = 3e-2
# Of the row on which both ways are compared: tokens of its prompt, and its longest labels.
_PROBE, _PROBED = 32, 6
# Tokens of an opening from which on it is read once for all.
_WORTH = 16


class LikelihoodPredictor:
    """Scores every label, its end of turn included, and normalises over the labels.

    Where the model's attention allows it, prompt and labels are read in one pass, and what all
    prompts open with once for all; this is proved on part of a row against pairs scored by
    themselves, and other models are given pairs.
    """

    def __init__(self, model: Any, answers: Answers, *, pad_id: int, batch_size: int) -> None:
        """Takes a transformers causal language model as it stands: device, dtype, adapters.

        Args:
            answers: label to the ids of its answer, end of turn included.
            pad_id: any id of the vocabulary.
            batch_size: rows (or pairs) at a time, at most.

        Raises:
            DataError: no labels, or labels that cannot be told apart.
        """
        self.model, self.answers = model, {label: tuple(ids) for label, ids in answers.items()}
        self.trie = Trie(self.answers)
        self.pad_id, self.batch_size = pad_id, batch_size
        self._scorer: TrieScorer | None = None
        self._proved = False
        self._shared = 0
        self.in_one_pass: bool | None = None
        """Whether labels share a pass; None before the first row was asked."""

    def predict(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Prediction]], None] | None = None,
    ) -> list[Prediction]:
        """Answers rows of ``example_id``, ``prompt_ids`` and ``label`` by the sum.

        Raises:
            DataError: a prompt is empty or leaves no room for the labels, or its label is unknown.
            ModelError: a score is no number; names the row.
        """
        done = None if on_done is None else lambda found: on_done([one for one, _ in found])
        both = self.predict_both(rows, on_progress=on_progress, on_done=done)
        return [by_sum for by_sum, _ in both]

    def predict_both(
        self,
        rows: Sequence[Row],
        *,
        on_progress: OnProgress | None = None,
        on_done: Callable[[list[Both]], None] | None = None,
    ) -> list[Both]:
        """Answers by the sum over a label's tokens, and by their mean, from the same pass.

        Raises:
            DataError: a prompt is empty or leaves no room for the labels, or its label is unknown.
            ModelError: a score is no number; names the row.
        """
        if not rows:
            return []
        room = max(self.trie.lengths)
        require_askable(self.model, rows, "prompt_ids", room, self.answers)
        with judged_model(self.model):
            nodes = len(self.trie.tokens)
            longest = max(len(row["prompt_ids"]) for row in rows)
            self.in_one_pass = self._passes(rows, longest + room)
            at_once = self.batch_size
            self._shared = 0
            if self._scorer is not None and self.in_one_pass:
                self._shared = shared_opening([row["prompt_ids"] for row in rows])
                self._scorer.opens_with(rows[0]["prompt_ids"][: self._shared])
                sight = (longest - self._shared + nodes) * (longest + nodes)
                at_once = rows_at_once(
                    self.model,
                    nodes + 1,
                    self.batch_size,
                    sight=sight,
                    remembered=longest + nodes if self._shared else 0,
                )
            return ask_in_batches(
                rows,
                [len(row["prompt_ids"]) for row in rows],
                at_once,
                self._scores,
                self._both,
                on_progress=on_progress,
                on_done=on_done,
            )

    def _passes(self, rows: Sequence[Row], longest: int) -> bool:
        if not reads_trees(self.model, longest):
            return False
        if self._scorer is None:
            self._scorer = TrieScorer(self.model, self.trie, pad_id=self.pad_id)
            self._proved = self._agrees(self._scorer, rows[0]["prompt_ids"][:_PROBE])
        return self._proved

    def _agrees(self, scorer: TrieScorer, prompt: Sequence[int]) -> bool:
        """Whether the one pass scores some labels as pairs do: first, last and the longest.

        Tables of architectures are never whole, so the model at hand is asked both ways.
        """
        lengths = self.trie.lengths
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        some = sorted({0, len(lengths) - 1, *order[:_PROBED]})
        answers = list(self.answers.values())
        apart = self._in_pairs(prompt, [answers[index] for index in some])
        half = len(prompt) // 2
        scorer.opens_with(prompt[:half])
        joined = scorer.scores([prompt[half:]])[0].tolist()
        allowed = _ROUNDING.get(str(self.model.dtype), _COARSE_ROUNDING)
        return all(
            math.isclose(joined[index], one, rel_tol=allowed, abs_tol=allowed)
            for index, one in zip(some, apart, strict=True)
            if math.isfinite(one)
        )

    def _scores(self, rows: Sequence[Row]) -> list[list[float]]:
        """Of each row, every label's log-probability in nats."""
        if self.in_one_pass and self._scorer is not None:
            prompts = [row["prompt_ids"][self._shared :] for row in rows]
            found: list[list[float]] = self._scorer.scores(prompts).tolist()
            return found
        answers = list(self.answers.values())
        return [self._in_pairs(row["prompt_ids"], answers) for row in rows]

    def _in_pairs(self, prompt: Sequence[int], answers: Sequence[Sequence[int]]) -> list[float]:
        pairs = [(prompt, answer) for answer in answers]
        return score_pairs(self.model, pairs, batch_size=self.batch_size, pad_id=self.pad_id)

    def _both(self, row: Row, sums: list[float], seconds: float) -> Both:
        labels = self.trie.labels
        require_numbers("likelihood", row, labels, sums)
        means = [one / length for one, length in zip(sums, self.trie.lengths, strict=True)]
        prompt = len(row["prompt_ids"])
        read = (
            prompt + len(self.trie.tokens)
            if self.in_one_pass
            else sum(prompt + length - 1 for length in self.trie.lengths)
        )
        by_sum, by_mean = (
            scored_prediction(row, labels, each, seconds=seconds, tokens=read)
            for each in (sums, means)
        )
        return by_sum, by_mean


def shared_opening(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts open with, at least one left to each; 0 where it is not worth it."""
    # What the first and the last in order share, all share.
    first, last = min(prompts, key=tuple), max(prompts, key=tuple)
    most = min(map(len, prompts)) - 1
    same = 0
    while same < most and first[same] == last[same]:
        same += 1
    return same if same >= _WORTH and len(prompts) > 1 else 0


def scored_prediction(
    row: Row,
    labels: Sequence[str],
    scores: Sequence[float],
    *,
    seconds: float,
    tokens: int,
    with_evidence: bool = False,
) -> Prediction:
    """The likeliest label, with the log-probabilities that scores in nats come to.

    Args:
        row: ``example_id`` and ``label``.
        scores: of each label, up to a constant.
        tokens: of its prompt and of what was weighed. What all items open with is read once and
            counted with each, as whoever sells answers counts it.
        with_evidence: the constant is of meaning: logsumexp of the scores is log P(x).
    """
    most = max(scores)
    whole = most + math.log(math.fsum(math.exp(score - most) for score in scores))
    return Prediction(
        example_id=row["example_id"],
        gold=row["label"],
        label=labels[scores.index(most)],
        scores={label: score - whole for label, score in zip(labels, scores, strict=True)},
        raw_text=None,
        latency_s=seconds,
        prompt_tokens=tokens,
        output_tokens=0,
        evidence=whole if with_evidence else None,
    )


def require_numbers(arm: str, row: Row, labels: Sequence[str], scores: Sequence[float]) -> None:
    """Refuses a score that is no finite number.

    Raises:
        ModelError: names the row and the label.
    """
    for label, score in zip(labels, scores, strict=True):
        if not math.isfinite(score):
            raise ModelError(
                f"{arm}: {row['example_id']}: the score of label {label!r} is {score}; "
                "look at the weights, or evaluate in float32"
            )
