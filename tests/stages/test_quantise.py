"""Stage `quantise`: its environment, and the real llm-compressor on a tiny model.

The real one takes a minute: ``pytest -m long tests/stages/test_quantise.py``, after
``gradus export install``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, EngineError, ModelError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import write_split
from pipeline.stages.quantise import Quantise
from pipeline.stages.quantise_install import export_environment, lock_file

WIDTH, VOCABULARY = 128, 64
FP8 = {"scheme": "fp8", "dtype": "bfloat16"}
AWQ = {"scheme": "awq", "dtype": "float16", "calibration_rows": 8, "seed": 0}
E4M3_LARGEST = 448.0


@pytest.fixture
def real() -> None:
    if not export_environment().is_current():
        pytest.skip("llm-compressor is not installed; run `gradus export install` first")


def make_model(folder: Path, width: int = WIDTH) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=2 * width,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        max_position_embeddings=64, tie_word_embeddings=False, initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = Qwen3ForCausalLM(config)
    model.save_pretrained(folder)
    words = models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0")  # noqa: S106
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), eos_token="w1")  # noqa: S106
    tokenizer.save_pretrained(folder)
    return folder


def make_data(folder: Path, rows: int = 12) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(1)
    write_split(
        folder / "train.arrow",
        (
            {
                "example_id": f"r{i}", "text": "", "supervised": [True] * 16,
                "input_ids": torch.randint(0, VOCABULARY, (16,), generator=generator).tolist(),
            }
            for i in range(rows)
        ),
    )  # fmt: skip
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    return folder


def quantised(tmp_path: Path, config: dict[str, Any], width: int = WIDTH, rows: int = 12) -> Path:
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    work.mkdir()
    inputs: dict[str, Artifact] = {
        "root": SimpleNamespace(path=make_model(tmp_path / "model", width)),  # type: ignore[dict-item]
        "data": SimpleNamespace(path=make_data(tmp_path / "data", rows)),  # type: ignore[dict-item]
    }
    context = StageContext(out, work, {"threads": 1}, {}, lambda _event: None)
    facts = Quantise().run(inputs, config, context)
    assert facts["scheme"] == config["scheme"]
    return out


def test_the_lock_pins_every_package_with_its_hash_and_names_no_place() -> None:
    text = lock_file().read_text()
    pins = re.findall(r"^([\w.-]+)==[\w.]+ \\\n    --hash=sha256:[0-9a-f]{64}$", text, re.M)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(pins) * 2 == len(lines)
    assert {"llmcompressor", "compressed-tensors", "torch", "transformers"} <= set(pins)
    assert "://" not in text


def test_what_reads_an_export_is_what_wrote_it() -> None:
    """The trainer's environment evaluates it with the very arithmetic."""
    main = (lock_file().parent / "main.lock").read_text()
    for pin in re.findall(r"^(compressed-tensors==\S+)", lock_file().read_text(), re.M):
        assert f"\n{pin}\n" in main


def test_a_missing_environment_is_told_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADUS_EXPORT_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match=r"not installed; run `gradus export install` first"):
        quantised(tmp_path, FP8)


@pytest.mark.long
@pytest.mark.usefixtures("real")
def test_fp8_weights_are_the_nearest_and_the_vocabulary_head_stays(tmp_path: Path) -> None:
    out = quantised(tmp_path, FP8)
    before = load_file(tmp_path / "model/model.safetensors")
    after = load_file(out / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    # Of each row's largest weight, by the definition of the format.
    weight = before[name].to(torch.bfloat16).float()
    scale = weight.abs().amax(1, keepdim=True) / E4M3_LARGEST
    assert after[name].dtype == torch.float8_e4m3fn
    torch.testing.assert_close(after[f"{name}_scale"].float(), scale, rtol=1e-2, atol=0)
    found = after[name].float() * after[f"{name}_scale"].float()
    # Three bits behind the point: half of 2^-3.
    assert (
        (found - weight).abs() <= weight.abs() * 2**-4 + scale * 2**-9 + 1e-6
    ).float().mean() > 0.99
    torch.testing.assert_close(after["lm_head.weight"], before["lm_head.weight"].to(torch.bfloat16))
    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not (out / "recipe.yaml").exists()
    assert str(tmp_path) not in "".join(p.read_text() for p in out.glob("*.json"))


@pytest.mark.long
@pytest.mark.usefixtures("real")
def test_evaluation_rounds_activations_as_an_engine_does(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="`make setup` installs it")
    from pipeline.modeling.loading import load_model

    model = load_model(quantised(tmp_path, FP8))
    layer, seen = model.model.layers[0].mlp.up_proj, {}
    layer.register_forward_hook(lambda _m, given, made: seen.update(x=given[0], y=made))
    with torch.no_grad():
        model(input_ids=torch.arange(12)[None])
    states = seen["x"][0]
    scale = states.abs().amax(1, keepdim=True) / E4M3_LARGEST
    rounded = (states / scale).to(torch.float8_e4m3fn).float() * scale
    wanted, unrounded = rounded @ layer.weight.T, states @ layer.weight.T
    found = seen["y"][0]
    assert (found - wanted).abs().max() < 0.1 * (found - unrounded).abs().max()


@pytest.mark.long
@pytest.mark.usefixtures("real")
def test_awq_packs_four_bits_and_stays_near_the_model(tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors", reason="`make setup` installs it")
    from pipeline.modeling.loading import load_model

    out = quantised(tmp_path, AWQ)
    tree = json.loads((out / "config.json").read_text())["quantization_config"]
    weights = tree["config_groups"]["group_0"]["weights"]
    assert (weights["num_bits"], weights["group_size"], weights["type"]) == (4, 128, "int")
    assert tree["ignore"] == ["lm_head"]
    ids = torch.arange(24)[None]
    model = load_model(tmp_path / "model")
    with torch.no_grad():
        before, after = (each(input_ids=ids).logits for each in (model, load_model(out)))
        round_to_nearest(model)
        plain = model(input_ids=ids).logits
    assert 0 < (after - before).norm() < 1.1 * (plain - before).norm()


def round_to_nearest(model: Any) -> None:
    """What AWQ is to better: each weight to the nearest of 16 steps of its group."""
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            groups = module.weight.data.reshape(-1, 128)
            scale = 2 * groups.abs().amax(1, keepdim=True) / 15
            module.weight.data = ((groups / scale).round().clamp(-8, 7) * scale).view_as(
                module.weight
            )


@pytest.mark.long
@pytest.mark.usefixtures("real")
def test_a_width_that_no_group_divides_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"export.scheme: awq: no group of .* take fp8"):
        quantised(tmp_path, AWQ, width=48)


def test_awq_without_training_rows_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.environments.LockedEnvironment.is_current", lambda _e: True)
    with pytest.raises(DataError, match=r"no training rows to calibrate with; take fp8"):
        quantised(tmp_path, AWQ, rows=0)
