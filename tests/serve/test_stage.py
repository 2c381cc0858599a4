"""The bundle repeats what `prepare` wrote down of its rendering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from stand_ins import artifact, serve

from pipeline.core.artifact import Artifact
from pipeline.core.controls import Controls
from pipeline.core.errors import GateFailed, ModelError
from serve.bundle import read_bundle
from serve.engine_install import EngineHome
from serve.stage import MakeBundle
from serve.vllm_engine import command_line

MODULE = "model.layers.0.self_attn.q_proj"
LORA = {
    f"base_model.model.{MODULE}.lora_A.weight": np.zeros((4, 5), np.float32),
    f"base_model.model.{MODULE}.lora_B.weight": np.zeros((6, 4), np.float32),
}
RULE = Controls(("<|im_end|>",), ("<think>",), "\u200b").to_json()
RENDERING = {
    "render": "sft", "system": None, "chat_template_kwargs": {"enable_thinking": True},
    "controls": RULE, "loss_on": "assistant",
}  # fmt: skip


def made(
    tmp_path: Path,
    rendering: dict[str, Any] | None,
    *,
    data: bool = True,
    adapters: Sequence[dict[str, Any]] = (),
    heads: Sequence[dict[str, Any]] = (),
    precision: float | None = 0.9,
    **more: Any,
) -> dict[str, Any]:
    """bundle.json of a base alone, prepared as ``rendering`` says, and of ``more`` inputs."""
    base, prepared, out = (tmp_path / name for name in ("objects/base", "data", "work/a/b/out"))
    for folder in (base, prepared, out):
        folder.mkdir(parents=True, exist_ok=True)
    (base / "config.json").write_text("{}")
    save_file({f"{MODULE}.weight": np.zeros((6, 5), np.float32)}, base / "model.safetensors")
    if rendering is not None:
        (prepared / "render.json").write_text(json.dumps(rendering))
    inputs: dict[str, Any] = {"root": artifact(base, "abc"), **more}
    if data:
        inputs["data"] = artifact(prepared, "def")
    config = {
        "name": "x", "base": {"name": "base", "level": "L0"}, "adapters": list(adapters),
        "heads": list(heads), "target_precision": precision, **serve(8),
        "system": "Be brief.",
        "chat_template_kwargs": {"old": 1},
        "ungated": True,
    }  # fmt: skip
    context: Any = SimpleNamespace(out=out)
    assert MakeBundle().run(inputs, config, context)["models"] == 1 + len(adapters) + len(heads)
    found: dict[str, Any] = json.loads((out / "bundle.json").read_text())
    # Wherever the store lies, what was written can be read.
    (out / "bundle.json").write_text(
        json.dumps({**found, "base": {**found["base"], "path": str(base)}})
    )
    assert read_bundle(out).controls == Controls.from_json(
        found["controls"] or Controls().to_json()
    )
    return found


def test_the_rule_and_the_templates_arguments_come_from_the_prepared_data(tmp_path: Path) -> None:
    found = made(tmp_path, RENDERING)
    assert found["controls"] == RULE
    assert found["chat_template_kwargs"] == {"enable_thinking": True}
    assert found["system"] == "Be brief."


def test_data_that_was_rendered_as_text_says_nothing_of_arguments(tmp_path: Path) -> None:
    found = made(tmp_path, {**RENDERING, "render": "text", "chat_template_kwargs": {}})
    assert found["controls"] == RULE
    assert found["chat_template_kwargs"] == {"old": 1}


@pytest.mark.parametrize("data", [True, False])
def test_where_nothing_was_rendered_the_recipe_is_taken(tmp_path: Path, data: bool) -> None:
    found = made(tmp_path, None, data=data)
    assert found["controls"] is None
    assert found["chat_template_kwargs"] == {"old": 1}


def report(folder: Path, title: str) -> Artifact:
    folder.mkdir()
    tree = {"title": title, "comparison": {"gates": []}}
    (folder / "report.json").write_text(json.dumps(tree))
    (folder / "README.md").write_text(f"# {title}\n")
    return artifact(folder, title)


def test_the_card_is_that_of_the_recipe_itself(tmp_path: Path) -> None:
    reports = {
        f"report{index}": report(tmp_path / title, title)
        for index, title in enumerate(["below", "x"])
    }
    made(tmp_path, None, **reports)
    assert (tmp_path / "work/a/b/out/README.md").read_text() == "# x\n"


def test_a_bundle_is_refused_with_the_gate_that_failed(tmp_path: Path) -> None:
    folder = report(tmp_path / "own", "x")
    gates = [{"status": s, "text": f"{s} one"} for s in ("undecided", "pass", "fail", "undecided")]
    (folder.path / "report.json").write_text(json.dumps({"comparison": {"gates": gates}}))
    inputs: Any = {"root": artifact(tmp_path, "abc"), "report0": folder}
    context: Any = SimpleNamespace(out=tmp_path)
    with pytest.raises(GateFailed) as refused:
        MakeBundle().run(inputs, {"name": "x", "ungated": False}, context)
    told = "x: fail one (and 2 more gates did not pass); serve it anyway with --ungated"
    assert str(refused.value) == told


def test_temperatures_of_the_served_seed_stand_in_the_manifest(tmp_path: Path) -> None:
    def row(name: str, arm: str, role: str, values: list[float] | None) -> dict[str, Any]:
        calibration = {"temperatures": values} if values else None
        return {"name": name, "arm": arm, "role": role, "calibration": calibration}

    rows = [
        row("x", "likelihood", "model", [1.5, 9.0]), row("x", "generate", "model", None),
        row("x", "constrained", "control", [7.0]), row("below", "likelihood", "model", [2.0]),
    ]  # fmt: skip
    own = report(tmp_path / "own", "x")
    (own.path / "report.json").write_text(
        json.dumps({"title": "x", "comparison": {"gates": [], "arms": rows}})
    )
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4})
    )
    save_file(LORA, adapter / "adapter_model.safetensors")
    given = artifact(adapter, "0123456789", rank=4)
    found = made(
        tmp_path, RENDERING, adapters=[{"name": "x", "level": "L2"}],
        **{"adapter.x": given, "report0": own},
    )  # fmt: skip
    (told,) = found["adapters"]
    assert told["temperatures"] == {"likelihood": 1.5}
    (read,) = read_bundle(tmp_path / "work/a/b/out").adapters
    assert read.temperatures == {"likelihood": 1.5}


def test_without_a_report_of_its_own_a_bundle_has_no_card(tmp_path: Path) -> None:
    made(tmp_path, None, report0=report(tmp_path / "below", "below"))
    assert not (tmp_path / "work/a/b/out/README.md").exists()


def test_the_recipes_own_template_travels_and_the_engine_is_told(tmp_path: Path) -> None:
    template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data/chat_template.jinja").write_text(template)
    assert made(tmp_path, RENDERING)["chat_template"] == "chat_template.jinja"
    bundle = read_bundle(tmp_path / "work/a/b/out")
    assert bundle.chat_template is not None
    assert bundle.chat_template.read_text() == template
    home = EngineHome(tmp_path, "cpu", "0.32.0", True)
    command = command_line(bundle, home, {}, 1)
    assert command[command.index("--chat-template") + 1] == str(bundle.chat_template)
    bundle.chat_template.unlink()
    with pytest.raises(ModelError, match="chat_template"):
        read_bundle(bundle.root)


def head_artifact(folder: Path) -> Artifact:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(LORA, folder / "adapter_model.safetensors")
    for name in ("head.json", "head.safetensors"):
        (folder / name).write_bytes(b"x")
    return artifact(folder, "12345678abc", rank=4)


def report_of_head(folder: Path) -> Artifact:
    folder.mkdir()
    row = {
        "name": "x-classifier", "role": "model", "arm": "classifier",
        "calibration": {"temperatures": [1.6, 2.0]},
        "selective": {
            "validation": {"items": 9, "confidence": 0.5, "labels": {"a": 1.0}},
            "targets": [
                {"precision": 0.9, "thresholds": [0.55, 0.7], "abstained": 0.25},
                {"precision": 0.95, "thresholds": None, "abstained": None},
            ],
        },
    }  # fmt: skip
    gates = [{"status": "pass", "text": "good"}]
    tree = {"title": "x", "comparison": {"arms": [row], "gates": gates}}
    (folder / "report.json").write_text(json.dumps(tree))
    return artifact(folder)


@pytest.mark.parametrize(("precision", "threshold"), [(0.9, 0.55), (0.95, None), (None, None)])
def test_a_head_travels_with_what_validation_said_of_the_served_seed(
    tmp_path: Path, precision: float | None, threshold: float | None
) -> None:
    more = {
        "head.x-classifier": head_artifact(tmp_path / "head"),
        "report0": report_of_head(tmp_path / "report"),
    }
    heads = ({"name": "x-classifier", "level": "L2", "rank": 4},)
    made(tmp_path, RENDERING, heads=heads, precision=precision, **more)
    (head,) = read_bundle(tmp_path / "work/a/b/out").heads
    assert (head.temperature, head.threshold) == (1.6, threshold)
    assert head.path.name == "x-classifier-12345678"
    assert head.validation is not None
    assert head.validation["labels"] == {"a": 1.0}
    assert head.validation.get("abstained") == (0.25 if threshold else None)
