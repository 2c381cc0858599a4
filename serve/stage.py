"""Stage `bundle`: a gated family in one folder, ready for an engine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import GateFailed
from pipeline.core.stage import StageContext
from serve.adapter_folder import ADAPTER_FILES, HEAD_FILES
from serve.bundle import TEMPLATE_FILE
from serve.golden import write_golden
from serve.label_answers import label_answers
from serve.made_of import lineage_of
from serve.serving_words import serving_words


class MakeBundle:
    """Writes bundle.json, the adapters and the model card; refuses what did not pass its gates."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (Model), ``adapter.NAME`` (stacked Adapters); where there are some,
        ``head.NAME`` (Adapters with a head), reports, and ``data``: the prepared Dataset whose
        rendering serving has to repeat.

        Raises:
            GateFailed: a gate did not pass, and nobody overrode it.
            ModelError: the base has less room than the recipe serves.
        """
        gates = [g for role in sorted(inputs) if "report" in role for g in gates_of(inputs[role])]
        unmet = [gate for gate in gates if gate["status"] != "pass"]
        # What failed says more than what is undecided.
        broken = [gate["text"] for gate in sorted(unmet, key=lambda gate: gate["status"] != "fail")]
        why = broken[0] if broken else "no gate was ever set"
        why += f" (and {left} more gates did not pass)" if (left := len(broken) - 1) > 0 else ""
        ungated = bool(broken) or not gates
        if ungated and not config["ungated"]:
            raise GateFailed(f"{config['name']}: {why}; serve it anyway with --ungated")
        root, rendering = inputs["root"], rendering_of(inputs.get("data"))
        adapters = []
        for about in config["adapters"]:
            artifact = inputs[f"adapter.{about['name']}"]
            told = _carried(artifact, "adapters", about["name"], ADAPTER_FILES, context.out)
            temperatures = _temperatures(inputs, about["name"])
            labels = _labels(inputs, about["name"], config["target_precision"])
            adapters.append({**about, **told, "temperatures": temperatures, "labels": labels})
        heads = []
        for about in config["heads"]:
            artifact = inputs[f"head.{about['name']}"]
            files = (*ADAPTER_FILES, *HEAD_FILES)
            told = _carried(artifact, "heads", about["name"], files, context.out)
            sureness = _sureness(inputs, about["name"], "classifier", config["target_precision"])
            heads.append({**about, **told, **sureness})
        template = _own_template(inputs.get("data"), context.out)
        tree = {
            "name": config["name"],
            # Relative: artifacts lie side by side, and the store may be moved.
            "base": {
                **config["base"],
                "path": os.path.relpath(root.path, context.out.parents[2] / "objects" / "x"),
                "digest": root.digest,
            },
            "adapters": adapters,
            "heads": heads,
            "chat_template": template,
            **serving_words(config["serve"], root.path),
            "system": config["system"],
            **chat_settings(config, rendering),
            "gates": gates,
            "ungated": ungated,
            "dtype": _dtype(root),
            "lineage": lineage_of(inputs, config),
        }
        card = own_card(inputs, config["name"])
        if card is not None:
            shutil.copyfile(card, context.out / "README.md")
        golden = write_golden(context.out, tree, root.path, inputs.get("data"))
        text = json.dumps(
            {**tree, "golden": golden is not None}, indent=1, sort_keys=True, ensure_ascii=False
        )
        (context.out / "bundle.json").write_text(text + "\n", encoding="utf-8")
        return {"models": 1 + len(adapters) + len(heads), "ungated": ungated, "golden": golden}


def _carried(
    artifact: Artifact, kind: str, name: str, files: Sequence[str], out: Path
) -> dict[str, Any]:
    """Copies one version of an adapter into a folder of its own; what bundle.json says of it."""
    place = f"{kind}/{name}-{artifact.digest[:8]}"
    (out / place).mkdir(parents=True)
    for file in files:
        shutil.copyfile(artifact.path / file, out / place / file)
    return {"rank": artifact.manifest.facts["rank"], "path": place, "digest": artifact.digest}


def _own_template(data: Artifact | None, out: Path) -> str | None:
    """The recipe's own chat template, which its rows were rendered by; None: the base's."""
    place = None if data is None else data.path / TEMPLATE_FILE
    if place is None or not place.is_file():
        return None
    shutil.copyfile(place, out / TEMPLATE_FILE)
    return TEMPLATE_FILE


def _labels(
    inputs: Mapping[str, Artifact], name: str, precision: float | None
) -> dict[str, Any] | None:
    """The labels of a model that was judged by how likely it holds each of them."""
    if all(row["arm"] != "likelihood" for row in _arm_rows(inputs, name)):
        return None
    answers = label_answers(inputs["root"].path, inputs["data"])
    return None if answers is None else answers | _sureness(inputs, name, "likelihood", precision)


def _sureness(
    inputs: Mapping[str, Artifact], name: str, arm: str, precision: float | None
) -> dict[str, Any]:
    """What validation found of one way of asking, of the first seed: temperature, threshold,
    answers."""
    found: dict[str, Any] = {"temperature": 1.0, "threshold": None, "precision": None,
                             "validation": None}  # fmt: skip
    row = next((r for r in _arm_rows(inputs, name) if r["arm"] == arm), None)
    if row is None:
        return found
    values = (row.get("calibration") or {}).get("temperatures")
    selective = row.get("selective") or {}
    if values:
        found["temperature"] = float(values[0])
    found["validation"] = selective.get("validation")
    for target in selective.get("targets") or ():
        if target["precision"] == precision and target.get("thresholds"):
            found["threshold"], found["precision"] = float(target["thresholds"][0]), precision
            found["validation"] = {**(found["validation"] or {}), "abstained": target["abstained"]}
    return found


def gates_of(report: Artifact) -> list[dict[str, Any]]:
    """The gates of a report, as the evaluation wrote them."""
    tree = json.loads((report.path / "report.json").read_text(encoding="utf-8"))
    gates: list[dict[str, Any]] = tree["comparison"]["gates"]
    return gates


def _temperatures(inputs: Mapping[str, Artifact], name: str) -> dict[str, float]:
    """Arm to the temperature that its validation items gave, of the seed that is served."""
    found = {}
    for row in _arm_rows(inputs, name):
        values = (row.get("calibration") or {}).get("temperatures")
        if values:
            # Seeds stand in the recipe's order, and the first one's weights are served.
            found[row["arm"]] = float(values[0])
    return found


def _arm_rows(inputs: Mapping[str, Artifact], name: str) -> Iterator[Mapping[str, Any]]:
    """What the reports say of each way of asking a model."""
    for role in sorted(role for role in inputs if "report" in role):
        tree = json.loads((inputs[role].path / "report.json").read_text(encoding="utf-8"))
        for row in tree["comparison"].get("arms") or ():
            if (row["name"], row["role"]) == (name, "model"):
                yield row


def own_card(inputs: Mapping[str, Artifact], name: str) -> Path | None:
    """The model card of the recipe's own report; reports of recipes below tell of others."""
    for role in sorted(role for role in inputs if "report" in role):
        folder = inputs[role].path
        tree = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        if tree.get("title") == name and (folder / "README.md").is_file():
            return folder / "README.md"
    return None


def chat_settings(config: Mapping[str, Any], rendering: Mapping[str, Any]) -> dict[str, Any]:
    """bundle.json's words on how a conversation is rendered: as rows were, where any were."""
    plain = rendering.get("render", "text") == "text"
    told = config if plain else rendering
    return {
        "chat_template_kwargs": told["chat_template_kwargs"],
        "controls": rendering.get("controls"),
    }


def rendering_of(data: Artifact | None) -> dict[str, Any]:
    """What `prepare` wrote down of its rendering; nothing where nothing was prepared."""
    place = None if data is None else data.path / "render.json"
    if place is None or not place.is_file():
        return {}
    tree: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return tree


def _dtype(root: Artifact) -> str:
    """The precision that the root's weights were published in; float32 where it says none."""
    config = json.loads((root.path / "config.json").read_text(encoding="utf-8"))
    named = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return named if named in {"bfloat16", "float16"} else "float32"
