"""The part of `prepare` that looks at all training rows at once: duplicates, labels, splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.schema_data import NearDuplicates
from pipeline.data import selection
from pipeline.data.augmentation import from_kept_rows
from pipeline.data.executor import Executor
from pipeline.data.formats import label_problems, require_told_apart
from pipeline.data.formats.tagging import OUTSIDE
from pipeline.data.gathering import labels_in, quarantine_limit
from pipeline.data.judged import find_in_shelf
from pipeline.data.origins import ROWS
from pipeline.data.rows import EXCERPT
from pipeline.data.selection import KEPT, REASON_OF, TEST, VALIDATION, Verdicts
from pipeline.data.shelf import Shelf
from pipeline.data.splits import hold_out
from pipeline.data.strata import single_labels, strata
from pipeline.data.thinning import flip, thin
from pipeline.stages.prepare_desk import SEVERAL_LABELS, Desk, write_json

_MOST_COMPARED = 200_000
_TOLD_AT_ONCE = 4096
_MUCH_MORE = 1.5
# Renders whose labels are a closed set, though a row may have several.
_CLOSED = ("classify", "tag")


def decide(desk: Desk, pool: Executor) -> dict[str, Any]:
    """Everything that needs all training rows at once."""
    shelf, verdicts, clean = desk.shelves["train"], desk.verdicts["train"], desk.config["clean"]
    require_sound_labels(desk)
    selection.exact_duplicates(shelf, verdicts, clean["duplicates"])
    group = _groups(desk, shelf, verdicts)
    for key, name, code in (
        ("carve_test", "test", TEST),
        ("carve", "validation", VALIDATION),
    ):
        if desk.config[key] is not None:
            _carve(desk, shelf, verdicts, group, desk.config[key], name, code)
        if key == "carve_test" and desk.config[key] is not None:
            _judge_carved_test(desk, shelf, verdicts, pool)
    # From here on only what is trained on is thinned out: what is held out stays as hard as it is.
    selection.mix(shelf, verdicts, desk.config["sources"]["train"])
    if clean["label_errors"] is not None and not desk.joined:
        selection.label_errors(shelf, verdicts, clean["label_errors"])
    _drop_orphans(desk, shelf, verdicts)
    balance = selection.class_balance(shelf, verdicts, clean["balance"], joined=desk.joined)
    if "thin" in desk.config:
        balance = _thinned(desk, shelf, verdicts) or balance
    tell(desk, "train")
    if verdicts.weights:
        write_json(desk.context.out / "class_weights.json", verdicts.weights)
    return balance


def _thinned(desk: Desk, shelf: Shelf, verdicts: Verdicts) -> dict[str, Any]:
    """Thins and flips what every other step has kept; the balance of what is left.

    Last, so that a share of all rows is the recipe's own training split, whatever was cleaned.
    """
    settings, balance = desk.config["thin"], desk.config["clean"]["balance"]
    if desk.joined:
        raise DataError(
            "data.train: evaluate.learning_curve thins rows by their one label, and these have "
            "several; leave the learning curve out"
        )
    counted = thin(shelf, verdicts, settings, _made(desk))
    _drop_orphans(desk, shelf, verdicts)
    desk.thinned = {**settings, **counted, "labels_flipped": flip(shelf, verdicts, settings)}
    # A cap of what was capped and thinned would be another one.
    return {} if balance["action"] == "cap" else selection.class_balance(shelf, verdicts, balance)


def require_sound_labels(desk: Desk) -> None:
    """Refuses labels that are one label written twice; quarantines classes of one row.

    Counted over all that was read: a later ``fraction`` may well leave one row of a class.
    """
    shelf, verdicts = desk.shelves.get("train"), desk.verdicts.get("train")
    if shelf is None or verdicts is None or not shelf.labels:
        return
    if desk.joined:
        if desk.config["render"] in _CLOSED:
            every = np.arange(len(shelf))
            _require_different(label_problems(single_labels(shelf, every)))
        return
    sizes = np.bincount(shelf.label[shelf.label >= 0], minlength=len(shelf.labels))
    problems = label_problems(dict(zip(shelf.labels, sizes.tolist(), strict=True)))
    _require_different(problems)
    single = np.flatnonzero(np.isin(shelf.label, np.flatnonzero(sizes == 1)))
    funnel = desk.funnels["train"]
    allowed = quarantine_limit(desk.config["max_quarantined"], funnel.read)
    if len(single) and funnel.lost["quarantined"] + len(single) > allowed:
        line = next(line for line in problems if " has one row" in line)
        raise DataError(
            f"data.train: row {shelf.names(single[:1])[0]}: {line} ({len(single)} such classes, "
            f"{allowed} rows may be quarantined: data.max_quarantined)"
        )
    for row in single.tolist():
        verdicts.because[row] = f"label {shelf.label_of(row)!r} has one row"
    verdicts.drop(single, "quarantined")


def _require_different(problems: Sequence[str]) -> None:
    twice = next((line for line in problems if " differ by " in line), None)
    if twice is not None:
        raise DataError(f"data.train: {twice}")


def _groups(desk: Desk, shelf: Shelf, verdicts: Verdicts) -> Any:
    """[N] rows that must stand on one side of a split: of one group, or copies of each other."""
    near = desk.config["clean"]["near_duplicates"]
    carved = desk.config["carve"] or desk.config["carve_test"]
    if near is None and carved and len(verdicts.live) <= _MOST_COMPARED:
        near = {**NearDuplicates().model_dump(), "action": "report"}
    elif near is None and carved:
        verdicts.details["rows not compared for near copies before the split"] = len(shelf)
    if near is None:
        return shelf.group
    return selection.near_duplicates(shelf, verdicts, shelf.group, near, desk.workers)


def _carve(
    desk: Desk,
    shelf: Shelf,
    verdicts: Verdicts,
    group: Any,
    carve: Mapping[str, Any],
    name: str,
    code: int,
) -> None:

    live = verdicts.live
    live = live[shelf.source[live] != _made(desk)]
    if not len(live):
        raise DataError(f"data.{name}: no rows are left to carve from; see dropped.jsonl")
    label, sets = strata(shelf, live) if desk.joined else (shelf.label[live], None)
    held = hold_out(
        f"data.{name}",
        carve["carve"],
        label=label,
        sets=sets,
        group=group[live],
        time=shelf.time[live] if carve["time"] is not None else None,
        seed=carve["seed"],
    )
    verdicts.code[live[held]] = code
    moved = int(held.sum())
    if moved > _MUCH_MORE * carve["carve"] * len(live) + 1:
        funnel = desk.funnels[name]
        funnel.details["rows more than asked, so that copies stay on one side"] = moved - round(
            carve["carve"] * len(live)
        )
    if carve["time"] is not None:
        # By time, copies may stand on both sides: the earlier one goes.
        copies = live[~held][np.isin(group[live[~held]], group[live[held]])]
        verdicts.drop(copies, "contaminated")
        for row in copies.tolist():
            verdicts.because[row] = f"a copy of it is held out for {name}"
    desk.funnels["train"].lose(f"to {name}", moved)
    desk.funnels[name].received = moved


def _made(desk: Desk) -> int:
    """The source whose rows were made by a model from the others, or -1."""
    sources = desk.config["sources"]["train"]
    return next((n for n, source in enumerate(sources) if source.get("made")), -1)


def _drop_orphans(desk: Desk, shelf: Shelf, verdicts: Verdicts) -> None:
    """Synthetic rows whose real rows training does not see: they would bring them back."""
    made = _made(desk)
    if made < 0:
        return
    folder = desk.inputs[f"train{made}"].path
    sound = from_kept_rows(folder / ROWS, shelf, verdicts.code == KEPT)
    rows = np.flatnonzero(shelf.source == made)
    orphans = rows[~sound[shelf.ordinal[rows]]]
    verdicts.drop(orphans[verdicts.code[orphans] == KEPT], "made from a held-out row")


def _judge_carved_test(desk: Desk, shelf: Shelf, verdicts: Verdicts, pool: Executor) -> None:
    """What was carved for the test is compared with the rest of train, like any test set."""
    items = shelf.items("test", np.flatnonzero(verdicts.code == TEST))
    desk.judged.add(items, own=True)
    index = desk.judged.index(items)
    if index is None:
        return
    for name, other in list(desk.shelves.items()):
        if name == "test":
            continue
        codes = desk.verdicts[name].code
        found = [hit for hit in find_in_shelf(index, other, pool) if codes[hit.row] == KEPT]
        hit = desk.judged.judge(other, found, items, name)
        desk.verdicts[name].drop(hit, "contaminated")
        if name != "train":
            _tell(desk, name, hit)


def tell(desk: Desk, name: str) -> None:
    """Counts and writes down every row of a split that was dropped."""
    verdicts, funnel = desk.verdicts[name], desk.funnels[name]
    for code, reason in REASON_OF.items():
        funnel.lose(reason, int((verdicts.code == code).sum()))
    funnel.details.update(verdicts.details)
    rows = np.flatnonzero(verdicts.code >= min(REASON_OF))
    for start in range(0, len(rows), _TOLD_AT_ONCE):
        _write_down(desk, name, rows[start : start + _TOLD_AT_ONCE])


def _tell(desk: Desk, name: str, rows: Any) -> None:
    """Counts and writes down rows of a split that was told already."""
    desk.funnels[name].lose("contaminated", len(rows))
    _write_down(desk, name, rows)


def _write_down(desk: Desk, name: str, rows: Any) -> None:
    shelf, verdicts = desk.shelves[name], desk.verdicts[name]
    texts, twins = shelf.texts(), verdicts.twin[rows]
    twin_names = iter(shelf.names(twins[twins >= 0]))
    for row, twin, row_id in zip(rows.tolist(), twins, shelf.names(rows), strict=True):
        reason = REASON_OF[int(verdicts.code[row])]
        entry = {"split": name, "id": row_id, "reason": reason,
                 "text": texts[row].as_py()[:EXCERPT]}  # fmt: skip
        copied = next(twin_names) if twin >= 0 else None
        if row in verdicts.because or copied is not None:
            entry["because"] = verdicts.because.get(row) or str(copied)
        if reason == "quarantined":
            entry["reason"] = entry.pop("because")
            desk.quarantine.add(entry, name)
        else:
            desk.dropped.add(entry, reason)


def label_set(desk: Desk) -> list[str]:
    """Sorted labels of train (of test where there is no train); others have no more.

    Of entities it is their tags: O, then B- and I- of each label. Rows with several labels each
    have open answers where they are written: no closed set to choose one from.

    Raises:
        DataError: a label that training never sees, or two that look the same.
    """
    render, joined = desk.config["render"], desk.joined
    if joined and render != "tag":
        _require_all_several(desk)
    if joined and render not in _CLOSED:
        return []
    used = {name: _used(shelf, desk.verdicts[name]) for name, shelf in desk.shelves.items()}
    if joined:
        used = {name: {code: _single(labels) for code, labels in codes.items()}
                for name, codes in used.items()}  # fmt: skip
    first = used.get("train", used.get("test", {}))
    known = first.get(KEPT, set())
    for name, codes in used.items():
        require_told_apart(known.union(*codes.values()), f"data.{name}")
    for name, codes in used.items():
        for labels in codes.values():
            unseen = sorted(labels - known)
            if unseen:
                more = f" ({len(unseen)} such labels)" if len(unseen) > 1 else ""
                raise DataError(
                    f"data.{name}: label {unseen[0]!r} is unseen in training{more}; "
                    "add training rows with it or remove its rows"
                )
    if joined and not known:
        raise DataError("data.train: no row has a label: there is nothing to learn; add rows")
    if render == "tag":
        return [OUTSIDE, *sorted(f"{prefix}-{label}" for prefix in "BI" for label in known)]
    return sorted(known)


def _single(joined: set[str]) -> set[str]:
    return {label for labels in joined for label in labels_in(labels)}


def _require_all_several(desk: Desk) -> None:
    """Refuses a mix of rows with one label and rows with several: neither check would hold."""
    for name, shelf in desk.shelves.items():
        several = desk.funnels[name].details[SEVERAL_LABELS]
        labelled = int((shelf.label >= 0).sum())
        if several != labelled:
            raise DataError(
                f"data.{name}: {several} rows have labels, and {labelled - several} have one "
                "label; write labels, a list, in every row"
            )


def _used(shelf: Shelf, verdicts: Verdicts) -> dict[int, set[str]]:
    found = {}
    for code in (KEPT, VALIDATION, TEST):
        used = np.unique(shelf.label[verdicts.code == code])
        found[code] = {shelf.labels[i] for i in used if i >= 0}
    return found


def write_findings(desk: Desk) -> None:
    """Writes findings.jsonl: conflicts of label and probable label errors."""
    lines = [
        json.dumps({k: v for k, v in found.items() if k != "indices"}, ensure_ascii=False)
        for verdicts in desk.verdicts.values()
        for found in verdicts.findings
    ]
    text = "".join(f"{line}\n" for line in lines)
    (desk.context.out / "findings.jsonl").write_text(text, encoding="utf-8")
