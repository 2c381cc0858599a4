"""`gradus compare A B`: two models of the store, or two folders of `gradus eval`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from eval.answered import METRICS, read_answered
from eval.conclusions import SHOWN, not_shown
from eval.record import Kind, Prediction, read_predictions, tables_in
from eval.side_by_side import RIGHT_OR_WRONG, Side, side_by_side
from eval.significance import holm
from pipeline.core.artifact import Artifact
from pipeline.core.errors import UserError
from pipeline.core.store import Store
from pipeline.core.terminal import visible
from pipeline.eval_plan import named_model, offered_of


@dataclass(frozen=True)
class _Answers:
    """All that one of the two has answered.

    Attributes:
        arm: the one way of asking that was named, or None.
        sides: suite to arm to what was answered, the first arm being the main one.
    """

    name: str
    arm: str | None
    kinds: Mapping[str, Kind]
    sides: Mapping[str, Mapping[str, Side]]


def compare(a: str, b: str, *, suite: str | None, as_json: bool) -> int:
    """Prints how two models differ on the items that both were asked.

    Raises:
        UserError: there is nothing to compare; IntegrityError: the items are not the same.
    """
    store = Store()
    one, other = _answers(store, a), _answers(store, b)
    found = [
        side_by_side(one.sides[name][arm_a], other.sides[name][arm_b], name)
        for name in _shared(one, other, suite)
        for arm_a, arm_b in _pairs(one, other, name)
    ]
    _among_all(found)
    if as_json:
        click.echo(json.dumps({"a": one.name, "b": other.name, "pairs": found}))
    else:
        for pair in found:
            _print(pair)
    return 0


def _among_all(pairs: Sequence[dict[str, Any]]) -> None:
    """Allows for all comparisons that are told at once: adds ``holm_p``, and says what falls."""
    adjusted = holm([pair["p"] for pair in pairs])
    for pair, holm_p in zip(pairs, adjusted, strict=True):
        pair["holm_p"] = holm_p
        if pair["p"] < SHOWN <= holm_p:
            # No sentence says that a model is better and that this is not shown.
            words = pair["words"].replace("is right more often", "looks right more often", 1)
            pair["words"] = f"{words}; {not_shown(len(pairs))}"


def _answers(store: Store, target: str) -> _Answers:
    name, at, arm = target.partition("@")
    if at and not arm:
        raise UserError(f"{target}: names no arm behind the @; leave the @ out, or name one")
    chosen = arm or None
    if store.model(name) is None and (Path(name) / METRICS).is_file():
        return _of_folder(Path(name), chosen)
    if store.model(name) is None and Path(name).is_dir():
        raise UserError(f"{name}: is no folder of `gradus eval` (no {METRICS} in it)")
    return _of_model(store, name, chosen)


def _of_folder(folder: Path, arm: str | None) -> _Answers:
    answered = read_answered(folder)
    sides: dict[str, dict[str, Side]] = {}
    for table in answered.tables:
        title = f"{answered.name} ({table.arm})"
        rows, groups = {0: table.predictions}, table.groups
        side = Side(
            title, rows, known=False, groups=groups, labels=table.labels, limit=answered.limit,
            again=f"gradus eval {shlex.quote(answered.target)}" if answered.tells_limit else None,
        )  # fmt: skip
        sides.setdefault(table.suite, {})[table.arm] = side
    kinds = {table.suite: table.kind for table in answered.tables}
    return _Answers(answered.name, arm, kinds, _only(sides, arm, str(folder)))


def _of_model(store: Store, name: str, arm: str | None) -> _Answers:
    """Every seed of a model, as its recipe's report has them."""
    entry = named_model(store, name)
    report = store.get(entry["keys"]["report"]) if "report" in entry["keys"] else None
    if report is None:
        raise UserError(
            f"{name}: the store holds no whole report of it; run `gradus eval {entry['recipe']}` "
            "first, without --suite, --arms and --limit"
        )
    sides: dict[str, dict[str, Side]] = {}
    kinds: dict[str, Kind] = {}
    for index, about in enumerate(report.manifest.config["models"]):
        if about["name"] != name:
            continue
        artifact = store.need(report.manifest.inputs[f"model{index}"]["key"])
        told = _json(artifact, "kinds.json")
        groups = _json(artifact, "groups.json")
        for suite, of_arm, rows in _tables(artifact):
            kinds[suite] = told[suite]
            known = sides.setdefault(suite, {}).get(of_arm)
            seeds = {**(known.seeds if known is not None else {}), about["seed"]: rows}
            title = f"{name} ({of_arm})"
            labels = offered_of(store, artifact, suite) if kinds[suite] == "label" else None
            side = Side(
                title, seeds, groups=groups.get(suite, {}), labels=labels,
                again=f"gradus eval {shlex.quote(entry['recipe'])}",
            )  # fmt: skip
            sides[suite][of_arm] = side
    return _Answers(name, arm, kinds, _only(sides, arm, name))


def _tables(artifact: Artifact) -> list[tuple[str, str, list[Prediction]]]:
    """(suite, arm, answers) of one evaluation."""
    own = str(artifact.manifest.config["arm"])
    return [
        (suite, arm or own, read_predictions(path)) for suite, arm, path in tables_in(artifact.path)
    ]


def _json(artifact: Artifact, name: str) -> dict[str, Any]:
    path = artifact.path / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _only(
    sides: Mapping[str, Mapping[str, Side]], arm: str | None, name: str
) -> Mapping[str, Mapping[str, Side]]:
    if not sides:
        raise UserError(f"{name}: has answered no items; evaluate it on a suite with answers")
    if arm is None:
        return sides
    kept = {suite: {arm: arms[arm]} for suite, arms in sides.items() if arm in arms}
    if not kept:
        known = ", ".join(sorted({one for arms in sides.values() for one in arms}))
        raise UserError(f"{name}@{arm}: was not asked so; it has {known}")
    return kept


def _shared(one: _Answers, other: _Answers, suite: str | None) -> list[str]:
    """Suites that both were asked and whose answers are right or wrong."""
    both = [name for name in one.sides if name in other.sides]
    told = f"{one.name} has {', '.join(one.sides)}; {other.name} has {', '.join(other.sides)}"
    if suite is not None and suite not in both:
        raise UserError(f"--suite {suite}: not asked of both; {told}")
    if not both:
        raise UserError(f"no suite was asked of both: {told}; evaluate both on the same rows")
    wanted = [suite] if suite is not None else both
    fit = [
        name
        for name in wanted
        if one.kinds[name] in RIGHT_OR_WRONG and other.kinds[name] == one.kinds[name]
    ]
    if not fit:
        raise UserError(
            f"{', '.join(wanted)}: answers there are not right or wrong as a whole; their figures "
            "stand in both reports"
        )
    return fit


def _pairs(one: _Answers, other: _Answers, suite: str) -> list[tuple[str, str]]:
    """Arms laid side by side: named ones, else those that both have, else the first of each."""
    arms_a, arms_b = list(one.sides[suite]), list(other.sides[suite])
    if one.arm is not None or other.arm is not None:
        return [(a, b) for a in arms_a for b in arms_b]
    return [(arm, arm) for arm in arms_a if arm in arms_b] or [(arms_a[0], arms_b[0])]


def _print(pair: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    difference, right = pair["difference"], pair["right"]
    print(visible(f"suite {pair['suite']}, {pair['items']:,} items"))
    for side in ("a", "b"):
        figure = pair["accuracy"][side]
        ends = f"[{figure['low']:.3f}, {figure['high']:.3f}]"
        print(visible(f"  {pair[side]}: accuracy {figure['estimate']:.3f} {ends}"))
    ends = f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
    print(f"  difference {difference['estimate']:+.3f} {ends}, {difference['covers']}")
    print(
        f"  right: both {right['both']:,}, only the first {right['only_a']:,}, only the second "
        f"{right['only_b']:,}, neither {right['neither']:,}; McNemar p = {pair['mcnemar_p']:.3g}"
    )
    print(visible(f"  {pair['words']}"))
    if pair["apart"]:
        table = Table("item", "right answer", "first", "second", box=None, pad_edge=False)
        for row in pair["apart"]:
            cells = (row["example_id"], row["gold"], row["a"] or "-", row["b"] or "-")
            table.add_row(*(visible(str(cell)) for cell in cells))
        Console(width=None if sys.stdout.isatty() else 140, markup=False).print(table)
        left = right["only_a"] + right["only_b"] - len(pair["apart"])
        if left:
            print(f"  and {left:,} more items that one alone got right")
