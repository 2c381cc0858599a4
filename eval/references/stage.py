"""Stage `reference`: one rung that nobody trains, judged on the recipe's own test rows.

Its Report is laid out as that of stage `evaluate`, so a comparison reads both alike.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from eval.batching import OnProgress
from eval.costs import Cost, Meter
from eval.journal import Journal
from eval.record import Prediction, write_predictions
from eval.references.task import Item, OnDone, Task, read_task
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, ModelError
from pipeline.core.stage import StageContext
from pipeline.data.rendering import tokenizer_of

SUITE = "test"
_WORDS = ("tfidf_bayes", "tfidf_logreg")
_PROMPTED = ("zero_shot", "few_shot", "retrieved")


class Rung(Protocol):
    """A reference that is ready to answer."""

    @property
    def told(self) -> Mapping[str, Any]:
        """What was chosen for it, and how it is asked."""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where it computes."""

    def answers(
        self,
        items: Sequence[Item],
        on_progress: OnProgress | None = None,
        on_done: OnDone | None = None,
    ) -> list[Prediction]:
        """One answer for each item, in order; ``on_done`` is called after each batch."""


class Reference:
    """Fits or asks one rung, and writes its answers."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: ``data`` (Dataset with the recipe's rows); ``root`` (Model), the family's base,
        for `zero_shot`, `few_shot`, `retrieved` and, without ``encoder`` (Model), `nearest`.

        Files: ``chat_template`` as `prepare` had it, ``corpus`` for `retrieved`; both optional.
        Config: ``name``, ``seed``, ``shots``, ``max_new_tokens``, ``answer_after``, ``named``: of
        a rung that the recipe does not name, why it does not fit is told instead of raised.
        Options: ``batch_size``.
        """
        data = inputs["data"]
        began = time.monotonic()
        try:
            task = read_task(data.path, config["answer_after"])
            rung = _rung(config["name"], task, inputs, config, context)
        except (DataError, ModelError) as error:
            if config["named"]:
                raise
            for name in ("seconds", "kinds", "costs", "groups"):
                _write_json(context.out / f"{name}.json", {})
            return {"looks_at_test": {}, "not_asked": str(error)}
        fitted = time.monotonic()
        answers, cost = _asked(rung, SUITE, task.test, context)
        write_predictions(context.out / f"predictions-{SUITE}.jsonl", answers)
        if answers[0].scores is not None and task.validation:
            # Temperatures are fitted there: what was chosen there was never learned there.
            held_out, _ = _asked(rung, "validation", task.validation, context)
            write_predictions(context.out / f"validation-{SUITE}.jsonl", held_out)
        ended = time.monotonic()
        seconds = {"train": round(fitted - began, 2), "evaluate": round(ended - fitted, 2)}
        _write_json(context.out / "seconds.json", seconds)
        _write_json(context.out / "kinds.json", {SUITE: task.kind})
        _write_json(context.out / "costs.json", {SUITE: asdict(cost)})
        groups = {item.example_id: item.group for item in task.test if item.group is not None}
        _write_json(context.out / "groups.json", {SUITE: groups} if groups else {})
        digest = data.manifest.files["test.arrow"]
        looks = context.count_look(digest, f"reference {config['name']}")
        told = {**rung.told, **({} if task.labels else _open_figures(answers))}
        return {"looks_at_test": {SUITE: looks}, "reference": told}


def _rung(
    name: str,
    task: Task,
    inputs: Mapping[str, Artifact],
    config: Mapping[str, Any],
    context: StageContext,
) -> Rung:
    """The rung of that name, fitted or its prompt settled."""
    batch_size = int(context.options["batch_size"])
    if name in _WORDS:
        from eval.references.learned import fit_words

        return fit_words(name, task, int(config["seed"]))  # type: ignore[arg-type]
    if name == "nearest":
        from eval.references.learned import fit_nearest
        from eval.references.neighbours import Encoder

        task.require_train(name)
        encoder = inputs.get("encoder", inputs.get("root"))
        if encoder is None:
            raise DataError("reference nearest: neither a base nor an encoder is given; name one")
        return fit_nearest(task, Encoder(encoder.path, batch_size))
    if name not in _PROMPTED:
        raise DataError(
            f"reference {name}: no such rung; take one of "
            f"{', '.join([*_WORDS, 'nearest', *_PROMPTED])}"
        )
    from eval.references.prompted import Base, Prompted

    base = Base(inputs["root"].path, batch_size)
    data = inputs["data"].path
    base.tokenizer = tokenizer_of(data, base.tokenizer)
    render = json.loads((data / "render.json").read_text(encoding="utf-8"))
    return Prompted(name, task, base, render, config, context.files.get("corpus"))


def _asked(
    rung: Rung, split: str, items: Sequence[Item], context: StageContext
) -> tuple[list[Prediction], Cost]:
    """Answers in the items' order, and what they cost; those in the journal are not asked again."""

    def on_progress(done: int, total: int) -> None:
        context.progress({"step": done, "total": total})

    def on_done(found: Sequence[Prediction]) -> None:
        journal.add(found, meter.spent(found))

    journal = Journal(context.work / f"{split}.jsonl", split)
    known = journal.done()
    left = [item for item in items if item.example_id not in known]
    meter = Meter(rung.device)
    if left:
        rung.answers(left, on_progress, on_done)
    answered, cost = journal.done(), journal.cost
    assert cost is not None
    return [answered[item.example_id] for item in items], cost


def _open_figures(answers: Sequence[Prediction]) -> dict[str, float]:
    """Exact match and token F1 of open answers, as SQuAD has them (Rajpurkar et al. 2016)."""
    from eval.text.quality import token_f1

    right = sum(p.label == p.gold for p in answers)
    shared = sum(token_f1(p.label or "", p.gold) for p in answers)
    return {"exact_match": right / len(answers), "token_f1": shared / len(answers)}


def _write_json(path: Path, tree: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")
