"""A base's own code runs only where the recipe says so; nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from pipeline.core.artifact import Artifact
from pipeline.core.errors import ModelError
from pipeline.core.stage import StageContext
from pipeline.modeling.loading import (
    MARKER,
    allow_own_code,
    decoder_layers,
    load_model,
    load_tokenizer,
    require_loadable,
    runs_own_code,
    save_model,
)
from pipeline.modeling.outline import outline
from pipeline.stages.fetch import Fetch
from pipeline.stages.scratch import train_tokenizer

IDS = torch.arange(8).reshape(1, 8)
CODE = """\
from pathlib import Path

from transformers import Qwen3Config, Qwen3ForCausalLM

Path(r"{trace}").write_text("ran")


class OwnConfig(Qwen3Config):
    model_type = "own_tiny"


class OwnForCausalLM(Qwen3ForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of an architecture that transformers does not know; its code leaves a trace."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    folder = tmp_path / "own"
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["the red ship"], 300)
    model = Qwen3ForCausalLM(
        Qwen3Config(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1,
                    num_attention_heads=2, num_key_value_heads=1, head_dim=16,
                    intermediate_size=48)
    )  # fmt: skip
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_tiny", "architectures": ["OwnForCausalLM"],
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig",
                     "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(CODE.format(trace=tmp_path / "trace"))
    return folder


def fetched(folder: Path, out: Path, **config: Any) -> dict[str, Any]:
    out.mkdir()
    context = StageContext(out, out.parent, {}, {"folder": folder}, lambda _event: None)
    none: dict[str, Artifact] = {}
    return dict(Fetch().run(none, {"folder": True, **config}, context))


def test_own_code_is_refused_by_default_and_nothing_of_it_runs(own: Path, tmp_path: Path) -> None:
    for refused in (
        lambda: fetched(own, tmp_path / "out"),
        lambda: load_model(own),
        lambda: require_loadable(own),
    ):
        with pytest.raises(ModelError, match="trust_remote_code: true") as caught:
            refused()
        assert "modeling_own.py" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


def test_own_code_runs_when_told_and_its_word_goes_with_the_model(
    own: Path, tmp_path: Path
) -> None:
    facts = fetched(own, tmp_path / "out", trust_remote_code=True)
    assert facts["trust_remote_code"] is True
    model = load_model(tmp_path / "out")
    assert type(model).__name__ == "OwnForCausalLM"
    assert (tmp_path / "trace").exists()
    save_model(model, load_tokenizer(tmp_path / "out"), tmp_path / "saved")
    again = load_model(tmp_path / "saved")
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, model(IDS).logits)


def test_a_folder_cannot_allow_its_own_code(own: Path, tmp_path: Path) -> None:
    allow_own_code(own)
    with pytest.raises(ModelError, match="trust_remote_code: true"):
        fetched(own, tmp_path / "out")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"trust_remote_code": "yes"}'])
def test_a_marker_that_is_none_allows_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(text)
    assert not runs_own_code(tmp_path)


def test_pickled_weights_alone_are_refused(own: Path, tmp_path: Path) -> None:
    (own / "model.safetensors").unlink()
    (own / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is pickled") as caught:
        fetched(own, tmp_path / "out", trust_remote_code=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "trace").exists()


def test_layers_are_those_that_the_model_names_and_not_its_longest_list() -> None:
    # A norm of its own for each of 8 heads stands in a list that is longer than that of layers.
    tree = {
        "vocab_size": 64, "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 8, "num_key_value_heads": 8, "qk_layernorm": True,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("stablelm", **tree))
    assert decoder_layers(model) == list(model.model.layers)
    config = {**tree, "model_type": "stablelm", "architectures": ["StableLmForCausalLM"]}
    settings = {"objective": "sft", "method": "full", "precision": "fp32"}
    found = outline(config, settings, length=16)
    assert found.layers == 2
    assert {matrix.layer for matrix in found.matrices if matrix.role == "body"} == {0, 1}
