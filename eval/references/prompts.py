"""What the base is asked when nobody has trained it: an instruction, some rows, the text.

Through the base's own chat template where it has one, each shown row a turn of user and
assistant; as plain text otherwise, where a line's end closes an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.references.task import Item, Task
from pipeline.core.errors import DataError
from pipeline.data.rendering import Renderer
from pipeline.data.rows import RowProblem


@dataclass(frozen=True)
class Words:
    """The fixed words of a prompt in one language."""

    choose: str
    choose_unlisted: str
    answer: str
    read: str
    text: str
    label: str
    question: str
    passage: str
    reply: str
    between: str


ENGLISH = Words(
    choose="Answer with exactly one of these labels and nothing else: {labels}.",
    choose_unlisted="Answer with the label of the text and nothing else.",
    answer="Answer the question. Write the answer and nothing else.",
    read="Answer the question from the passages. Write the answer and nothing else.",
    text="Text: ", label="Label:", question="Question: ", passage="Passage: ", reply="Answer:",
    between=", ",
)  # fmt: skip
CHINESE = Words(
    choose="只用下列标签中的一个回答，不写别的：{labels}。",
    choose_unlisted="只写文本的标签，不写别的。",
    answer="回答问题，只写答案。",
    read="根据资料回答问题，只写答案。",
    text="文本：", label="标签：", question="问题：", passage="资料：", reply="答案：",
    between="、",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One question with its answer; None: the one that is asked."""

    asked: str
    answer: str | None = None


class Asker:
    """Turns to ids with the base's tokenizer."""

    def __init__(self, tokenizer: Any, render: Mapping[str, Any], words: Words, reply: str) -> None:
        """Takes the tokenizer as `prepare` used it.

        Args:
            render: the Dataset's render.json: system text, arguments of the template.
            reply: what stands before an answer in plain text.
        """
        self.chats = tokenizer.chat_template is not None
        self.words, self._reply, self._tokenizer = words, reply, tokenizer
        self._renderer = Renderer(
            tokenizer,
            causal=True,
            system=render["system"] if self.chats else None,
            template_kwargs=render["chat_template_kwargs"],
        )

    def prompt(self, instruction: str, shown: Sequence[Turn], asked: str) -> list[int]:
        """Ids after which the answer is to be written.

        Raises:
            DataError: the template refuses the turns, or a text is not Unicode.
        """
        turns = [*shown, Turn(asked)]
        try:
            if not self.chats:
                return self._renderer.question(self._plain(instruction, turns))
            return self._renderer.prompt(self._messages(instruction, turns))
        except RowProblem as problem:
            raise DataError(f"{asked[:40]!r}: cannot be asked ({problem})") from None

    def answer_ids(self, answer: str) -> list[int]:
        """What is scored of an answer: its ids and what ends it.

        Raises:
            DataError: the template cannot hold the answer.
        """
        if not self.chats:
            found: list[int] = self._tokenizer.encode(f" {answer}\n", add_special_tokens=False)
            return found
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        try:
            made = self._renderer.conversation(messages, loss_on="last")[0]
        except RowProblem as problem:
            raise DataError(f"label {answer!r}: cannot be written ({problem})") from None
        ids = made.input_ids[made.prompt or 0 :]
        # The line break that a template writes after a turn's end is not the model's to write.
        ends = frozenset(self._tokenizer.all_special_ids)
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids) - 1)
        return ids[: end + 1]

    def stops(self, own: Sequence[int]) -> list[int]:
        """Ids that end an answer: the model's own, and what ends a turn, or a line of plain text.

        A base's own ends a document, and a turn of a chat often ends otherwise.
        """
        return sorted({*own, self.answer_ids("?")[-1]})

    def _messages(self, instruction: str, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        messages = []
        for number, turn in enumerate(turns):
            # In the first turn, not as system text: not every template takes one.
            opening = f"{instruction}\n\n" if number == 0 else ""
            messages.append({"role": "user", "content": opening + turn.asked})
            if turn.answer is not None:
                messages.append({"role": "assistant", "content": turn.answer})
        return messages

    def _plain(self, instruction: str, turns: Sequence[Turn]) -> str:
        parts = [instruction]
        for turn in turns:
            answer = "" if turn.answer is None else f" {turn.answer}"
            parts.append(f"{turn.asked}\n{self._reply}{answer}")
        return "\n\n".join(parts)


def drawn(task: Task, shots: int, seed: int) -> list[Item]:
    """Rows of train to be shown, in random order.

    A label comes a second time once all have come a first time, so that few rows tell much.

    Raises:
        DataError: train has no rows.
    """
    if not task.train:
        raise DataError(
            "reference few_shot: train has no rows with an answer that could be shown; give "
            "data.train such rows, or take it out of evaluate.references"
        )
    order = np.random.default_rng(seed).permutation(len(task.train))
    seen: dict[tuple[str, ...], int] = {}
    rank: list[tuple[int, int, int]] = []
    for index in order.tolist():
        labels = task.train[index].labels
        rank.append((seen.get(labels, 0), len(rank), index))
        seen[labels] = seen.get(labels, 0) + 1
    return [task.train[index] for _, _, index in sorted(rank)[:shots]]
