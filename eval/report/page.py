"""Writes a comparison as report.json and as one page that needs nothing beside itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.report import sections
from eval.report.answers import arms_section, frontier_section
from eval.report.confidence import calibration_section, selective_section
from eval.report.data import data_parts
from eval.report.document import document
from eval.report.figures import Figures
from eval.report.generated import generated_section
from eval.report.labels import labels_section
from eval.report.learning import learning_section
from eval.report.markup import Markup, joined, section, tag
from eval.report.markup import facts as shown_facts
from eval.report.pairs import (
    disagreements_section,
    forgetting_section,
    gap_section,
    pairs_section,
)
from eval.report.risks import risks_section
from eval.report.training import training_part
from eval.report.verdict import header, ladder, recommendation

_METHOD = (
    "Intervals are 95 %. With several seeds they cover seeds and items (crossed random effects, "
    "Cochran and Cox's weighting), with one seed items alone, for these weights (Wilson; Bonett "
    "and Price for differences). Losses are nats for each token, with a studentised bootstrap "
    "over documents; F1, errors and correlations by leaving each item out in turn (jackknife); of "
    "macro-F1 the interval is about all items, where labels of few items show less. Control "
    "is the same training without L1. A gate passes only when its whole "
    "interval keeps the promise; what was not measured is undecided. Chance is the share of the "
    "commonest class."
)


def write_report(
    comparison_json: Mapping[str, Any], title: str, facts: Mapping[str, Any], out: Path
) -> None:
    """Writes ``report.json``, ``report.html`` and the model card into the folder ``out``.

    The same input gives the same bytes. A figure that is no number was not measured.

    Args:
        comparison_json: what ``Comparison.to_json`` gave.
        title: heading of the page.
        facts: hardware, versions, seconds, plan, lineage: any JSON values, shown as they are;
            ``model`` as ``eval.model_facts`` tells it, for the card.
        out: an existing folder.
    """
    # Late: the card takes its words from this package.
    from eval.model_card import model_card

    comparison, facts = finite(comparison_json), finite(facts)
    record = {"title": title, "comparison": comparison, "facts": facts}
    text = json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False)
    (out / "report.json").write_text(text + "\n", encoding="utf-8", newline="\n")
    (out / "report.html").write_text(
        report_page(comparison, title, facts), encoding="utf-8", newline="\n"
    )
    (out / "README.md").write_text(
        model_card(comparison, title, facts), encoding="utf-8", newline="\n"
    )


def report_page(comparison: Mapping[str, Any], title: str, facts: Mapping[str, Any]) -> str:
    """The page as text: a section for each part that the comparison has."""
    data, other = data_parts(facts.get("data"))
    if data is not None:
        # What is drawn is not listed once more.
        facts = {**facts, "data": other}
    trainings = facts.get("training")
    facts = {name: value for name, value in facts.items() if name != "training"}
    if model := facts.get("model"):
        # Sources stand with the data; those of all levels in the card.
        told = {name: value for name, value in model.items() if name != "sources"}
        facts = {"model": told, **{name: facts[name] for name in facts if name != "model"}}
    figures = Figures()
    first = [
        header(comparison, title),
        recommendation(comparison),
        sections.tiles(comparison),
    ]
    parts = [
        ladder(comparison),
        sections.conclusions(comparison),
        sections.gates(comparison),
        arms_section(comparison, figures),
        frontier_section(comparison, figures),
        pairs_section(comparison),
        calibration_section(comparison, figures),
        selective_section(comparison, figures),
        learning_section(comparison, figures),
        disagreements_section(comparison),
        labels_section(comparison, figures),
        generated_section(comparison),
        risks_section(comparison),
        sections.heads(comparison),
        sections.tasks(comparison),
        sections.plots(comparison),
        sections.levels(comparison),
        forgetting_section(comparison),
        gap_section(comparison),
        sections.clean(comparison),
        sections.models(comparison),
        _training(trainings, figures),
        section("Data", data) if data is not None else None,
        _facts(facts),
    ]
    above, body = (joined(p for p in some if p is not None) for some in (first, parts))
    return document(title, above, body, figures.specs)


def finite(value: Any) -> Any:
    """JSON values with None where a figure is no number: JSON knows none, nor does a reader."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _training(trainings: object, figures: Figures) -> Markup | None:
    curves = training_part(trainings, figures)
    return section("Training", curves) if curves is not None else None


def _facts(facts: Mapping[str, Any]) -> Markup:
    blocks = [
        tag("details", tag("summary", str(name).replace("_", " ").capitalize()), shown_facts(value))
        for name, value in facts.items()
        if value != {}
    ]
    method = tag("p", _METHOD, class_="soft")
    return section("How it was made", tag("div", [method, *blocks], class_="facts"))
