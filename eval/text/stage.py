"""Stage `generated`: one model's texts in three sides, quality, diversity and speed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.clusters import clusters_of
from eval.generation import stop_ids
from eval.journal import Journal
from eval.loaded import Loaded, prompt_ids
from eval.record import Prediction, write_predictions
from eval.text.diversity import diversity
from eval.text.following import answers_file
from eval.text.instructions import followed, instruction_figures, is_instructions
from eval.text.judge import Duel, JudgeModel, judge
from eval.text.quality import quality
from eval.text.speed import speed
from eval.text.two_sample import two_sample
from pipeline.core.artifact import Artifact
from pipeline.core.digest import canonical_json, text_digest
from pipeline.core.errors import DataError, UserError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows

_SUITE = "suite."
_MAX_STREAMED = 64
AGAINST = "the references"
NO_ENDPOINT = "no endpoint was named: give evaluate.generated.endpoint"


class Generated:
    """Lets a model write, and tells how good, how varied and how fast that is."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Writes generated.json (a list, one record for each suite) and answers-SUITE.jsonl.

        Inputs: root (Model), adapter (stacked, optional), ``suite.NAME`` (Dataset with open
        answers, rendered for ``sft``: no labels.json of classes; or of format ``instructions``).

        Config: ``name`` (of the model, here and at the endpoint), ``level`` and ``role`` (see
        ``eval.results``), ``suites`` (names in the order of the report), ``samples`` (items of
        each suite, drawn by ``seed``), ``temperature`` (0: greedy; instructions are always
        answered greedily, so that the figures are IFEval's), ``seed``, ``max_new_tokens``,
        ``answer_after`` (or None), ``endpoint`` (URL or None), ``endpoint_key_env`` (a variable's
        name or None), ``judge`` ({url, model, key_env} or None). Options: ``batch_size``; it
        changes no text.

        A record: ``name``, ``level``, ``role``, ``suite``, ``kind`` (``text`` or
        ``instructions``), ``items``, ``temperature``, ``seed``, ``max_new_tokens``, ``cut``
        (share of texts that ended at that limit), ``quality``, ``diversity``, ``speed``,
        ``judge`` and ``two_sample`` (None where they have no meaning). Texts that were written
        before the process died are not written again.
        """
        _require_keys(config)
        names = list(config["suites"])
        suites = {name: _Suite.read(name, inputs[_SUITE + name], config) for name in names}
        writer = _Writer(Loaded(inputs["root"], inputs.get("adapter"), config, context), inputs)
        told, looks = [], {}
        for name, suite in suites.items():
            answers = writer.write(name, suite)
            after = config["answer_after"]
            kept = followed(suite.rows, answers, after=after) if suite.instructions else answers
            write_predictions(context.out / answers_file(name), kept)
            told.append(_record(name, suite, answers, writer, config, context))
            digest = inputs[_SUITE + name].manifest.files["test.arrow"]
            looks[name] = context.count_look(digest, inputs["root"].key[:12])
        path = context.out / "generated.json"
        path.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
        return {"looks_at_test": looks}


@dataclass(frozen=True)
class _Suite:
    """The rows that are asked.

    Attributes:
        instructions: their answers are checked by program.
        temperature: at which they are answered.
    """

    rows: list[dict[str, Any]]
    instructions: bool
    temperature: float

    @property
    def references(self) -> list[str]:
        """What each row's own answer is; none where answers are checked."""
        return [] if self.instructions else [str(row["label"]) for row in self.rows]

    @classmethod
    def read(cls, name: str, artifact: Artifact, config: Mapping[str, Any]) -> _Suite:
        rows = read_rows(artifact.path / "test.arrow")
        render = json.loads((artifact.path / "render.json").read_text(encoding="utf-8"))["render"]
        labels = json.loads((artifact.path / "labels.json").read_text(encoding="utf-8"))
        if not rows:
            raise DataError(f"generated: suite {name} has no test rows; give data.test")
        if labels or any(row.get("prompt") is None or row["label"] is None for row in rows):
            what = "classes" if labels else f"rows rendered for {render}"
            raise DataError(
                f"generated: suite {name} holds {what}; name suites with open answers under "
                "evaluate.generated.suites"
            )
        order = np.random.default_rng(config["seed"]).permutation(len(rows))
        chosen = sorted(order[: config["samples"]].tolist())
        checked = is_instructions(rows)
        temperature = 0.0 if checked else float(config["temperature"])
        return cls([rows[index] for index in chosen], checked, temperature)


class _Writer:
    """A model in memory; what it wrote lies in a journal."""

    def __init__(self, loaded: Loaded, inputs: Mapping[str, Artifact]) -> None:
        self.loaded, self.config = loaded, loaded.config
        self.device = str(loaded.device.type)
        # The same work folder may have served other settings.
        self._key = text_digest(
            canonical_json([dict(loaded.config), {r: a.key for r, a in inputs.items()}])
        )

    def write(self, name: str, suite: _Suite) -> list[Prediction]:
        """A text for each row, in the rows' order."""
        from eval.arms.generate import GenerativePredictor

        loaded, config = self.loaded, self.config
        journal = Journal(loaded.context.work / f"generated-{name}.jsonl", self._key)
        known = journal.done()
        left = [row for row in suite.rows if row["example_id"] not in known]
        if left:
            predictor = GenerativePredictor(
                loaded.model,
                loaded.tokenizer,
                labels=None,
                answer_after=config["answer_after"],
                stop_ids=stop_ids(loaded.model, loaded.tokenizer),
                pad_id=loaded.pad_id,
                max_new_tokens=config["max_new_tokens"],
                batch_size=loaded.batch_size,
                temperature=suite.temperature,
                seed=config["seed"],
            )
            predictor.predict(
                [{**row, "prompt_ids": prompt_ids(row)} for row in left],
                on_progress=lambda done, of: loaded.context.progress({"step": done, "total": of}),
                on_done=journal.add,
            )
        answers = journal.done()
        return [answers[row["example_id"]] for row in suite.rows]


def _record(
    name: str,
    suite: _Suite,
    answers: Sequence[Prediction],
    writer: _Writer,
    config: Mapping[str, Any],
    context: StageContext,
) -> dict[str, Any]:
    texts = [answer.raw_text or "" for answer in answers]
    after, seed, most = config["answer_after"], config["seed"], config["max_new_tokens"]
    about = {
        **{key: config[key] for key in ("name", "level", "role")},
        "suite": name,
        "kind": "instructions" if suite.instructions else "text",
        "items": len(texts),
        "temperature": suite.temperature,
        "seed": seed,
        "max_new_tokens": most,
        "cut": float(np.mean([answer.output_tokens >= most for answer in answers])),
    }
    fast = {**_served(suite, config), "offline": _offline(answers, writer)}
    shared = clusters_of(suite.rows)
    if suite.instructions:
        figures = instruction_figures(suite.rows, answers, after=after)
        alone = diversity(texts, seed=seed)
        return {**about, "quality": figures, "diversity": alone, "speed": fast,
                "judge": None, "two_sample": None}  # fmt: skip
    return {
        **about,
        "quality": quality(texts, suite.references, after=after, seed=seed, clusters=shared),
        "diversity": diversity(texts, suite.references, seed=seed),
        "speed": fast,
        "judge": _judged(suite, texts, config, context.work),
        "two_sample": two_sample(suite.references, texts, seed=seed, clusters=shared),
    }


def _served(suite: _Suite, config: Mapping[str, Any]) -> dict[str, Any]:
    """Speed at the endpoint, or why there is none."""
    if config["endpoint"] is None:
        return {"measured": False, "why": NO_ENDPOINT}
    try:
        found = speed(
            config["endpoint"],
            [str(row["text"]) for row in suite.rows],
            model=config["name"],
            api_key=_key(config["endpoint_key_env"]),
            max_tokens=min(config["max_new_tokens"], _MAX_STREAMED),
        )
    except UserError as error:
        # It serves another model of the family, and that one's speed is not this one's.
        return {"measured": False, "why": str(error)}
    return {"measured": True, "why": None, **found}


def _offline(answers: Sequence[Prediction], writer: _Writer) -> dict[str, Any]:
    seconds = sum(answer.latency_s for answer in answers)
    tokens = sum(answer.output_tokens for answer in answers)
    return {
        "what": "batched generation within the evaluation: no engine, no streams, no queue",
        "tokens_per_s": tokens / seconds if seconds else None,
        "batch_size": writer.loaded.batch_size,
        "device": writer.device,
    }


def _judged(
    suite: _Suite, texts: Sequence[str], config: Mapping[str, Any], work: Path
) -> dict[str, Any] | None:
    asked = config["judge"]
    if asked is None:
        return None
    triples = zip(suite.rows, texts, suite.references, strict=True)
    duels = [Duel(str(row["text"]), ours, theirs) for row, ours, theirs in triples]
    model = JudgeModel(asked["url"], asked["model"], work / "judge.jsonl", _key(asked["key_env"]))
    found = judge(duels, model, clusters=clusters_of(suite.rows))
    return {"model": asked["model"], "against": AGAINST, **found}


def _require_keys(config: Mapping[str, Any]) -> None:
    """A key that is missing is told before hours of writing."""
    _key(config["endpoint_key_env"])
    _key((config["judge"] or {}).get("key_env"))


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise UserError(
            f"generated: the environment has no {variable}, which holds the endpoint's key; set it"
        )
    return key
