"""First pass of `prepare`: sources are read, brought to one form, cleaned and put on a shelf."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.features import columns_of, feature_values
from pipeline.data.contamination import Hit, RowTexts, row_texts
from pipeline.data.contamination_index import ContaminationIndex
from pipeline.data.executor import Executor
from pipeline.data.ledger import Account
from pipeline.data.rows import (
    EXCERPT,
    Chunk,
    Placed,
    Refused,
    Row,
    RowProblem,
    labels_of,
    row_text,
)
from pipeline.data.shelf import Shelf, ShelfWriter
from pipeline.data.shingles import letters_and_digits
from pipeline.data.sources.chunks import BROKEN_OFF

CANONICAL = "canonical"
_BETWEEN = ", "


@dataclass(frozen=True)
class SourcePlan:
    """How the rows of one source are brought to canonical form.

    Attributes:
        where: named in errors, e.g. ``data.train``.
        group, time: columns that a split needs, or None.
        clean: settings of the cleaning steps; None leaves texts as they are.
        judged: a folder with the texts of evaluation sets, or None: nothing to compare with.
        features: specifications of hand-made features; a row that lacks one is refused.
        grouped: columns that tell which rows belong together, kept where a row has them.
    """

    where: str
    form: str
    columns: Mapping[str, str]
    prompt: str | None
    group: str | None = None
    time: str | None = None
    clean: Mapping[str, Any] | None = None
    judged: Path | None = None
    features: Sequence[Mapping[str, Any]] = ()
    grouped: Sequence[str] = ()


@dataclass
class Gathered:
    """What one chunk came to: kept rows by column, and every other row with its reason."""

    read: int = 0
    rows: list[str] = field(default_factory=list)
    texts: list[RowTexts] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    ordinal: list[int] = field(default_factory=list)
    text_hash: list[int] = field(default_factory=list)
    row_hash: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    dropped: list[dict[str, Any]] = field(default_factory=list)
    details: Counter[str] = field(default_factory=Counter)
    hits: list[Hit] = field(default_factory=list)


@dataclass(frozen=True)
class GatherStep:
    """Chunk -> Gathered: pure and picklable; what is heavy is made once for each process."""

    plan: SourcePlan

    def __call__(self, chunk: Chunk) -> Gathered:
        """Reads, converts, cleans, hashes and compares the rows of one chunk."""
        convert, clean, index = _tools_of(self.plan)
        result = Gathered()
        for found in chunk.rows():
            number, result.read = result.read, result.read + 1
            if isinstance(found, Refused):
                excerpt = "" if self._private else found.excerpt
                result.refused.append(Refused(found.place, found.reason, excerpt))
                continue
            try:
                row = convert(found.row)
                label, (group, time) = label_of(row), self._extra(row)
            except RowProblem as problem:
                result.refused.append(Refused(found.place, str(problem), self._excerpt(found)))
                continue
            if clean is not None:
                cleaned = clean(row)
                result.details.update(f"changed: {name}" for name in cleaned.changed)
                result.details.update(f"found: {name}" for name in cleaned.found)
                if cleaned.row is None:
                    step = str(cleaned.dropped).partition(":")[0]
                    result.details[f"cleaned: {step}"] += 1
                    result.dropped.append(self._dropped(found, row, cleaned.dropped))
                    continue
                row = cleaned.row
            result.details.update(_noted(row))
            given = found.row.get(self.plan.columns.get("label", "label"))
            if isinstance(given, str) and given != given.strip() and "label" in row:
                result.details["labels with blanks around them, taken off"] += 1
            seen = row_texts({"id": "", **row})
            written = json.dumps(row, ensure_ascii=False)
            result.rows.append(written)
            result.ids.append(str(row.get("id", "")))
            result.texts.append(seen)
            result.labels.append(label)
            result.ordinal.append(number)
            result.text_hash.append(text_hash(seen.recognised[0]))
            result.row_hash.append(_row_hash(row, written))
            if group is not None:
                result.group.append(group)
            if self.plan.time is not None:
                result.time.append(time)
        if index is not None:
            result.hits = index.find(result.texts)
        return result

    @property
    def _private(self) -> bool:
        """Whether personal data is cleaned: then no text is written down that was not."""
        return bool(self.plan.clean and self.plan.clean["personal_data"])

    def _excerpt(self, found: Placed) -> str:
        if self._private:
            return ""
        return json.dumps(found.row, ensure_ascii=True, default=str)[:EXCERPT]

    def _dropped(self, found: Placed, row: Row, reason: str | None) -> dict[str, Any]:
        text = "" if self._private else row_text(row)[:EXCERPT]
        place = file_name(found.place)
        return {"place": place, "id": row.get("id"), "reason": f"cleaned: {reason}", "text": text}

    def _extra(self, row: Row) -> tuple[int | None, float]:
        plan, meta = self.plan, row.get("meta", {})
        for column in (plan.group, plan.time):
            if column is not None and meta.get(column) is None:
                raise RowProblem(f"no column {column!r}, by which the rows are split")
        try:
            feature_values(plan.features, "", meta)
        except ValueError as problem:
            raise RowProblem(f"data.features: {problem}") from None
        group = None if plan.group is None else _hash(str(meta[plan.group]))
        return group, 0.0 if plan.time is None else _seconds(meta[plan.time])


_MADE: dict[str, tuple[Any, Any, Any]] = {}


def _tools_of(plan: SourcePlan) -> tuple[Any, Any, Any]:
    """Converter, cleaner and index of a plan, once for each process."""
    from pipeline.data.cleaning import Cleaner
    from pipeline.data.formats import converter

    name = repr(plan)
    if name not in _MADE:
        _MADE.clear()
        keep = [column for column in (plan.group, plan.time) if column is not None]
        keep += [column for column in columns_of(plan.features) if column not in keep]
        _MADE[name] = (
            # Rows that a stage of ours made are canonical already.
            dict
            if plan.form == CANONICAL
            else converter(
                plan.form,
                columns=plan.columns,
                prompt=plan.prompt,
                keep=keep,
                grouped=plan.grouped,
            ),
            None if plan.clean is None else Cleaner(plan.clean),
            None if plan.judged is None else ContaminationIndex.load(plan.judged),
        )
    return _MADE[name]


def gather(
    sources: Iterable[tuple[SourcePlan, Iterable[Chunk]]],
    path: Path,
    executor: Executor,
    account: Account,
    max_quarantined: float,
    on_rows: Callable[[int], None] = lambda _rows: None,
) -> Shelf:
    """Puts the rows of several sources on one shelf, in their order.

    Args:
        path: the shelf's file.
        account: filled on the way.
        max_quarantined: refused rows of a source that are let pass: an int is a count, a float
            below 1 a share of the rows read.
        on_rows: told how many rows have been read so far.

    Raises:
        DataError: a source without rows, or with more refused ones than that.
    """
    writer = ShelfWriter(path)
    for number, (plan, chunks) in enumerate(sources):
        figures = {"read": 0, "quarantined": 0}
        account.sources.append(figures)
        first: Refused | None = None
        for found in executor.map(GatherStep(plan), chunks):
            _shelve(found, writer, account, number, figures["read"])
            first = first or next(iter(found.refused), None)
            _require_whole(plan, found.refused)
            figures["read"] += found.read
            figures["quarantined"] += len(found.refused)
            account.read += found.read
            on_rows(account.read)
        if not figures["read"]:
            raise DataError(f"{plan.where}: holds no rows; point it at a file with rows")
        if first is not None:
            _require_few(plan, figures, first, max_quarantined)
    return writer.close()


def _extra_columns(found: Gathered) -> dict[str, Any]:
    """Columns that only some splits need: nothing is kept for a million rows that nobody reads."""
    extra: dict[str, Any] = {}
    if found.group:
        extra["group"] = np.array(found.group, np.uint64)
    if found.time:
        extra["time"] = np.array(found.time, np.float64)
    return extra


def _shelve(
    found: Gathered, writer: ShelfWriter, account: Account, number: int, before: int
) -> None:
    start = sum(writer.shelf.sizes)
    if found.rows:
        writer.write(
            (
                found.rows,
                [seen.recognised[0] for seen in found.texts],
                [_turns(seen) for seen in found.texts],
                [seen.whole for seen in found.texts],
                found.ids,
            ),
            found.labels,
            {
                "ordinal": np.array(found.ordinal, np.int64) + before,
                "source": np.full(len(found.rows), number, np.int16),
                "text_hash": np.array(found.text_hash, np.uint64),
                "row_hash": np.array(found.row_hash, np.uint64),
                **_extra_columns(found),
                "id_hash": np.array([_hash(i) if i else 0 for i in found.ids], np.uint64),
            },
        )
    for refused in found.refused:
        place = file_name(refused.place)
        entry = {"split": account.split, "place": place, "reason": refused.reason}
        account.quarantine.add({**entry, "excerpt": refused.excerpt}, account.split)
    for entry in found.dropped:
        account.dropped.add({"split": account.split, **entry}, "cleaned")
    account.cleaned += len(found.dropped)
    account.details.update(found.details)
    account.hits += account.kept.keep(replace(hit, row=hit.row + start) for hit in found.hits)


def quarantine_limit(most: float, read: int) -> int:
    """Rows that may be refused: a count from 1 on, below it a share of the rows read."""
    return int(most) if isinstance(most, int) or most >= 1 else math.floor(most * read)


def _require_whole(plan: SourcePlan, refused: Iterable[Refused]) -> None:
    """Nobody knows how many rows a source has lost that breaks off: no share can allow it."""
    for one in refused:
        if one.reason.startswith(BROKEN_OFF):
            raise DataError(f"{plan.where}: {one.place}: {one.reason}; mend or replace the file")


def _require_few(plan: SourcePlan, figures: Mapping[str, int], first: Refused, most: float) -> None:
    refused, read = figures["quarantined"], figures["read"]
    allowed = quarantine_limit(most, read)
    if refused > allowed:
        raise DataError(
            f"{plan.where}: {first.place}: {first.reason} (read as {plan.form}, {refused} of "
            f"{read} rows refused, {allowed} allowed); mend the rows, set format or columns, "
            "or raise data.max_quarantined"
        )


def _turns(seen: RowTexts) -> str:
    more = seen.recognised[1:]
    return json.dumps(more, ensure_ascii=False) if more else ""


def _noted(row: Row) -> list[str]:
    """What of a row decides over the whole set."""
    found = ["rows with several labels"] if "labels" in row else []
    if "entities" in row and not row["entities"]:
        found.append("rows without an entity")
    if row.get("meta", {}).get("answers"):
        found.append("rows with several answers, the first is learned")
    thinks = any(
        m.get("reasoning_content") or "<think>" in str(m.get("content") or "")
        for m in row.get("messages", ())
        if m["role"] == "assistant"
    )
    return [*found, "rows with thinking"] if thinks else found


def label_of(row: Mapping[str, Any]) -> str | None:
    """The label as one text; several are joined, and so are those of entities.

    Raises:
        RowProblem: one of several labels holds what would separate them.
    """
    labels = labels_of(row)
    if labels is None:
        return None
    several = "entities" in row or row.get("labels") is not None
    if several and any(_BETWEEN in label for label in labels):
        raise RowProblem(f"a label holds {_BETWEEN!r}, which separates several")
    return _BETWEEN.join(labels)


def labels_in(joined: str) -> list[str]:
    """The labels that ``label_of`` joined."""
    return joined.split(_BETWEEN) if joined else []


def text_hash(text: str) -> int:
    """64 bits of a text after normalisation; a text without letters stands for itself."""
    return _hash(letters_and_digits(text) or text)


def _row_hash(row: Row, written: str) -> int:
    """64 bits of all that a row holds, its id apart; only equal rows are one row."""
    if "id" in row or "meta" in row:
        own = {name: value for name, value in row.items() if name not in {"id", "meta"}}
        written = json.dumps(own, ensure_ascii=False)
    return _hash(written)


def file_name(place: str) -> str:
    """A place without the folders above it: they are the machine's, not the data's."""
    return place.rpartition("/")[2]


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _seconds(value: Any) -> float:
    """A time as seconds: a number, or a date as ISO 8601 writes it."""
    try:
        # Of an integer beyond a float's range math.isfinite raises OverflowError.
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError):
        raise RowProblem(f"{str(value)[:40]!r} is no time (a number or an ISO date)") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
