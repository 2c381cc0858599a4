"""Signs of preferences, conversations and exchanges among the columns of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import DataError
from pipeline.core.schema_data import Format
from pipeline.data.formats.chats import CHATS
from pipeline.data.formats.evidence import (
    Evidence,
    is_flag,
    is_label,
    is_text,
    is_turns,
    turns_with,
)

_PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("instruction", "output"),
    ("instruction", "response"), ("query", "response"), ("input", "output"), ("source", "target"),
)  # fmt: skip
_ASKS = ("question", "query", "problem")
_ANSWERS = ("answer", "answers", "response", "solution")
_CONTEXTS = ("context", "passage", "document")
_CHOICES = ("choices", "options", "endings")
_PICKS = ("answer", "answerKey", "answer_key", "answer_idx", "correct", "gold", "label", "target")
_VERDICTS = ("label", "kto_tag")


@dataclass(frozen=True, slots=True)
class Found:
    """A format, its columns (our field to theirs, where they differ), and notes."""

    form: Format
    columns: Mapping[str, str]
    notes: tuple[str, ...] = ()


def found(form: Format, columns: Mapping[str, str], *notes: str) -> Found:
    """The same, columns that keep their name left out."""
    renamed = {ours: theirs for ours, theirs in columns.items() if ours != theirs}
    return Found(form, renamed, notes)


def find_instructions(evidence: Evidence) -> Found | None:
    """Prompts with the instructions by which their answers are checked (IFEval's columns)."""
    names = evidence.mostly("instruction_id_list", lambda value: isinstance(value, list))
    return found("instructions", {}) if names and evidence.mostly("prompt", is_text) else None


def find_preference(evidence: Evidence, place: str) -> Found | None:
    """``chosen`` and ``rejected``, and where the prompt stands.

    Raises:
        DataError: two texts without a prompt.
    """
    if not all(evidence.mostly(name, _is_answer) for name in ("chosen", "rejected")):
        return None
    asked = evidence.first(("prompt", *CHATS), _is_prompt)
    if asked is None and not evidence.mostly("instruction", is_text):
        asked = evidence.first((*_ASKS, "input"), is_text)
        if asked is None and evidence.mostly("chosen", is_text):
            raise DataError(
                f"{place}: chosen and rejected are texts without a prompt "
                f"(found {_listed(evidence)}); name its column: columns: {{prompt: THEIR_NAME}}"
            )
        return found("preference", {"prompt": asked} if asked else {})
    return found("preference", {})


def find_turns(evidence: Evidence, place: str) -> Found | None:
    """Lists of turns, in a column of any name.

    Raises:
        DataError: several such columns, or turns of an unknown form.
    """
    if evidence.mostly("prompt", is_turns) and (
        evidence.first(("completion", "response"), _is_answer) is not None
    ):
        return found("prompt_completion", {}, *_verdict(evidence))
    openai, sharegpt = turns_with("role"), turns_with("from", "value")
    known = evidence.first(CHATS, lambda value: openai(value) or sharegpt(value))
    such = [name for name in evidence.names
            if evidence.mostly(name, lambda value: openai(value) or sharegpt(value))]  # fmt: skip
    if known is None and len(such) > 1:
        raise DataError(
            f"{place}: {', '.join(such[:6])} could each be the conversation; name one: "
            "columns: {messages: THEIR_NAME}"
        )
    name = known or (such[0] if such else None)
    if name is None:
        _refuse_unknown_turns(evidence, place)
        return None
    if evidence.mostly(name, sharegpt):
        return found("sharegpt", {"conversations": name}, *_verdict(evidence))
    if evidence.mostly(name, _ends_with_user) and evidence.mostly("label", is_label):
        return found("classification", {"messages": name})
    return found("messages", {"messages": name}, *_verdict(evidence))


def find_exchange(evidence: Evidence, place: str) -> Found | None:
    """Pairs of what is asked and what is answered; few short answers are classes instead."""
    return _choices(evidence) or _question(evidence) or _pair(evidence)


def _choices(evidence: Evidence) -> Found | None:
    asked = evidence.first((*_ASKS, "prompt", "sentence"), is_text)
    choices = evidence.first(_CHOICES, _is_choices)
    picked = evidence.first(_PICKS, is_label)
    if asked is None or choices is None or picked is None:
        return None
    columns = {"question": asked, "choices": choices, "answer": picked}
    return found("question_answer", {**columns, **_context(evidence)})


def _question(evidence: Evidence) -> Found | None:
    asked = evidence.first(_ASKS, is_text)
    answer = next((n for n in _ANSWERS if evidence.mostly(n, _is_answer_text)), None)
    if answer is None and evidence.mostly("answers", _is_squad):
        answer = "answers.text"
    if asked is None or answer is None:
        return None
    context = _context(evidence)
    # Without a context, few short answers are classes and not answers.
    if not context and answer in evidence.values and evidence.few(answer):
        return None
    return found("question_answer", {"question": asked, "answer": answer, **context})


def _pair(evidence: Evidence) -> Found | None:
    for asked, answer in _PAIRS:
        if not (evidence.mostly(asked, is_text) and evidence.mostly(answer, is_text)):
            continue
        extra = evidence.first(("input", "context"), is_text) if asked == "instruction" else None
        spoken = extra is not None and evidence.length(extra) > 0
        if evidence.few(answer) and not spoken:
            continue
        if asked == "instruction":
            columns = {"output": answer, **({"input": extra} if extra else {})}
            return found("alpaca", columns, *_verdict(evidence))
        columns = {"prompt": asked, "completion": answer}
        return found("prompt_completion", columns, *_verdict(evidence))
    return None


def _context(evidence: Evidence) -> dict[str, str]:
    name = evidence.first(_CONTEXTS, is_text)
    return {"context": name} if name else {}


def _verdict(evidence: Evidence) -> tuple[str, ...]:
    """KTO's column: it says whether the answer is good, and is no class of what was asked."""
    name = evidence.first(_VERDICTS, is_flag)
    if name is None:
        return ()
    return (
        f"{name} says whether an answer was liked (unpaired preference) and plays no part: "
        "answers marked false are learned too; leave them out of the file",
    )


def _refuse_unknown_turns(evidence: Evidence, place: str) -> None:
    name = evidence.first(CHATS, is_turns)
    if name is not None:
        value = next(value for value in evidence.values[name] if is_turns(value))
        raise DataError(
            f"{place}: {name}: turns have {', '.join(map(str, value[0]))[:60] or 'nothing'}; "
            "write them as role and content, or as from and value"
        )


def _is_squad(value: Any) -> bool:
    """SQuAD's answers: an object whose ``text`` is a list of texts."""
    return isinstance(value, dict) and isinstance(value.get("text"), str | list)


def _is_answer_text(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], str | int | float)
    return isinstance(value, str | int | float)


def _is_answer(value: Any) -> bool:
    return isinstance(value, str | dict) or is_turns(value)


def _is_prompt(value: Any) -> bool:
    return isinstance(value, str) or is_turns(value)


def _is_choices(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.get("text")
    return isinstance(value, list) and bool(value) and all(isinstance(c, str) for c in value)


def _ends_with_user(value: Any) -> bool:
    return is_turns(value) and isinstance(value[-1], dict) and value[-1].get("role") == "user"


def _listed(evidence: Evidence) -> str:
    return ", ".join(evidence.names)[:120] or "nothing"
