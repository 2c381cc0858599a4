"""The judged model in memory, and the ways in which risks ask it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.arms.rendered import Turn, turns_of
from eval.arms.scoring import score_pairs
from eval.batching import device_of, judged_model
from eval.generation import context_of, stop_ids, written_all
from eval.loaded import Loaded
from eval.record import Prediction
from eval.risks.suites import Suite
from eval.risks.voice import Voice
from pipeline.core.arms import ARMS
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.rendering import Renderer, renderer_of

if TYPE_CHECKING:
    from pipeline.modeling.heads import Classifier

WRITTEN_TOKENS = 48
"""The longest answer that is waited for."""
# What a template may put around an answer.
_MARKUP = 8
# Forms whose weights write an answer to whatever they are asked.
_WRITES = ("generate", "constrained", "likelihood", "text")


class Asked:
    """One model in one form."""

    def __init__(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> None:
        self.loaded = Loaded(inputs["root"], inputs.get("adapter"), config, context)
        self.arm: str = config["arm"]
        self.trained_on = inputs["data"].path if "data" in inputs else None
        self.model, self.tokenizer = self.loaded.model, self.loaded.tokenizer
        self.batch_size, self.pad_id = self.loaded.batch_size, self.loaded.pad_id
        self.context_tokens = context_of(self.model)

    @property
    def writes(self) -> bool:
        """Whether it answers any text with a text."""
        return self.arm in _WRITES and bool(self.model.can_generate())

    @property
    def continues(self) -> bool:
        """Whether it writes texts at all, be it a channel's."""
        return ARMS[self.arm].form != "discriminative" and bool(self.model.can_generate())

    def renderer(self, data: Path) -> Renderer:
        """By which the rows of a Dataset were prepared."""
        return renderer_of(data, self.tokenizer, causal=bool(self.model.can_generate()))

    def voice(self, data: Path) -> Voice | None:
        """The model as one that answers any text; None of a form that does not.

        Args:
            data: the Dataset by whose template and system text it is asked.
        """
        return _Spoken(self, self.renderer(data)) if self.writes else None

    def classifier(self) -> Classifier:
        """The model's head over its body."""
        from pipeline.modeling.heads import load_classifier

        return load_classifier(self.model, self.loaded.head).to(self.loaded.device)

    def answers(self, suite: Suite) -> list[Prediction]:
        """One answer to each row, in the form in which the model is judged."""
        _, found = self.loaded.answers(
            list(suite.rows),
            list(suite.labels),
            arm=self.arm,
            data=suite.folder,
            train=self.trained_on,
        )
        return found[self.arm]

    def room(self, suite: Suite) -> int:
        """Tokens that an answer to the suite's questions needs within the context."""
        if not self.continues:
            # A head writes nothing.
            return 0
        longest = max(
            (len(self.tokenizer.encode(one, add_special_tokens=False)) for one in suite.labels),
            default=0,
        )
        return max(int(self.loaded.config["max_new_tokens"]), longest + _MARKUP)

    def write(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[str]:
        """What it writes after each prompt, greedily, until its turn ends."""
        found = self._generate(prompts, tokens)
        return [self.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in found]

    def sample(self, prompts: Sequence[Sequence[int]], tokens: int, seed: int) -> list[list[int]]:
        """``tokens`` ids drawn after each prompt at temperature 1; a turn's end is not drawn."""
        import torch

        with torch.random.fork_rng(devices=_devices(self.model)):
            torch.manual_seed(seed)
            plain = {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
            return self._generate(prompts, tokens, do_sample=True, min_new_tokens=tokens, **plain)

    def score(self, turns: Sequence[Turn]) -> list[float]:
        """Log-probability of each answer after what is given, in nats.

        Summed over tokens, as the arm ``likelihood`` does; every pair is read by itself.
        """
        with judged_model(self.model):
            return score_pairs(self.model, turns, batch_size=self.batch_size, pad_id=self.pad_id)

    @property
    def stops(self) -> list[int]:
        """Tokens that end a turn, the tokenizer's own first."""
        own, stops = self.tokenizer.eos_token_id, stop_ids(self.model, self.tokenizer)
        return sorted(stops, key=lambda stop: stop != own) or [self.pad_id]

    def _generate(
        self, prompts: Sequence[Sequence[int]], tokens: int, **how: Any
    ) -> list[list[int]]:
        return written_all(
            self.model,
            prompts,
            stops=self.stops,
            pad_id=self.pad_id,
            max_new_tokens=tokens,
            batch_size=self.batch_size,
            **how,
        )


class _Spoken:
    """A model asked with its own template; see Voice."""

    def __init__(self, asked: Asked, renderer: Renderer) -> None:
        self._asked, self._renderer = asked, renderer

    def fits(self, question: str) -> bool:
        most = self._asked.context_tokens
        return most is None or len(self._renderer.question(question)) + WRITTEN_TOKENS <= most

    def write(self, questions: Sequence[str]) -> list[str]:
        return self._asked.write(self._ids(questions), WRITTEN_TOKENS)

    def score(
        self, questions: Sequence[str], choices: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        texts = [choice for mine in choices for choice in mine]
        pairs = zip(questions, choices, strict=True)
        asked = [self._renderer.messages(q, choice) for q, mine in pairs for choice in mine]
        if self._renderer.tokenizer.chat_template is None:
            turns = [self._plain(messages) for messages in asked]
        else:
            stops = self._asked.stops
            turns = turns_of(self._renderer, texts, asked, stops, "choices")
        values = iter(self._asked.score(turns))
        return [[next(values) for _ in mine] for mine in choices]

    def _plain(self, messages: Sequence[Mapping[str, Any]]) -> Turn:
        """A base without turns ends a text, not an answer."""
        question, choice = (str(message["content"]) for message in messages[-2:])
        ids = self._asked.tokenizer.encode(choice, add_special_tokens=False)
        return Turn(tuple(self._renderer.question(question)), (*ids, self._asked.stops[0]))

    def _ids(self, questions: Sequence[str]) -> list[list[int]]:
        return [self._renderer.question(question) for question in questions]


def _devices(model: Any) -> list[int]:
    device = device_of(model)
    return [device.index or 0] if device.type == "cuda" else []
