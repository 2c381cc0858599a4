"""Stage `risks`: the risk page of one model."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.drawing import chosen
from eval.record import Prediction
from eval.risks.asked import Asked
from eval.risks.bias import bbq_lines
from eval.risks.cost import answering_lines, training_lines
from eval.risks.explanation import explanation_lines
from eval.risks.given import read_audit
from eval.risks.line import Line, not_measured
from eval.risks.losses import TOLD_BY, row_losses
from eval.risks.misuse import misuse_lines
from eval.risks.origins import made_of, origin_lines, trained_on
from eval.risks.privacy import (
    MOST_ROWS,
    SAMPLE_TOKENS,
    membership_lines,
    openings,
    personal_lines,
    verbatim_lines,
)
from eval.risks.robustness import robustness_lines
from eval.risks.scale import scale_lines
from eval.risks.suites import Suite, labelled_suite
from eval.risks.swaps import swap_lines
from eval.risks.timeliness import timeliness_lines
from eval.risks.untrue import untrue_lines
from pipeline.core.arms import ARMS
from pipeline.core.artifact import Artifact
from pipeline.core.energy import EnergyMeter
from pipeline.core.stage import StageContext
from pipeline.data.contamination_files import read_texts

FILE = "risks.json"
_SUITE = "suite."
_EXPLAINED = 20
_SAMPLES = 64
# Why a model of a form answers no question with a label; of other forms no suite asks for one.
_NO_SUITE = {
    "text": "the recipe asks this model for no label: it is judged by the texts that it reads",
    "channel": "a channel weighs texts, and answers with labels as arm joint alone, which "
    "evaluate.arms does not name",
    "tagger": "this model gives each token a tag, and no question one label",
    "regressor": "this model answers with a number, and with no label",
}


class Risks:
    """Writes risks.json: {name, lines: [{topic, what, shown, how, value, low, high, n, measured,
    why}]}. What cannot be measured is a line that says why."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Measures what the recipe gives it to measure with.

        Inputs: root (Model) and adapter (stacked, optional), as served; data (Dataset), on which
        the model was trained; ``suite.NAME`` (Datasets), as `evaluate` has them.

        Config: name (the model's), arm (in which it is judged), max_new_tokens, answer_after,
        items (rows of a set that are asked, drawn by seed), seed, price_per_hour (or None).

        Files, each optional: bbq (BBQ's rows, a file or a folder), harmful (rows with prompt),
        swaps (see ``eval.risks.swaps``), questions (rows with question, context, answer), audit
        (what ``gradus audit privacy RECIPE --out FILE`` wrote), chat_template.

        Options: batch_size.
        """
        page = _Page(inputs, config, context)
        lines: list[Line] = []
        for done, part in enumerate(page.parts()):
            lines += part
            context.progress({"step": done + 1, "total": _Page.PARTS})
        tree = {"name": config["name"], "lines": [line.to_json() for line in lines]}
        text = json.dumps(tree, ensure_ascii=False, allow_nan=False)
        (context.out / FILE).write_text(text, encoding="utf-8")
        return {
            "measured": sum(line.measured for line in lines),
            "not_measured": sum(not line.measured for line in lines),
        }


class _Page:
    """One model and all that its page is measured on."""

    PARTS = 10

    def __init__(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> None:
        self.config, self.files = config, context.files
        self.items, self.seed = int(config["items"]), int(config["seed"])
        self.data = inputs["data"]
        self.below = made_of(inputs[role] for role in ("adapter", "root") if role in inputs)
        self.rows = trained_on(self.below) or [self.data]
        self.asked = Asked(inputs, config, context)
        made = (
            labelled_suite(
                role.removeprefix(_SUITE), artifact, self.asked.renderer, self.items, self.seed
            )
            for role, artifact in sorted(inputs.items())
            if role.startswith(_SUITE)
        )
        self.suites: list[Suite] = [suite for suite in made if suite is not None]
        if config["arm"] in _NO_SUITE:
            self.suites = []
        self.no_suite = _NO_SUITE.get(
            config["arm"], "no suite asks this model for one label of a known set"
        )

    def parts(self) -> Iterator[list[Line]]:
        """The topics, one after another."""
        with EnergyMeter() as meter:
            clean = {suite.name: self.asked.answers(suite) for suite in self.suites}
        files, items, seed = self.files, self.items, self.seed
        voice = self.asked.voice(self.data.path)
        yield bbq_lines(files.get("bbq"), voice, items, seed)
        yield swap_lines(
            files.get("swaps"), self.suites, self.asked.answers, self._most, self.no_suite
        )
        yield untrue_lines(files.get("questions"), voice, items, seed)
        yield self._privacy()
        yield origin_lines(self.below, self.rows)
        yield misuse_lines(files.get("harmful"), voice, items, seed)
        yield self._robustness(clean)
        price = self.config["price_per_hour"]
        answering = answering_lines(clean, meter.total, price, self.no_suite)
        yield [*training_lines(self.below), *answering]
        yield [*timeliness_lines(self._texts(), self._prepared_on()), *self._scale(clean)]
        yield self._explanation()

    def _privacy(self) -> list[Line]:
        asked, seed = self.asked, self.seed
        settings = json.loads((self.data.path / "render.json").read_text(encoding="utf-8"))
        render = settings["render"]
        refusal = None
        if render not in TOLD_BY or settings.get("multi_label"):
            refusal = f"rows of objectives that render {render} have no single loss here"
        elif render == "text" and not asked.continues:
            refusal = "a model of masked tokens gives a whole text no likelihood"

        def losses(rows: Sequence[Mapping[str, Any]]) -> list[float]:
            return row_losses(
                asked.model, rows, render, head=asked.loaded.head, batch_size=asked.batch_size,
                pad_id=asked.pad_id,
            )  # fmt: skip

        most = (asked.context_tokens or 1 << 30) - SAMPLE_TOKENS
        opened = [ids for ids in openings(self.data, _SAMPLES, seed) if len(ids) <= most]
        return [
            *self._personal(),
            *verbatim_lines(
                self.rows,
                (lambda prompts: asked.sample(prompts, SAMPLE_TOKENS, seed))
                if asked.continues
                else None,
                opened,
            ),
            *membership_lines(refusal or losses, self.data, render, self.items, seed),
            *_audited(self.files.get("audit"), str(self.config["name"])),
        ]

    def _personal(self) -> list[Line]:
        rows = sum(1 for _ in self._texts())
        every = max(1, -(-rows // MOST_ROWS))
        return personal_lines(itertools.islice(self._texts(), 0, None, every), every)

    def _robustness(self, clean: Mapping[str, Sequence[Prediction]]) -> list[Line]:
        if not self.suites:
            return [not_measured("robustness", "accuracy under changed input", self.no_suite)]
        return [
            line
            for suite in self.suites
            for line in robustness_lines(
                suite,
                clean[suite.name],
                self.asked.answers,
                seed=self.seed,
                most=self._most(suite),
            )
        ]

    def _most(self, suite: Suite) -> int | None:
        """Tokens of the longest question that leaves room for an answer within the context."""
        context = self.asked.context_tokens
        return None if context is None else context - self.asked.room(suite)

    def _scale(self, clean: Mapping[str, Sequence[Prediction]]) -> list[Line]:
        if not clean:
            return [not_measured("scale", "accuracy by input length", self.no_suite)]
        return [
            line
            for suite in self.suites
            for line in scale_lines(suite.name, clean[suite.name], suite.lengths, suite.clusters)
        ]

    def _explanation(self) -> list[Line]:
        headed = ARMS[self.config["arm"]].form == "discriminative"
        classifier = self.asked.classifier() if headed else None
        # Rows of all suites, drawn: a file may be sorted by label, and each suite counts.
        every = [row for suite in self.suites for row in suite.rows]
        rows = [every[index] for index in chosen(len(every), _EXPLAINED, self.seed)]
        return explanation_lines(
            classifier, rows, self.asked.tokenizer, pad_id=self.asked.pad_id, seed=self.seed
        )  # fmt: skip

    def _texts(self) -> Iterator[str]:
        """Every training row's whole text, of the levels below too."""
        for data in self.rows:
            for batch in read_texts(data.path):
                yield from (row.whole for row in batch)

    def _prepared_on(self) -> datetime.date:
        """The day on which the rows were prepared."""
        return datetime.date.fromisoformat(str(self.data.manifest.run["at"])[:10])


def _audited(path: Path | None, name: str) -> list[Line]:
    """The lines of an audit that somebody ran; it trains a copy, which no risk page does."""
    what = "exposure of canaries"
    if path is None:
        why = (
            "evaluate.risks.audit names no file; `gradus audit privacy RECIPE --out FILE` "
            "trains a throwaway copy and writes one"
        )
        return [not_measured("privacy", what, why)]
    models = read_audit(path)
    lines = models.get(name)
    if not lines:
        why = f"{path.name} is an audit of {', '.join(models) or 'no model'}"
        return [not_measured("privacy", what, why)]
    return [line for line in lines if line.what.startswith("exposure")]
