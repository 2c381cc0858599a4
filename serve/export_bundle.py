"""Stage `bundle-export`: a gated export in one folder, whole: engines and hubs take it as it is."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.artifact import MANIFEST, Artifact
from pipeline.core.digest import files_below
from pipeline.core.errors import GateFailed
from pipeline.core.stage import StageContext
from serve.bundle import BUNDLE_FILE
from serve.export_card import export_card
from serve.golden import write_golden
from serve.made_of import lineage_of
from serve.serving_words import serving_words
from serve.stage import chat_settings, gates_of, own_card, rendering_of

EXPORT_FILE = "export.json"
CARD = "README.md"


class BundleExport:
    """Writes bundle.json and the card beside the weights; refuses what did not pass its gates."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root (the quantised Model), judged (Report of its gate), data (Dataset that it
        was trained on), ``reportN`` (Reports whose gates decide whether the model is served).

        Raises:
            GateFailed: a gate did not pass; nothing is exported.
        """
        reports = [inputs[role] for role in sorted(inputs) if role.startswith("report")]
        gates = [gate for report in reports for gate in gates_of(report)]
        own = gates_of(inputs["judged"])
        broken = next((gate for gate in (*own, *gates) if gate["status"] != "pass"), None)
        if broken is not None:
            raise GateFailed(
                f"{config['title']}: not exported: {broken['text']}; take another scheme, or "
                "allow more in export.not_worse_by"
            )
        root, out = inputs["root"], context.out
        _carry(root.path, out)
        judged = json.loads((inputs["judged"].path / "report.json").read_text(encoding="utf-8"))
        made = root.manifest.facts
        rendering = rendering_of(inputs["data"])
        serving = serving_words(config["serve"], root.path)
        _write(out / EXPORT_FILE, {**judged, "made": dict(made), "scheme": config["scheme"]})
        tree: dict[str, Any] = {
            "name": config["name"],
            # The folder itself: the weights lie beside this file.
            "base": {
                "name": config["name"],
                "level": config["level"],
                "path": ".",
                "digest": root.digest,
            },
            **serving,
            "system": config["system"],
            **chat_settings(config, rendering),
            "gates": [*gates, *own],
            "adapters": [],
            "heads": [],
            "ungated": False,
            "dtype": config["dtype"],
            "lineage": lineage_of(inputs, config),
        }
        golden = write_golden(out, tree, root.path, inputs["data"])
        _write(out / BUNDLE_FILE, {**tree, "golden": golden is not None})
        card = own_card(inputs, config["title"])
        if card is not None:
            text = export_card(
                card.read_text(encoding="utf-8"),
                {**config, "max_model_len": serving["max_model_len"]}, judged, made,
            )  # fmt: skip
            (out / CARD).write_text(text, encoding="utf-8")
        return {"scheme": config["scheme"], "gates": len(gates) + len(own), "golden": golden}


def _carry(model: Path, out: Path) -> None:
    """The model's files: the same bytes on the disk where that can be."""
    for path in files_below(model):
        name = path.relative_to(model).as_posix()
        if name == MANIFEST:
            continue
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)


def _write(path: Path, tree: Mapping[str, Any]) -> None:
    text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
