"""What of a canonical row is asked, and what is to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.core.errors import DataError
from pipeline.data.gathering import label_of
from pipeline.data.rendering import Renderer, thinks, without_thought
from pipeline.data.rows import Row, row_text


def answered(renderer: Renderer, row: Row, answer: str = "chosen") -> Row:
    """The row as a whole conversation that ends with the assistant.

    Args:
        answer: of two answers to one prompt, which.

    Raises:
        DataError: the row has no answer, or two.
    """
    if answer in row:
        return {**row, "messages": [*renderer.with_system(row["messages"]), row[answer]]}
    _require_answer(row)
    label = label_of(row)
    if "messages" in row:
        messages = renderer.with_system(row["messages"])
        if label is not None:
            # The label would stand nowhere: another answer has its place.
            require_unanswered(row)
            messages = [*messages, {"role": "assistant", "content": label}]
        return {**row, "messages": messages}
    return {"messages": renderer.messages(str(row["text"]), label)}


def written_for_label(renderer: Renderer, row: Row) -> Row:
    """The row turned round: its label is asked, and its text is the answer.

    Raises:
        DataError: the row has no label, or an answer already.
    """
    label = label_of(row)
    roles = [message["role"] for message in row.get("messages", ())]
    if label is None or "entities" in row or roles not in ([], ["user"]):
        raise DataError(
            f"data: row {row['id']}: objective channel needs format classification: one text with "
            "its label"
        )
    return {"messages": renderer.messages(label, row_text(row))}


def as_judged(row: Row, thinking: bool | None) -> Row:
    """A conversation to be judged: what is learned, and an unasked thought, play no part."""
    turns = [{k: v for k, v in m.items() if k != "train"} for m in row["messages"]]
    if thinking is False:
        turns[-1] = without_thought(turns[-1])
    return {**row, "messages": turns}


def gold(row: Row) -> str | None:
    """What is to be answered: the label, or the last turn; None where it is no text."""
    if "entities" in row or "value" in row:
        return None
    answer = label_of(row)
    if answer is not None:
        return answer
    if "chosen" in row:
        return str(row["chosen"].get("content") or "")
    return str(row["messages"][-1].get("content") or "") if "messages" in row else None


def require_unanswered(row: Row) -> None:
    """Refuses a conversation with a label that has an answer already."""
    messages = row.get("messages")
    if messages and messages[-1]["role"] == "assistant":
        raise DataError(
            f"data: row {row['id']}: format classification needs a question with one label, and "
            "this conversation ends with the assistant's answer; take that turn out, or read the "
            "rows as format messages"
        )


def require_no_thought(rows: Sequence[Row], whole: Sequence[Row]) -> None:
    """Refuses thoughts where the template asks for them and the recipe says nothing."""
    for row, conversation in zip(rows, whole, strict=True):
        turns = (m for m in conversation["messages"] if m["role"] == "assistant")
        if any(thinks(turn) for turn in turns):
            raise DataError(
                f"data.train: row {row['id']} holds thinking, and the chat template asks whether "
                "to think; set data.chat_template_kwargs: {enable_thinking: true}, so that "
                "training, every suite and serving do the same"
            )


def require(row: Row, what: str, objective: str, form: str) -> Any:
    """What an objective needs of every row.

    Raises:
        DataError: the row has none; its format is the remedy.
    """
    if what not in row:
        raise DataError(f"data: row {row['id']}: objective {objective} needs format {form}")
    return row[what]


def _require_answer(row: Row) -> None:
    form = "tagging" if "entities" in row else "regression" if "value" in row else "text"
    if form != "text" or ("messages" not in row and label_of(row) is None):
        raise DataError(
            f"data: row {row['id']}: format {form} has no answer; objective sft needs one"
        )
