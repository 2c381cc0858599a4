"""The real vLLM pools the states that a head was trained on: the same logits as offline."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tiny_family import HEAD, Family, make_headed

from serve.bundle import Bundle, read_bundle
from serve.engine import head_engines
from serve.heads import Head, read_head

pytestmark = pytest.mark.engine
TEXTS = ["My card was declined", "How do I top up?", "a", "So it goes, " * 4]


@pytest.fixture(scope="module", params=["last", "mean"])
def pooled(
    request: Any, family: Family, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Bundle, Any]]:
    from serve.engine_install import find_home
    from serve.vllm_engine import VllmEngine

    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    bundle = read_bundle(make_headed(family, tmp_path_factory.mktemp("headed"), request.param))
    (engine,) = head_engines(bundle, VllmEngine(bundle, home))
    engine.start()
    try:
        engine.wait_ready(300)
        yield bundle, engine
    finally:
        engine.stop()


def states(engine: Any, text: str) -> list[float]:
    body = {
        "model": HEAD, "messages": [{"role": "user", "content": text}],
        "add_generation_prompt": True, "encoding_format": "base64",
    }  # fmt: skip
    answer = requests.post(f"{engine.base_url}/pooling", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    tree = answer.json()
    found: list[float] = np.frombuffer(base64.b64decode(tree["data"][0]["data"]), "<f4").tolist()
    return found


def offline_logits(family: Family, folder: Path, pooling: str, text: str) -> Any:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(family.base)
    base: Any = Qwen3ForCausalLM.from_pretrained(family.base, dtype=torch.float32)
    model: Any = PeftModel.from_pretrained(base, folder).eval()
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )["input_ids"]  # fmt: skip
    with torch.no_grad():
        made = model.base_model.model.model(input_ids=ids).last_hidden_state[0]
    state = made[-1] if pooling == "last" else made.mean(dim=0)
    return (load_file(folder / "head.safetensors")["score.weight"] @ state).numpy()


def test_logits_equal_offline_float32(pooled: tuple[Bundle, Any], family: Family) -> None:
    bundle, engine = pooled
    (about,) = bundle.heads
    head: Head = read_head(about)
    assert engine.models == {HEAD: HEAD}
    for text in TEXTS:
        expected = offline_logits(family, about.path, head.pooling, text)
        np.testing.assert_allclose(head.logits(states(engine, text)), expected, atol=1e-4)


def test_many_at_once_are_not_mixed_up(pooled: tuple[Bundle, Any]) -> None:
    _, engine = pooled
    alone = [states(engine, text) for text in TEXTS]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda text: states(engine, text), TEXTS * 8))
    for index, found in enumerate(together):
        np.testing.assert_allclose(found, alone[index % len(TEXTS)], atol=1e-4)
