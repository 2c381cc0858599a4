"""Which characters of a rendered conversation are learned, and in how many rows.

A turn is learned from where the prompt that serving would make for it ends, to its end. So
the prompt's text must be the beginning of the row's text, and so must the conversation up to
the turn's end. Where a template rewrites earlier turns (Qwen3 drops their reasoning) or puts
something at the very end only (Phi-3), such a turn gets a row of its own, cut after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.data.rows import RowProblem

Message = dict[str, Any]
Render = Callable[[Sequence[Message], bool], str]
_EMPTY_BLOCK = re.compile(r"\s*<([A-Za-z][\w:-]*)>\s*</\1>\s*")
NO_PREFIX = (
    "the generation prompt is not a prefix of the rendered turn, so training would see ids that "
    "serving never makes; set data.chat_template_kwargs (e.g. enable_thinking) or "
    "data.chat_template"
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One learned turn, in characters of its row's text.

    Attributes:
        index: of its message.
        prompt: end of what serving would make.
        start: end of what the template adds to it by itself, where that is not learned.
        end: end of the turn, its end-of-turn token included.
    """

    index: int
    prompt: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Draft:
    """One row before it is tokenised.

    Attributes:
        text: the rendered conversation.
        turns: what is learned; None: every token.
        forced: places where ids are cut whatever the tokenizer would join across them.
    """

    text: str
    turns: tuple[Turn, ...] | None
    forced: frozenset[int] = field(default=frozenset())


def learned_turns(messages: Sequence[Message], loss_on: str) -> list[int]:
    """Indices of the assistant turns that are learned.

    A turn that says ``train: false`` (OpenAI's ``weight: 0``) is never among them.

    Args:
        loss_on: ``assistant``: all; ``last``: the last one; ``flag``: those that say
            ``train: true``, and where no turn of the conversation does, all.

    Raises:
        RowProblem: there is none.
    """
    turns = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not turns:
        raise RowProblem("no assistant turn to learn from")
    if loss_on == "last":
        turns = turns[-1:]
    elif loss_on == "flag" and any(message.get("train") is True for message in messages):
        turns = [i for i in turns if messages[i].get("train") is True]
        if not turns:
            raise RowProblem("no assistant turn with train: true")
    turns = [i for i in turns if messages[i].get("train") is not False]
    if not turns:
        which = "the last assistant turn says" if loss_on == "last" else "all assistant turns say"
        raise RowProblem(f"{which} train: false (or weight 0): nothing is left to learn")
    return turns


def drafts(
    render: Render,
    messages: Sequence[Message],
    learned: Sequence[int],
    apart: frozenset[int] = frozenset(),
) -> list[Draft]:
    """The rows of one conversation, in the order of their last turns.

    Args:
        render: (messages, with the generation prompt) to text.
        messages: the conversation; what follows the last learned turn plays no part.
        learned: indices of learned turns, one at least.
        apart: turns that share no row, because the tokenizer would join across their bounds.

    Raises:
        RowProblem: a turn whose prompt is no prefix of it, or that renders to nothing.
    """
    prompts = {index: render(messages[:index], True) for index in learned}
    ends = {index: render(messages[: index + 1], False) for index in learned}
    left, made = list(learned), []
    while left:
        last = left[-1]
        text = ends[last]
        turns, rest = [], []
        for index in left:
            alone = index != last and (index in apart or last in apart)
            prompt, end = prompts[index], ends[index]
            if not alone and text.startswith(prompt) and text.startswith(end):
                turns.append(_turn(messages[index], index, prompt, end))
            elif index == last:
                raise RowProblem(NO_PREFIX)
            else:
                rest.append(index)
        made.append(Draft(text, tuple(turns)))
        left = rest
    return made[::-1]


def _turn(message: Message, index: int, prompt: str, end: str) -> Turn:
    start = len(prompt)
    block = _EMPTY_BLOCK.match(end, start)
    if block is not None and not _own(message, block[1]):
        start = block.end()
    if start >= len(end):
        raise RowProblem("without supervised tokens: the assistant's turn renders to nothing")
    return Turn(index, len(prompt), start, len(end))


def _own(message: Message, tag: str) -> bool:
    """Whether the row itself opens with the block, so that the template did not supply it."""
    return str(message.get("content") or "").lstrip().startswith(f"<{tag}>")
