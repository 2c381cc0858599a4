"""How much room a base has, as vLLM derives it; a recipe that serves more is refused in plan."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.context_length import context_length, require_room
from pipeline.core.errors import ModelError
from serve.engine_install import find_home

ROPE = {"rope_theta": 10000.0}
CONFIGS: dict[str, tuple[dict[str, Any], int]] = {
    "plain": ({"max_position_embeddings": 512}, 512),
    "the smallest counts": ({"max_position_embeddings": 512, "max_seq_len": 256}, 256),
    "linear": (
        {"max_position_embeddings": 512, "rope_scaling": {"type": "linear", "factor": 4.0}}, 2048,
    ),
    "linear, new words": (
        {"max_position_embeddings": 512,
         "rope_parameters": {**ROPE, "rope_type": "linear", "factor": 2.0}}, 1024,
    ),
    "dynamic": (
        {"max_position_embeddings": 512,
         "rope_parameters": {**ROPE, "rope_type": "dynamic", "factor": 2.0}}, 1024,
    ),
    "yarn is scaled already": (
        {"max_position_embeddings": 2048, "rope_parameters": {
            **ROPE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}},
        2048,
    ),
    "llama3 is scaled already": (
        {"max_position_embeddings": 4096, "rope_parameters": {
            **ROPE, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 512}},
        4096,
    ),
    "its own key above all": ({"max_position_embeddings": 512, "model_max_length": 900}, 900),
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 64, "vocab_size": 300, "torch_dtype": "float32",
}  # fmt: skip
# What vLLM itself derives, and that it refuses one token more.
ASK = """
import json, sys
from vllm.config import ModelConfig
for folder in sys.argv[1:]:
    length = ModelConfig(folder, skip_tokenizer_init=True).max_model_len
    try:
        ModelConfig(folder, skip_tokenizer_init=True, max_model_len=length + 1)
        told = "takes more"
    except ValueError:
        told = "refuses more"
    print(json.dumps([folder, length, told]))
"""


@pytest.mark.parametrize(("config", "room"), CONFIGS.values(), ids=CONFIGS)
def test_room_follows_from_the_config(config: dict[str, Any], room: int) -> None:
    found = context_length(config)
    assert found is not None
    assert found.tokens == room


def test_of_a_config_that_does_not_say_nothing_is_held(tmp_path: Path) -> None:
    assert context_length({"vocab_size": 5}) is None
    (tmp_path / "config.json").write_text("{}")
    require_room(tmp_path, 10**6)


def test_a_text_model_inside_another_says_it() -> None:
    found = context_length({"text_config": {"max_position_embeddings": 64}})
    assert found is not None
    assert found.tokens == 64


def test_more_than_the_room_is_refused_with_value_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    require_room(tmp_path, 512)
    with pytest.raises(ModelError) as refused:
        require_room(tmp_path, 513)
    assert str(refused.value) == (
        "serve.max_model_len: 513 tokens, and the base has room for 512 (max_position_embeddings "
        "512), where its engine would not start; set 512 at most, or leave it out"
    )


@pytest.mark.engine
def test_vllm_derives_the_same_room_and_refuses_one_token_more(tmp_path: Path) -> None:
    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed: `gradus engine install`")
    folders = []
    for number, (config, _) in enumerate(CONFIGS.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**LLAMA, **config}))
        folders.append(str(folder))
    found = subprocess.run(
        [str(home.python), "-c", ASK, *folders], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_PLUGINS": ""},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    told = [json.loads(line) for line in found.stdout.splitlines() if line.startswith('["')]
    rooms = [room for _, room in CONFIGS.values()]
    assert told == [
        [folder, room, "refuses more"] for folder, room in zip(folders, rooms, strict=True)
    ]


@pytest.mark.parametrize("value", ["129", "1000000"])
def test_a_recipe_that_serves_more_than_its_base_has_is_refused_in_plan(
    refusal: Callable[..., str], ladder: Path, value: str
) -> None:
    told = refusal("plan", ladder, "--no-price", "--set", f"serve.max_model_len={value}")
    assert "serve.max_model_len" in told
    assert f"{value} tokens, and the base has room for 128" in told
    assert "set 128 at most" in told


def test_a_stop_id_that_the_base_has_not_is_refused_in_plan(
    refusal: Callable[..., str], ladder: Path
) -> None:
    told = refusal("plan", ladder, "--no-price", "--set", "serve.stop_token_ids=[7,100000]")
    assert "serve.stop_token_ids: 100000: the base has" in told
