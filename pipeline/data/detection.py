"""What rows nobody described look like: their format, and which column is which.

The majority decides, so that a set is known though some of its rows are broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.core.errors import DataError
from pipeline.core.schema_data import Format
from pipeline.data.formats.classes import find_classes, find_text
from pipeline.data.formats.conversion import FIELDS, converter
from pipeline.data.formats.evidence import Evidence
from pipeline.data.formats.fields import Fields
from pipeline.data.formats.shapes import (
    Found,
    find_exchange,
    find_instructions,
    find_preference,
    find_turns,
)
from pipeline.data.formats.targets import find_regression, find_tagging
from pipeline.data.rows import Row, RowProblem, labels_of

GROUPS = ("group", "group_id", "doc_id", "document_id", "conversation_id", "dialogue_id")
# A row without its group cannot be split by it: only what next to all rows have is offered.
_MOST_ROWS = 0.99

_DOCUMENT = {"text", "source_file"}


@dataclass(frozen=True)
class Detected:
    """What rows hold.

    Attributes:
        form: the format, as a recipe names it.
        columns: our field to their column, where the two differ.
        labels: label to rows of the sample, commonest first; empty where rows have none.
        by: a column whose rows belong together, or None.
        fit: rows of the sample that read as that format.
        seen: rows of the sample.
        notes: what a user should know of a column that plays no part; one line each.
    """

    form: Format
    columns: Mapping[str, str]
    labels: Mapping[str, int] = field(default_factory=dict)
    by: str | None = None
    fit: int = 0
    seen: int = 0
    notes: tuple[str, ...] = ()


def detect(sample: Sequence[Row], place: str, columns: Mapping[str, str] | None = None) -> Detected:
    """Finds the format of a sample of rows.

    Args:
        sample: rows as the source holds them.
        place: opens every error, e.g. ``data.train: rows.jsonl``.
        columns: what the recipe says already (our field: their column); it stays as it is.

    Raises:
        DataError: no format fits, or several columns could be the same field.
    """
    if not sample:
        raise DataError(f"{place}: holds no rows; point it at a file with rows")
    if not columns and all(row.keys() == _DOCUMENT for row in sample):
        # Documents of a folder: a file's name is no label, however few names there are.
        return Detected("text", {}, fit=len(sample), seen=len(sample))
    given = dict(columns or {})
    evidence = Evidence([Fields.of(row, given).ours for row in sample])
    found = (
        find_instructions(evidence)
        or find_preference(evidence, place)
        or find_tagging(evidence, place)
        or find_turns(evidence, place)
        or find_exchange(evidence, place)
        or find_regression(evidence)
        or find_classes(evidence, place, GROUPS)
        or find_text(evidence, place, GROUPS)
    )
    whole = [name for name in GROUPS if evidence.count(name) >= _MOST_ROWS * len(sample)]
    by = next((name for name in whole if evidence.repeats(name)), None)
    # What was found under our name is, in the source, under theirs.
    read = {ours: given.get(theirs, theirs) for ours, theirs in found.columns.items()}
    found = replace(found, columns={**given, **read})
    return _tried(found, sample, place, by)


def fitting_columns(
    columns: Mapping[str, str], sample: Sequence[Row], place: str
) -> dict[str, str]:
    """The recipe's columns without those that the rows have no need of.

    Own rows, put in the place of a hub data set, often carry our names already: then there
    is nothing to map.

    Raises:
        DataError: no row has the column, under either name.
    """
    found = {str(name) for row in sample for name in row}
    kept: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs in found or theirs.partition(".")[0] in found:
            kept[ours] = theirs
        elif ours not in found:
            raise DataError(
                f"{place}: columns: {ours}: {theirs!r} is no column of any row "
                f"(found {', '.join(sorted(found))[:120]}); name one of those"
            )
    return kept


def _tried(found: Found, sample: Sequence[Row], place: str, by: str | None) -> Detected:
    """What was found, tried on every row of the sample.

    Raises:
        DataError: not one row converts; the commonest reason is named.
    """
    convert = converter(found.form, columns=found.columns, prompt=None, keep=())
    labels: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in sample:
        try:
            made = convert(row)
        except RowProblem as problem:
            reasons[str(problem)] += 1
        else:
            labels.update(labels_of(made) or ())
    fit = len(sample) - reasons.total()
    if not fit:
        reason, count = reasons.most_common(1)[0]
        raise DataError(
            f"{place}: looks like format {found.form}, and none of {len(sample)} rows fits it "
            f"({count}: {reason}); mend the rows, or name format and columns "
            f"({', '.join(FIELDS[found.form])})"
        )
    commonest = dict(sorted(labels.items(), key=lambda item: (-item[1], item[0])))
    return Detected(found.form, found.columns, commonest, by, fit, len(sample), found.notes)
