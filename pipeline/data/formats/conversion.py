"""The converter of a source: its columns, its format, its prompt, and what goes to ``meta``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.errors import DataError
from pipeline.data.formats.chats import messages_row, sharegpt_row
from pipeline.data.formats.exchanges import alpaca_row, prompt_completion_row, question_answer_row
from pipeline.data.formats.fields import Fields, plain
from pipeline.data.formats.instructions import instructions_row
from pipeline.data.formats.preference import preference_row
from pipeline.data.formats.regression import regression_row
from pipeline.data.formats.tagging import tagging_row
from pipeline.data.formats.texts import classification_row, text_row
from pipeline.data.rows import Row, RowProblem

FIELDS: Mapping[str, tuple[str, ...]] = {
    "text": ("text",),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "alpaca": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
    "classification": ("text", "label"),
    "preference": ("prompt", "chosen", "rejected"),
    "tagging": ("text", "entities"),
    "regression": ("text", "value"),
    "instructions": ("prompt", "instruction_id_list", "kwargs"),
}
"""The fields that a row of each format needs, for messages to the user."""

_FORMS: Mapping[str, Callable[[Fields, str | None], Row]] = {
    "text": text_row,
    "messages": messages_row,
    "sharegpt": sharegpt_row,
    "alpaca": alpaca_row,
    "prompt_completion": prompt_completion_row,
    "question_answer": question_answer_row,
    "classification": classification_row,
    "preference": preference_row,
    "tagging": tagging_row,
    "regression": regression_row,
    "instructions": instructions_row,
}
PROMPTED = frozenset(
    {"text", "alpaca", "prompt_completion", "question_answer", "classification", "regression"}
)
"""The formats in which a recipe's ``prompt`` has a user's turn to fill."""


@dataclass(frozen=True, slots=True)
class Converter:
    """Makes canonical rows; holds names only, so that it can be sent to a worker.

    Attributes:
        form: the format, as a recipe names it.
        columns: our field to their column; a dotted path looks inside objects.
        prompt: the user's turn with ``{field}`` placeholders, or None.
        keep: columns, by our names, that are copied to ``meta``; a row needs them.
        grouped: columns that tell which rows belong together: copied where a row has them.
    """

    form: str
    columns: Mapping[str, str]
    prompt: str | None
    keep: tuple[str, ...]
    grouped: tuple[str, ...] = ()

    def __call__(self, row: Row) -> Row:
        """The canonical row; ``id`` is there only where the row has one of its own.

        Raises:
            RowProblem: the row does not fit the format; the reason in a few words.
        """
        try:
            fields = Fields.of(row, self.columns)
            made = _FORMS[self.form](fields, self.prompt)
            kept = {name: plain(fields.need(name), name) for name in self.keep}
            kept |= {name: value for name in self.grouped if _names(value := fields.get(name))}
            meta = {**made.get("meta", {}), **kept}
            own = _own_id(fields)
        except RecursionError:
            raise RowProblem("nested too deeply") from None
        return {
            **({"id": own} if own is not None else {}),
            **made,
            **({"meta": meta} if meta else {}),
        }


def converter(
    form: str,
    *,
    columns: Mapping[str, str],
    prompt: str | None,
    keep: Sequence[str],
    grouped: Sequence[str] = (),
) -> Callable[[Row], Row]:
    """A picklable converter of one source's rows; see Converter.

    Raises:
        DataError: no such format, or a prompt for a format that has no turn to fill.
    """
    if form not in _FORMS:
        raise DataError(f"format: {form}: no such format; use one of {', '.join(_FORMS)}")
    if prompt is not None and form not in PROMPTED:
        raise DataError(
            f"prompt: format {form} has turns of its own; leave prompt out, or use it with one of "
            f"{', '.join(sorted(PROMPTED))}"
        )
    return Converter(form, dict(columns), prompt, tuple(keep), tuple(grouped))


def _names(value: object) -> bool:
    """Whether a value names a group; a list or a table names none."""
    return isinstance(value, str | int)


def _own_id(fields: Fields) -> str | None:
    value = fields.get("id")
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(plain(value, "id"))
    return text if text.strip() else None
