"""What a served model is asked: conversations with their right answers, and the labels there are.

Rows of a file keep the ids that ``prepare`` would give them: answers of a served model and of
one in the store stand on the same items.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from eval.drawing import drawn
from pipeline.core.digest import canonical_json, file_digest, text_digest
from pipeline.core.errors import DataError

FORMS = (
    "classification", "question_answer", "prompt_completion", "alpaca", "messages", "sharegpt",
)  # fmt: skip
"""Formats whose rows end in one answer that can be written."""

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        example_id: names the item; the same that ``prepare`` gives the row.
        gold: the right answer as the row has it.
        messages: the conversation up to the answer.
        text: the row's own text, no prompt around it: what a channel model writes for a label.
            Empty where it is not known.
        prompt_ids: the question's ids as the recipe renders it; None where no recipe does.
        group: what it shares with others, such as a document or a phrase; None: it stands alone.
    """

    example_id: str
    gold: str
    messages: tuple[Message, ...]
    text: str
    prompt_ids: tuple[int, ...] | None = None
    group: str | None = None


@dataclass(frozen=True)
class Asked:
    """The items of one suite and what belongs to all of them.

    Attributes:
        identity: changes where the items' contents do.
        labels: the answers there are, sorted; None for open answers.
        template_kwargs: for the chat template, sent along.
        answer_after: an open answer is what follows the last of these marks.
        max_new_tokens: of a free answer, as the recipe says; None where none does.
        prior: label to its rows in train; None where no train is known.
        renderer: the recipe's, where the rows come from one; it makes exact ids.
        bins: of the calibration error, as the recipe says; None where none does.
        channel: whether the rows are a text for each label: only ``joint`` asks such.
    """

    suite: str
    identity: str
    items: tuple[Item, ...]
    labels: tuple[str, ...] | None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    answer_after: str | None = None
    max_new_tokens: int | None = None
    prior: Mapping[str, int] | None = None
    renderer: Any = None
    bins: int | None = None
    channel: bool = False

    @property
    def groups(self) -> dict[str, str]:
        """Items that share something with others; the rest stand alone."""
        return {item.example_id: item.group for item in self.items if item.group is not None}

    def limited(self, limit: int | None) -> Asked:
        """At most ``limit`` items, drawn; all where there is no limit."""
        return replace(self, items=tuple(drawn(self.items, limit)))


def asked_of_file(
    path: Path,
    *,
    suite: str,
    form: str | None = None,
    prompt: str | None = None,
    system: str | None = None,
    labels: Sequence[str] | None = None,
) -> Asked:
    """The rows of a file as questions.

    Args:
        form: their format; None: found from the first rows.
        prompt: the user's turn with ``{field}`` placeholders.
        labels: the answers there are; None: those of the rows themselves.

    Raises:
        DataError: no rows, rows without one answer, labels that are not among ``labels`` or look
            the same, or a prompt that puts nothing of a row into its question.
    """
    from pipeline.data.formats import require_told_apart
    from pipeline.data.rows import fields_of

    if prompt is not None and not fields_of(prompt):
        raise DataError(
            f"--prompt {prompt!r}: names no field of the rows, so all would be asked the same; "
            "write one in braces, such as {text}"
        )
    found, columns = form_of_file(path, form)
    if found not in FORMS:
        raise DataError(
            f"{path}: its rows are of format {found}, and an endpoint is asked rows of format "
            f"{', '.join(FORMS)}; name another file, or its --format"
        )
    with tempfile.TemporaryDirectory(prefix="gradus-eval-") as folder:
        rows = list(_canonical(path, found, columns, prompt, Path(folder)))
    items = tuple(_item(row, path, system) for row in rows)
    identity = text_digest(canonical_json([file_digest(path), found, prompt, system]))
    closed = found == "classification"
    if labels is not None and not closed:
        raise DataError(f"{path}: rows of format {found} have open answers; leave --labels out")
    if closed:
        golds = {item.gold for item in items}
        known = labels if labels is not None else sorted(golds)
        require_told_apart(golds.union(known), str(path))
        require_known(items, known, str(path))
        return Asked(suite, identity, items, tuple(known))
    return Asked(suite, identity, items, None)


def form_of_file(path: Path, form: str | None) -> tuple[str, dict[str, str]]:
    """The format that is named or that the first rows show, and the column of each field.

    Raises:
        DataError: no such file, no rows, or rows of no format.
    """
    from pipeline.data.detection import detect
    from pipeline.data.rows import Placed
    from pipeline.data.sources import peek

    _require_file(path)
    if form is not None:
        return form, {}
    first = list(peek(str(path), place="rows"))
    rows = [one.row for one in first if isinstance(one, Placed)]
    if not rows:
        why = f" ({first[0].place}: {first[0].reason})" if first else ""  # type: ignore[union-attr]
        raise DataError(f"{path}: holds no row that can be read{why}; give a file with rows")
    found = detect(rows, str(path))
    return found.form, dict(found.columns)


def read_labels(path: Path) -> list[str]:
    """A label a line, or a JSON list of them.

    Raises:
        DataError: it cannot be read, is empty, or names one twice or in two Unicode forms.
    """
    from pipeline.data.formats import require_told_apart

    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a label a line") from None
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: begins as a JSON list and is none ({error})") from None
    labels = [str(label).strip() for label in found if str(label).strip()]
    if not labels:
        raise DataError(f"{path}: holds no labels; give a label a line")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise DataError(f"{path}: names label {twice!r} twice; take one out")
    require_told_apart(labels, str(path))
    return sorted(labels)


def require_known(items: Sequence[Item], labels: Sequence[str], where: str) -> None:
    """Refuses rows whose right answer the model is never offered.

    Raises:
        DataError: names labels and the first row.
    """
    strange: dict[str, str] = {}
    for item in items:
        if item.gold not in labels:
            strange.setdefault(item.gold, item.example_id)
    if strange:
        named = ", ".join(repr(label) for label in list(strange)[:5])
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise DataError(
            f"{where}: row {next(iter(strange.values()))}: label {named}{more} is none of the "
            f"{len(labels)} labels of the model; mend the rows, or give --labels"
        )


def _require_file(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file; check --data")


def _canonical(
    path: Path, form: str, columns: Mapping[str, str], prompt: str | None, work: Path
) -> Iterator[Mapping[str, Any]]:
    """Canonical rows with the ids that ``prepare`` gives them."""
    from pipeline.data.detection import GROUPS
    from pipeline.data.executor import InProcess
    from pipeline.data.gathering import SourcePlan, gather
    from pipeline.data.ledger import Account, Ledger
    from pipeline.data.shelf import read_batch, row_name
    from pipeline.data.sources import read_chunks

    plan = SourcePlan(str(path), form, columns, prompt, grouped=GROUPS)
    with closing(Ledger(work / "q.jsonl")) as refused, closing(Ledger(work / "d.jsonl")) as lost:
        chunks = read_chunks(str(path), place="rows")
        account = Account("rows", refused, lost)
        shelf = gather([(plan, chunks)], work / "rows.arrow", InProcess(), account, sys.maxsize)
    if account.quarantined:
        # Every row is asked: one that cannot be read would be missing without a word.
        first = json.loads((work / "q.jsonl").read_text(encoding="utf-8").splitlines()[0])
        raise DataError(
            f"{path}: {first['place']}: {first['reason']} (read as {form}, {account.quarantined} "
            f"of {account.read} rows refused); mend the rows, take them out, or give --format"
        )
    for number, start in shelf.batches():
        for inner, row in enumerate(read_batch(shelf.path, number), start):
            own, again = str(row.get("id", "")), bool(shelf.again[inner])
            yield {**row, "id": row_name(own, 0, int(shelf.ordinal[inner]), again)}


def _item(row: Mapping[str, Any], path: Path, system: str | None) -> Item:
    from pipeline.data.detection import GROUPS
    from pipeline.data.rows import row_text

    name = str(row["id"])
    if "labels" in row:
        raise DataError(f"{path}: row {name}: has several labels; an endpoint is asked for one")
    messages = list(row.get("messages") or [{"role": "user", "content": str(row["text"])}])
    gold = row.get("label")
    if gold is None:
        if messages[-1]["role"] != "assistant":
            raise DataError(f"{path}: row {name}: ends without an answer; nothing can be judged")
        gold = str(messages.pop().get("content") or "")
    elif messages[-1]["role"] == "assistant":
        raise DataError(f"{path}: row {name}: holds an answer beside its label; take it out")
    if system is not None and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": system})
    sent = tuple({k: v for k, v in message.items() if k != "train"} for message in messages)
    meta = row.get("meta", {})
    group = next((str(meta[column]) for column in GROUPS if column in meta), None)
    return Item(name, str(gold), sent, row_text(row), group=group)
