"""The model card of an export: the recipe's own card, with what fewer bits changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SCHEMES = {
    "fp8": "FP8 (FP8_DYNAMIC: weights in 8 bits by channel, activations in 8 bits by token)",
    "awq": "AWQ (W4A16: weights in 4 bits by groups, scaled by what training rows activate)",
}
_BEFORE = (
    "These figures are of the model before its export in fewer bits; what the export costs is "
    "told under *Export*."
)


def export_card(
    card: str, config: Mapping[str, Any], judged: Mapping[str, Any], made: Mapping[str, Any]
) -> str:
    """The card as text.

    Args:
        card: of the recipe's model.
        config: ``name``, ``scheme``, ``dtype`` and ``max_model_len`` of the export.
        judged: report.json of its gate.
        made: facts of how it was quantised.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    found = ModelCard(card, ignore_metadata_errors=True)
    data = found.data
    assert isinstance(data, ModelCardData)
    data.library_name = "transformers"
    if data.base_model:
        data["base_model_relation"] = "quantized"
    data.tags = [*(tag for tag in data.tags or () if tag not in ("lora", "qlora")),
                 "compressed-tensors", config["scheme"]]  # fmt: skip
    data.model_name = config["name"]
    data.pipeline_tag = "text-generation"
    data.metrics = sorted({figure["metric"] for figure in judged["figures"]})
    data.eval_results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=figure["suite"],
            dataset_name=figure["suite"],
            dataset_split="test",
            metric_type=figure["metric"],
            metric_value=round(figure["exported"]["estimate"], 4),
            metric_name=f"{figure['metric'].capitalize()} ({judged['arm']})",
        )
        for figure in judged["figures"]
    ]
    parts = _sections(found.text)
    parts["How to use"] = _use(config)
    if "Results" in parts:
        parts["Results"] = f"{_BEFORE}\n\n{parts['Results']}"
    parts["Export"] = _export(config, judged, made)
    body = "".join(
        f"## {name}\n\n{text}\n\n" if name else f"{text}\n\n" for name, text in parts.items()
    )
    return f"---\n{data.to_yaml(line_break=chr(10))}\n---\n\n{body.rstrip()}\n"


def _sections(text: str) -> dict[str, str]:
    """Heading to what stands below it, in order; what stands before the first has none."""
    found: dict[str, list[str]] = {"": []}
    name, fenced = "", False
    for line in text.strip().splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            name = line[3:].strip()
            found[name] = []
        else:
            found[name].append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items()}


def _use(config: Mapping[str, Any]) -> str:
    serve = f"vllm serve FOLDER --dtype {config['dtype']} --max-model-len {config['max_model_len']}"
    return (
        "The weights are whole and need no adapter; their format is compressed-tensors.\n\n"
        f"```\n{serve}\n```\n\nor `gradus serve FOLDER`, which adds the keys, limits and the "
        "system text of the recipe."
    )


def _export(config: Mapping[str, Any], judged: Mapping[str, Any], made: Mapping[str, Any]) -> str:
    by = ", ".join(f"{name} {version}" for name, version in sorted(made["versions"].items()))
    lines = [
        f"- scheme: {_SCHEMES[config['scheme']]}; `lm_head` and all else in {config['dtype']}",
        f"- made by {by}",
    ]
    if made["calibrated_on"]:
        lines.append(f"- calibrated on {made['calibrated_on']} of its training rows, drawn")
    if made.get("group_size"):
        lines.append(f"- weights that share a scale: {made['group_size']}")
    rows = ["| on the same items | before | exported |", "| --- | ---: | ---: |"]
    rows += [
        f"| {figure['metric']}, {figure['suite']} ({figure['items']}) | "
        f"{_figure(figure['unquantised'])} | {_figure(figure['exported'])} |"
        for figure in judged["figures"]
    ]
    gates = [f"- {gate['text']}" for gate in judged["comparison"]["gates"]]
    return "\n".join([*lines, "", *rows, "", *gates])


def _figure(told: Mapping[str, Any]) -> str:
    return f"{told['estimate']:.3f} [{told['low']:.3f}, {told['high']:.3f}]"
