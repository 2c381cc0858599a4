"""Arms of a served model that weigh every label: the likelihood of the label, and of the text.

Legend: x the text, y a label; log-probabilities in nats.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from eval.arms.joint import log_prior
from eval.arms.likelihood import scored_prediction
from eval.endpoint.client import Endpoint
from eval.endpoint.items import Asked, Item, Message
from eval.endpoint.scores import ANSWERS, IdScorer, MessageScorer, Pair, Score, Scorer, shared
from eval.record import Prediction


class _Weigher(ABC):
    """Asks for the scores of one pair for each label."""

    arm = ""

    def __init__(self, endpoint: Endpoint, asked: Asked) -> None:
        assert asked.labels is not None
        self.endpoint, self.asked, self.labels = endpoint, asked, asked.labels
        self._scorer: Scorer | None = None

    async def probe(self) -> str | None:
        """Why the endpoint cannot be asked in this form; None where it can.

        Exact ids come first: they are what the model was trained on.
        """
        pair = self.pairs(self.asked.items[0])[0]
        reasons = []
        for scorer in (IdScorer(self.endpoint), MessageScorer(self.endpoint, self.asked)):
            reason = await scorer.probe(pair)
            if reason is None:
                self._scorer = scorer
                return None
            reasons.append(reason)
        return "; ".join(reasons)

    async def answer(self, item: Item) -> dict[str, Prediction]:
        """One answer by arm."""
        assert self._scorer is not None
        who = f"suite {self.asked.suite}, row {item.example_id}"
        scores, seconds = await self._scorer.scores(self.pairs(item), who)
        return self.weigh(item, scores, seconds)

    @abstractmethod
    def pairs(self, item: Item) -> list[Pair]:
        """One for each label."""

    @abstractmethod
    def weigh(self, item: Item, scores: Sequence[Score], seconds: float) -> dict[str, Prediction]:
        """What the scores of all labels say."""

    def _prediction(
        self,
        item: Item,
        logs: Sequence[float],
        scores: Sequence[Score],
        seconds: float,
        **more: bool,
    ) -> Prediction:
        row = {"example_id": item.example_id, "label": item.gold}
        read = sum(score.read for score in scores)
        return scored_prediction(row, self.labels, logs, seconds=seconds, tokens=read, **more)


class Likelihood(_Weigher):
    """P(y | x): the label's tokens and its end of turn, summed; and by the way their mean."""

    arm = "likelihood"

    def __init__(self, endpoint: Endpoint, asked: Asked) -> None:
        super().__init__(endpoint, asked)
        self._answers = [
            rendered(asked.renderer, asked.items[0].messages, label) for label in self.labels
        ]

    def pairs(self, item: Item) -> list[Pair]:
        """The item's question, and each label as its answer."""
        return [
            Pair(item.messages, label, item.prompt_ids or (), ids, counted)
            for label, (ids, counted) in zip(self.labels, self._answers, strict=True)
        ]

    def weigh(self, item: Item, scores: Sequence[Score], seconds: float) -> dict[str, Prediction]:
        """By the sum, and as ``likelihood_mean`` by the mean over the tokens."""
        sums = [score.logprob for score in scores]
        means = [score.logprob / score.tokens for score in scores]
        return {
            "likelihood": self._prediction(item, sums, scores, seconds),
            "likelihood_mean": self._prediction(item, means, scores, seconds),
        }


class Joint(_Weigher):
    """P(x | y) P(y) of a channel model, which writes the text for a label; not length-normalised.

    The prior is that of the training rows, uniform where no rows are known. The sum over the
    labels is P(x): how much the text is one of those that the model knows.
    """

    arm = "joint"

    def __init__(self, endpoint: Endpoint, asked: Asked) -> None:
        super().__init__(endpoint, asked)
        self._questions: list[tuple[Message, ...]] = [
            ({"role": "user", "content": label},) for label in self.labels
        ]
        self._renderer = _without_system(asked)
        self._question_ids: list[tuple[int, ...]] = [
            () if self._renderer is None else tuple(self._renderer.prompt(list(question)))
            for question in self._questions
        ]
        self._prior = log_prior(self.labels, asked.prior)

    async def probe(self) -> str | None:
        """Why the endpoint cannot be asked in this form; None where it can."""
        if any(not item.text for item in self.asked.items):
            return (
                "the rows do not tell their text without the recipe's prompt around it; give the "
                "rows themselves: --data FILE"
            )
        return await super().probe()

    def pairs(self, item: Item) -> list[Pair]:
        """Each label as the question, and the item's text as the answer."""
        ids, counted = rendered(self._renderer, self._questions[0], item.text)
        return [
            Pair(question, item.text, question_ids, ids, counted)
            for question, question_ids in zip(self._questions, self._question_ids, strict=True)
        ]

    def weigh(self, item: Item, scores: Sequence[Score], seconds: float) -> dict[str, Prediction]:
        """By the joint probability; its sum is the evidence."""
        pairs = zip(self._prior, scores, strict=True)
        logs = [score.logprob + prior for prior, score in pairs]
        return {self.arm: self._prediction(item, logs, scores, seconds, with_evidence=True)}


def rendered(
    renderer: Any, messages: Sequence[Message], answer: str
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """The ids that an answer adds to its question, and which of them are its own.

    Ends with the end of its turn: a template may put more behind it (a line break), which is
    learned and which no engine ever writes. Nothing where there is no renderer.
    """
    if renderer is None:
        return (), ()
    one, other = (_added(renderer, messages, text)[0][::-1] for text in ANSWERS)
    behind = shared(one, other) - 1
    ids, counted = _added(renderer, messages, answer)
    own = slice(len(ids) - behind)
    return tuple(ids[own]), tuple(counted[own])


def _added(renderer: Any, messages: Sequence[Message], answer: str) -> tuple[list[int], list[bool]]:
    whole = [*messages, {"role": "assistant", "content": answer}]
    made = renderer.conversation(whole, loss_on="last")[0]
    return made.input_ids[made.prompt :], [bool(one) for one in made.supervised[made.prompt :]]


def _without_system(asked: Asked) -> Any:
    """A channel model is told the label and nothing else."""
    if asked.renderer is None:
        return None
    from pipeline.data.rendering import Renderer

    return Renderer(
        asked.renderer.tokenizer,
        causal=True,
        template_kwargs=asked.template_kwargs,
        controls=asked.renderer.controls,
    )
