"""A Hugging Face model card (README.md) from the facts of a report. What is not known is said so.

Metadata as the hub reads it (https://huggingface.co/docs/hub/model-cards), parsed and checked by
huggingface_hub's own ``ModelCardData``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.card_use import use
from eval.card_words import hub_licence, plain
from eval.report.confidence import temperature_cell
from eval.report.markup import interval, number
from eval.report.names import row_name, significant, times
from pipeline.core.arms import arm_name
from pipeline.core.objectives import OBJECTIVES

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

Tree = Mapping[str, Any]

_UNKNOWN = "not known"
_TASKS = {
    "classify": "text-classification", "tag": "token-classification",
    "regress": "text-classification", "mlm": "fill-mask",
}  # fmt: skip
_METRICS = {
    "accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro F1"),
    "matthews": ("matthews_correlation", "Matthews correlation"),
}  # fmt: skip


def model_card(comparison: Tree, title: str, facts: Tree) -> str:
    """The card as text: metadata, then what the model is, how good, and at what risk.

    Args:
        comparison: what ``Comparison.to_json`` gave, with the parts beside it.
        title: the model's name.
        facts: of the report; ``model`` as ``eval.model_facts`` tells it and with the recipe's
            ``licence`` where it names one, ``data`` by node.
    """
    model: Tree = facts.get("model") or {}
    parts = [
        f"# {plain(title)}",
        *_verdict(comparison),
        *_about(comparison, title, model),
        *use(comparison, title, model),
        *_data(model),
        *_results(comparison),
        *_risks(comparison),
        *_made(model, facts),
    ]
    return f"---\n{_metadata(comparison, title, facts)}---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(comparison: Tree, title: str, facts: Tree) -> str:
    from huggingface_hub import ModelCardData

    model: Tree = facts.get("model") or {}
    sources = [source for source in model.get("sources") or () if source.get("repo")]
    datasets = list(dict.fromkeys(source["repo"] for source in sources)) or None
    results = [*_eval_results(comparison, facts)]
    metrics = list(dict.fromkeys(result.metric_type for result in results)) or None
    hub = model.get("base_kind") == "hub"
    method = (model.get("training") or {}).get("method")
    adapter = method not in (None, "full")
    # An adapter over weights that are on no hub is none of the base's adapters.
    relation = ("adapter" if adapter else "finetune") if hub else None
    if adapter and not model.get("over_base", True):
        relation = None
    licence = hub_licence(model.get("licence") or model.get("base_licence"))
    data = ModelCardData(
        license=licence["license"],
        license_name=licence.get("license_name"),
        base_model=model["base"] if hub else None,
        base_model_relation=relation,
        datasets=datasets,
        language=model.get("languages"),
        library_name=("peft" if adapter else "transformers") if method else None,
        metrics=metrics,
        pipeline_tag=_task(comparison, model),
        tags=["gradus", *([method] if method else []), *(model.get("objectives") or ())],
        model_name=title,
        eval_results=results or None,
    )
    return f"{data.to_yaml(line_break=chr(10))}\n"


def _task(comparison: Tree, model: Tree) -> str | None:
    """The hub's name of the task; of the recommended arm where there are several objectives."""
    objectives = model.get("objectives") or ()
    asked = (comparison.get("recommendation") or {}).get("arm")
    if {"classify", "hybrid"} & set(objectives) and asked in (None, "classifier"):
        return _TASKS["classify"]
    for objective in objectives:
        if OBJECTIVES[objective].writes:
            return "text-generation"
    return next((_TASKS[name] for name in objectives if name in _TASKS), None)


def _eval_results(comparison: Tree, facts: Tree) -> Iterator[EvalResult]:
    """Figures of the recipe's own models on its own test."""
    from huggingface_hub import EvalResult

    task = _task(comparison, facts.get("model") or {})
    suite = (comparison.get("suites") or {}).get("task")
    tests = [
        source["repo"]
        for data in (facts.get("data") or {}).values()
        for source in data.get("sources") or ()
        if source.get("split") == "test" and source.get("repo")
    ]
    for row in comparison.get("arms") or ():
        if row["role"] != "model" or task is None or suite is None:
            continue
        for key, (metric, name) in _METRICS.items():
            value = row[key]["estimate"] if isinstance(row[key], Mapping) else row[key]
            if value is not None:
                yield EvalResult(
                    task_type=task,
                    dataset_type=tests[0] if tests else suite,
                    dataset_name=suite,
                    dataset_split="test",
                    metric_type=metric,
                    metric_value=round(value, 4),
                    metric_name=f"{name} ({arm_name(row['arm'])})",
                )


def _verdict(comparison: Tree) -> list[str]:
    told = comparison.get("recommendation") or {}
    gates = comparison["gates"]
    passed = sum(gate["status"] == "pass" for gate in gates)
    verdict = (
        f"**{comparison['verdict']}**: {passed} of {times(len(gates), 'promise')} kept."
        if gates
        else "Nothing was promised of this model, so no promise was judged."
    )
    return [verdict, *(plain(line) for line in told.get("words") or ())]


def _about(comparison: Tree, title: str, model: Tree) -> list[str]:
    task = _task(comparison, model)
    rows = [
        ("Task", task and task.replace("-", " ")),
        ("Modality", "text in, text or labels out"),
        ("Domain", f"that of the rows of {', '.join([*(model.get('below') or ()), title])}"),
        ("Base", _base(model)),
        ("Architecture", model.get("architecture")),
        ("Size", _size(model)),
        ("Training method", _method(model)),
        ("Language", ", ".join(model.get("languages") or ()) or None),
        ("Licence", _licence(model)),
        ("Licence of the base", model.get("base_licence")),
    ]
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {plain(value) if value else _UNKNOWN} |" for name, value in rows]
    return ["## What it is", "\n".join(lines)]


def _base(model: Tree) -> str | None:
    base, kind = model.get("base"), model.get("base_kind")
    if kind == "hub":
        return f"{base}, revision {model.get('revision')}"
    return f"{base}, made from nothing" if kind == "scratch" else base


def _size(model: Tree) -> str | None:
    every, trained = model.get("parameters"), model.get("trainable_parameters")
    if every is None:
        return None
    return f"{every:,} parameters" + (f", {trained:,} of them trained" if trained else "")


def _licence(model: Tree) -> str | None:
    given, base = model.get("licence"), model.get("base_licence")
    return given or (f"{base} (that of the base: the recipe names none)" if base else None)


def _method(model: Tree) -> str | None:
    settings = dict(model.get("training") or {})
    if not settings:
        return None
    told = [str(settings.pop("method", "full"))]
    told += [f"objective {name}" for name in model.get("objectives") or ()]
    told += [f"{name} {value}" for name, value in settings.items()]
    return "; ".join([*told, times(len(model.get("seeds") or ()), "seed")])


def _data(model: Tree) -> list[str]:
    """Every source of training rows, down to the base, with its licence."""
    lines = ["| source | recipe | rows | licence |", "| --- | --- | ---: | --- |"]
    for source in model.get("sources") or ():
        rows = source.get("read")
        cells = [
            plain(_source(source)), plain(source.get("for") or "–"),
            f"{rows:,}" if isinstance(rows, int) else "–",
            plain(source.get("licence") or _UNKNOWN),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    found = "\n".join(lines) if len(lines) > 2 else "No source of training rows is known."
    base = "What its base was trained on is not known here."
    fetched = model.get("base_kind") in ("hub", "folder")
    return ["## Training data", found, *([base] if fetched else [])]


def _source(source: Tree) -> str:
    made = source.get("generator")
    if made:
        name = made.get("generator") if isinstance(made, Mapping) else made
        return f"{name} (made by a generator)"
    return str(next((source[k] for k in ("repo", "url", "name") if source.get(k)), "a local file"))


def _results(comparison: Tree) -> list[str]:
    rows = [
        [
            plain(row_name(row)), row["level"], str(row["seeds"]),
            number(figure.get("estimate")), interval(figure.get("low"), figure.get("high")),
            number(row["macro_f1"]),
            temperature_cell(row["calibration"]) if row["calibration"] else number(None),
            significant((row["cost"] or {}).get("compute_s_per_1000")),
        ]
        for row in comparison.get("arms") or ()
        for figure in [row["accuracy"] or {}]
    ]  # fmt: skip
    parts = ["## Results"]
    if rows:
        head = ["way of answering", "level", "seeds", "accuracy", "95 % interval", "macro F1"]
        parts.append(_table([*head, "temperature", "compute for 1,000 (s)"], rows, words=1))
    if comparison["sentences"]:
        parts.append("\n".join(f"- {plain(line)}" for line in comparison["sentences"]))
    if comparison["gates"]:
        gates = [
            [gate["status"], plain(gate["text"].removesuffix(f": {gate['status']}"))]
            for gate in comparison["gates"]
        ]
        parts.append(_table(["promise", "figure"], gates, words=2))
    return parts if len(parts) > 1 else [*parts, "Nothing was measured."]


def _risks(comparison: Tree) -> list[str]:
    parts = ["## Risks and limits"]
    for told in comparison.get("risks") or ():
        rows = [
            [plain(line["topic"]), plain(line["what"]),
             plain(line["shown"] if line["measured"] else f"not measured: {line['why']}")]
            for line in told["lines"]
        ]  # fmt: skip
        parts += [f"Of {plain(told['name'])}:", _table(["risk", "asked", "found"], rows, words=3)]
    if len(parts) == 1:
        parts.append(
            "Not measured: bias, untrue output, privacy, misuse, robustness. That nothing was "
            "measured says nothing about how large they are."
        )
    return parts


def _made(model: Tree, facts: Tree) -> list[str]:
    lines = [f"- {plain(k)}: {plain(v)}" for k, v in (facts.get("hardware") or {}).items() if v]
    packages = ", ".join(f"{k} {v}" for k, v in (facts.get("packages") or {}).items())
    lines += [f"- packages: {plain(packages)}"] if packages else []
    told = "Every figure above is from `report.json` and `report.html` beside this card."
    return ["## How it was made", *(["\n".join(lines)] if lines else []), told]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    rules = ["---" if index < words else "---:" for index in range(len(head))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rules, *rows])
