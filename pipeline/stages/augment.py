"""Stage `augment`: synthetic training rows from real ones, through an OpenAI-compatible endpoint.

What it writes is one more source of training rows for `prepare`, which compares them with
every evaluation set as it does any other row.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext
from pipeline.data import selection
from pipeline.data.augmentation import (
    Ask,
    NotAsked,
    new_row,
    paraphrases,
    require_fillable,
    samples,
)
from pipeline.data.candidates import Sieve, taken_out
from pipeline.data.endpoint import RETRIES, TIMEOUT_S, Endpoint
from pipeline.data.executor import InProcess
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.journal import Answer, Journal
from pipeline.data.ledger import Account, Ledger
from pipeline.data.origins import ROWS, source_chunks
from pipeline.data.rows import EXCERPT, Chunk
from pipeline.data.selection import KEPT, Verdicts
from pipeline.data.shelf import Shelf
from pipeline.stages.prepare_desk import SEVERAL_LABELS

REJECTED = "rejected.jsonl"


class Augment:
    """Writes ``rows.jsonl`` (canonical rows) and ``rejected.jsonl`` (a reason each)."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs and files: the training sources, ``train0`` and on, as `prepare` has them.

        Config: ``sources`` (of data.train), ``augment`` (what decides the rows), ``clean`` (of
        the recipe, or None) and ``max_quarantined``. Options: ``concurrency``, ``api_key_env``
        (the environment variable with the key), ``timeout_s`` and ``retries`` of one request.

        Raises:
            DataError: rows that do not fit, an endpoint that is away or refuses, or no answer
                that could be used; what was answered stays in the work folder.
        """
        work = context.work / "shelves"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            return Augmentation(inputs, config, context, work).run()
        finally:
            shutil.rmtree(work, ignore_errors=True)


class Augmentation:
    """One `augment` from sources to facts."""

    def __init__(
        self,
        inputs: Mapping[str, Artifact],
        config: Mapping[str, Any],
        context: StageContext,
        work: Path,
    ) -> None:
        self.inputs, self.config, self.context, self.work = inputs, config, context, work
        self.settings: Mapping[str, Any] = config["augment"]
        self.kind = str(self.settings["kind"])
        self.endpoint = Endpoint(
            str(self.settings["endpoint"]),
            str(self.settings["model"]),
            _key(context.options.get("api_key_env")),
            retries=int(context.options.get("retries", RETRIES)),
            timeout_s=float(context.options.get("timeout_s", TIMEOUT_S)),
        )
        self.refused: Counter[str] = Counter()
        self.not_asked: Counter[str] = Counter()

    def run(self) -> Mapping[str, Any]:
        """Reads, asks, sifts and writes; facts for the manifest."""
        if self.kind == "sample":
            require_fillable(self.config["sources"])
        shelf = self._gather()
        asked, accepted = self._write(shelf, self._live(shelf))
        if not accepted:
            lost = (self.refused + self.not_asked).most_common(1)
            reason, count = lost[0] if lost else ("no row to ask about", 0)
            raise DataError(
                f"data.augment: no synthetic row came of {asked} requests to "
                f"{self.endpoint.model} at {self.endpoint.url} ({count}: {reason}); "
                "try another augment.model or kind, or leave data.augment out"
            )
        return {
            "read": len(shelf),
            "asked": asked,
            "accepted": accepted,
            "rejected": dict(sorted(self.refused.items())),
            "not_asked": dict(sorted(self.not_asked.items())),
            "model": self.endpoint.model,
            "endpoint": self.endpoint.url,
            "sources": [self._source(accepted)],
        }

    def _gather(self) -> Shelf:
        """Real training rows, numbered as `prepare` numbers them."""
        # `prepare` tells what was left out; here it only must not be asked about.
        quarantine, dropped = (Ledger(self.work / name) for name in ("quarantined", "dropped"))
        self.account = Account("train", quarantine, dropped)
        try:
            return gather(
                self._sources(),
                self.work / "train.arrow",
                InProcess(),
                self.account,
                self.config["max_quarantined"],
            )
        finally:
            quarantine.close()
            dropped.close()

    def _sources(self) -> Iterator[tuple[SourcePlan, Iterable[Chunk]]]:
        for number, source in enumerate(self.config["sources"]):
            role = f"train{number}"
            plan = SourcePlan(
                where="data.train",
                form=source["format"],
                columns=dict(source.get("columns") or {}),
                prompt=source.get("prompt"),
                # Personal data that the recipe takes out is not to be sent away first.
                clean=self.config.get("clean"),
            )
            fetched = self.inputs[role].path if role in self.inputs else None
            yield plan, source_chunks(source, self.context.files.get(role), fetched, plan.where)

    def _live(self, shelf: Shelf) -> Any:
        """[N] bool: rows that training takes from its sources; a copy is not paid for twice."""
        verdicts = Verdicts(np.full(len(shelf), KEPT, np.int16))
        joined = bool(self.account.details[SEVERAL_LABELS])
        selection.take_fractions(shelf, verdicts, self.config["sources"], joined=joined)
        selection.mix(shelf, verdicts, self.config["sources"])
        selection.exact_duplicates(shelf, verdicts, "drop")
        return verdicts.code == KEPT

    def _asks(self, shelf: Shelf, live: Any) -> Iterator[Ask | NotAsked]:
        if self.kind == "sample":
            return samples(shelf, live, self.settings)
        return paraphrases(shelf, live, self.settings, self.config["sources"])

    def _most(self, shelf: Shelf, live: Any) -> int:
        if self.kind == "sample":
            labels = np.unique(shelf.label[live & (shelf.label >= 0)])
            return len(labels) * int(self.settings["per_label"])
        return int(live.sum()) * int(self.settings["per_row"])

    def _write(self, shelf: Shelf, live: Any) -> tuple[int, int]:
        """Asks and sifts; returns requests that were answered, and rows that were written."""
        sieve, total = Sieve(shelf, self.kind), self._most(shelf, live)
        asked = accepted = 0
        concurrency = int(self.context.options.get("concurrency") or 1)
        with (
            Journal(self.context.work / "answers.jsonl") as journal,
            (self.context.out / ROWS).open("w", encoding="utf-8") as rows,
            contextlib.closing(Ledger(self.context.out / REJECTED)) as rejected,
        ):
            requests = self._requests(self._asks(shelf, live), rejected)
            for ask, answer in self.endpoint.answers(requests, journal, concurrency):
                asked += 1
                line = self._judged(sieve, ask, answer, rejected)
                if line is not None:
                    rows.write(line + "\n")
                    accepted += 1
                self.context.progress({"step": asked, "total": total})
        return asked, accepted

    def _requests(
        self, asks: Iterable[Ask | NotAsked], rejected: Ledger
    ) -> Iterator[tuple[Ask, dict[str, Any]]]:
        for ask in asks:
            if isinstance(ask, NotAsked):
                rejected.add({"id": ask.id, "reason": f"not asked: {ask.reason}"}, REJECTED)
                self.not_asked[ask.reason] += 1
                continue
            yield (
                ask,
                {
                    "messages": [{"role": "user", "content": ask.prompt}],
                    "temperature": self.settings["temperature"],
                    "max_tokens": self.settings["max_new_tokens"],
                    "seed": ask.seed,
                },
            )

    def _judged(self, sieve: Sieve, ask: Ask, answer: Answer, rejected: Ledger) -> str | None:
        """The row of an answer as a line, or None where it is refused."""
        text = taken_out(answer.text or "", ask.models[0] if ask.models else "")
        reason = answer.problem
        if reason is None:
            reason = sieve.refuse(ask, text, ask.own.replaced(text), answer.finish)
        if reason is None:
            return json.dumps(new_row(ask, text, self.kind), ensure_ascii=False)
        entry = {"id": ask.id, "reason": reason, "text": text[:EXCERPT]}
        rejected.add(entry, REJECTED)
        # What an endpoint says of one request names figures of it: counted without.
        self.refused[reason.partition(" (")[0]] += 1
        return None

    def _source(self, accepted: int) -> dict[str, Any]:
        licence = self.settings.get("licence")
        return {
            "split": "train",
            "origin": f"synthetic: {self.kind} by {self.endpoint.model}",
            "licence": licence or "not stated",
            "rows": accepted,
        }


def _key(name: Any) -> str | None:
    if not name:
        return None
    key = os.environ.get(str(name), "").strip()
    if not key:
        raise DataError(
            f"data.augment.api_key_env: {name} is not set in the environment; "
            f"export {name}=KEY, or leave api_key_env out"
        )
    return key
