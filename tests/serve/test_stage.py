"""The bundle repeats what `prepare` wrote down of its rendering."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.core.controls import Controls
from pipeline.core.errors import GateFailed
from serve.bundle import read_bundle
from serve.stage import MakeBundle

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
    **more: Any,
) -> dict[str, Any]:
    """bundle.json of a base alone, prepared as ``rendering`` says, and of ``more`` inputs."""
    base, prepared, out = (tmp_path / name for name in ("objects/base", "data", "work/a/b/out"))
    for folder in (base, prepared, out):
        folder.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "model.safetensors").write_bytes(b"x")
    if rendering is not None:
        (prepared / "render.json").write_text(json.dumps(rendering))
    inputs: dict[str, Any] = {"root": SimpleNamespace(path=base, digest="abc"), **more}
    if data:
        inputs["data"] = SimpleNamespace(path=prepared, digest="def")
    config = {
        "name": "x", "adapters": list(adapters), "base": {"name": "base", "level": "L0"},
        "max_model_len": 8, "system": "Be brief.", "chat_template_kwargs": {"old": 1},
        "ungated": True,
    }  # fmt: skip
    context: Any = SimpleNamespace(out=out)
    assert MakeBundle().run(inputs, config, context)["models"] == 1 + len(adapters)
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


def report(folder: Path, title: str) -> SimpleNamespace:
    folder.mkdir()
    tree = {"title": title, "comparison": {"gates": []}}
    (folder / "report.json").write_text(json.dumps(tree))
    (folder / "README.md").write_text(f"# {title}\n")
    return SimpleNamespace(path=folder, digest=title)


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
    inputs: Any = {"root": SimpleNamespace(path=tmp_path, digest="abc"), "report0": folder}
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
    (adapter / "adapter_model.safetensors").write_bytes(b"x")
    facts = SimpleNamespace(facts={"rank": 4})
    given = SimpleNamespace(path=adapter, digest="0123456789", manifest=facts)
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
