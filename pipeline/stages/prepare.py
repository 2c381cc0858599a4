"""Stage `prepare`: sources -> rows -> splits -> contamination gate -> token ids.

Three passes over disk, flat in memory: rows are read, cleaned and shelved (`gathering`); what
becomes of each is decided over all of them (`selection`, `judged`); what is kept is rendered
and written (`examples`, `writing`). The funnel adds up, or the stage fails.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data import selection
from pipeline.data.cleaning import describe
from pipeline.data.executor import Executor, InProcess, executor
from pipeline.data.funnel import require_sum
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.judged import items_of
from pipeline.data.ledger import Account
from pipeline.data.origins import source_chunks
from pipeline.data.rows import Chunk
from pipeline.data.selection import KEPT, Verdicts
from pipeline.data.writing import Writing
from pipeline.stages.prepare_choices import (
    decide,
    label_set,
    require_sound_labels,
    tell,
    write_findings,
)
from pipeline.stages.prepare_desk import Desk, grouping, write_json
from pipeline.stages.prepare_ids import render


class Prepare:
    """Writes the splits' Arrow files, what was left out and why, and what rendering needs."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: tokenizer (Model), fetched sources, ``ancestorN``, ``suite.NAME``, ``replay``."""
        work = context.work / "shelves"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            return Preparation(inputs, config, context, work).run()
        finally:
            shutil.rmtree(work, ignore_errors=True)


class Preparation:
    """One `prepare` from sources to facts."""

    def __init__(
        self,
        inputs: Mapping[str, Artifact],
        config: Mapping[str, Any],
        context: StageContext,
        work: Path,
    ) -> None:
        self.desk = Desk(inputs, config, context, work)
        self.config, self.context = config, context
        self.told: list[dict[str, Any]] = []

    def run(self) -> Mapping[str, Any]:
        """All passes; facts for the manifest."""
        desk = self.desk
        with contextlib.closing(desk):
            with executor(desk.workers) as pool:
                self._gather(pool)
                balance = decide(desk, pool) if "train" in desk.shelves else {}
                below = desk.judged.judge_ancestors(self._below(), pool, items=desk.judged.own)
            labels = label_set(desk)
            writing = render(desk, labels)
        require_sum(desk.funnels)
        write_json(self.context.out / "labels.json", labels)
        write_findings(desk)
        return self._facts(writing, labels, balance, below)

    def rehearse(self) -> None:
        """Reads and checks the rows, and makes nothing of them."""
        with contextlib.closing(self.desk):
            self._gather(InProcess())
            require_sound_labels(self.desk)
            label_set(self.desk)

    def _facts(
        self, writing: Writing, labels: list[str], balance: Any, below: dict[str, int]
    ) -> dict[str, Any]:
        desk = self.desk
        funnels = {n: f for n, f in desk.funnels.items() if f.read or f.received}
        return {
            "read": {name: funnel.read for name, funnel in funnels.items()},
            "kept": {name: funnel.kept for name, funnel in funnels.items()},
            "contaminated": sum(f.lost["contaminated"] for f in funnels.values()),
            "over_length": desk.dropped.counts["over-length"],
            "funnel": {name: funnel.to_json() for name, funnel in funnels.items()},
            "examples": {name: tally.to_json() for name, tally in writing.tallies.items()},
            "packing": writing.packing,
            "labels": len(labels),
            "balance": balance,
            **({} if desk.thinned is None else {"thinned": desk.thinned}),
            "cleaning": describe(self.config["clean"]),
            "sources": self.told,
            "contamination": {
                "policy": self.config["contamination"],
                "checked": dict(desk.judged.checked),
                "hits": desk.judged.found,
                "ancestors": below,
                "not_checkable": list(self.config["not_checkable"]),
            },
        }

    def _gather(self, pool: Executor) -> None:
        """Reads what is judged first: every row after it is compared with it."""
        desk = self.desk
        self._add_other_sets()
        for name in ("test", "validation", "train"):
            given = self.config["sources"].get(name)
            if given is None:
                continue
            sources = given if isinstance(given, list) else [given]
            index = None if name == "test" else desk.judged.index()
            self._gather_split(name, sources, index, pool)
            if name != "train":
                tell(desk, name)
                live = desk.verdicts[name].live
                items = desk.shelves[name].items(name, live)
                desk.judged.add(items, own=name == "test")

    def _add_other_sets(self) -> None:
        """Suites of the recipe, and the test sets of everything below it."""
        suites = {r.removeprefix("suite."): a.path for r, a in self.desk.inputs.items()
                  if r.startswith("suite.")}  # fmt: skip
        self.desk.judged.add(items_of(suites), own=True)
        # A suite that is judged here too is compared with once, as the recipe's own.
        below = {n: p for n, p in self._suites_below().items() if p not in suites.values()}
        self.desk.judged.add(items_of({**self._below(), **below}), own=False)

    def _below(self) -> dict[str, Path]:
        """Prepared Datasets of ancestors, each path once, by the recipe's name."""
        found: dict[str, Path] = {}
        for role in sorted(self.desk.inputs):
            if role.startswith(("ancestor", "replay")):
                artifact = self.desk.inputs[role]
                name = str(artifact.manifest.run.get("node", role)).partition("/")[0]
                if artifact.path not in found.values():
                    found[name if name not in found else f"{name} ({role})"] = artifact.path
        return found

    def _suites_below(self) -> dict[str, Path]:
        """What ancestors are judged by beside their test rows, each path once."""
        found: dict[str, Path] = {}
        for role in sorted(self.desk.inputs):
            if role.startswith("below"):
                artifact = self.desk.inputs[role]
                name = f"{role.partition('.suite.')[2]} ({role.partition('.')[0]})"
                if artifact.path not in found.values():
                    found[name] = artifact.path
        return found

    def _gather_split(
        self, name: str, sources: list[Mapping[str, Any]], index: Path | None, pool: Executor
    ) -> None:
        account = Account(name, self.desk.quarantine, self.desk.dropped)
        plans = [self._plan(name, source, index) for source in sources]
        chunks = (
            (plan, self._chunks(name, number, source, plan))
            for number, (plan, source) in enumerate(zip(plans, sources, strict=True))
        )
        shelf = gather(
            chunks,
            self.desk.work / f"{name}.arrow",
            pool,
            account,
            self.config["max_quarantined"],
            lambda rows: self.context.progress({"step": rows, "total": None}),
        )
        funnel = self.desk.funnels[name]
        funnel.read = account.read
        funnel.lose("quarantined", account.quarantined)
        funnel.lose("cleaned", account.cleaned)
        funnel.details.update(account.details)
        repeated = int(shelf.again.sum())
        if repeated:
            funnel.details["ids that stood twice, made unique"] = repeated
        verdicts = Verdicts(np.full(len(shelf), KEPT, np.int16))
        self.desk.shelves[name], self.desk.verdicts[name] = shelf, verdicts
        for number, figures in enumerate(account.sources):
            file = self.context.files.get(_role(name, number))
            named = {"name": file.name} if file is not None else {}
            self.told.append({"split": name, **named, **_origin(sources[number]), **figures})
        selection.take_fractions(shelf, verdicts, sources, joined=self.desk.joined)
        hit = self.desk.judged.judge(shelf, account.hits, self.desk.judged.items, name)
        verdicts.drop(hit[verdicts.code[hit] == KEPT], "contaminated")

    def _plan(self, name: str, source: Mapping[str, Any], index: Path | None) -> SourcePlan:
        carves = [self.config[key] for key in ("carve", "carve_test") if self.config[key]]
        train = name == "train"

        def column(key: str) -> str | None:
            # Rows that were made are never carved: they need no column to go by.
            if not train or source.get("made"):
                return None
            return next((c[key] for c in carves if c[key] is not None), None)

        return SourcePlan(
            where=f"data.{name}",
            form=source["format"],
            columns=dict(source.get("columns") or {}),
            prompt=source.get("prompt"),
            group=column("by"),
            time=column("time"),
            # What is only judged stays as it is: nobody cleans what a served model is asked.
            clean=self.config["clean"] if train else None,
            judged=index,
            features=self.config["features"],
            # Of items that share a document or a phrase intervals must know.
            grouped=grouping(self.config),
        )

    def _chunks(
        self, name: str, number: int, source: Mapping[str, Any], plan: SourcePlan
    ) -> Iterable[Chunk]:
        role = _role(name, number)
        fetched = self.desk.inputs[role].path if role in self.desk.inputs else None
        return source_chunks(source, self.context.files.get(role), fetched, plan.where)


def rehearse_rows(config: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """Reads the rows of a `prepare` whose sources all lie here, before anything is written.

    Raises:
        DataError: what would stop the stage: unreadable rows, labels that do not fit.
    """
    with tempfile.TemporaryDirectory(prefix="gradus-rehearsal-") as folder:
        out, work = Path(folder) / "out", Path(folder) / "work"
        out.mkdir()
        work.mkdir()
        context = StageContext(out, work, {}, files, lambda _event: None)
        Preparation({}, {**config, "clean": None}, context, work).rehearse()


def _role(split: str, number: int) -> str:
    """The input or file that holds a source."""
    return f"train{number}" if split == "train" else split


def _origin(source: Mapping[str, Any]) -> dict[str, Any]:
    """Where rows came from and under which licence, for the lineage."""
    names = ("repo", "url", "generator", "part", "licence", "origin", "format", "weight", "columns")
    return {name: source[name] for name in names if source.get(name)}
