"""Speed of generated text, measured on the real engines behind the gateway."""

from __future__ import annotations

from typing import Any

import pytest

from eval.text.speed import speed


def require_sound(found: dict[str, Any], tokens: int) -> None:
    assert found["tokens_by"] == "the endpoint"
    for level in found["levels"]:
        assert level["failed"] == 0
        assert 0 < level["first_token_p50_s"] <= level["first_token_p95_s"]
        assert level["between_tokens_p50_s"] > 0
        # All tokens of one stream take at least the time between the first and the last.
        alone = tokens / (level["first_token_p50_s"] + (tokens - 1) * level["between_tokens_p50_s"])
        assert level["tokens_per_s"] < 3 * alone * level["concurrency"]


@pytest.mark.engine
def test_vllm_is_measured_alone_and_under_load(vllm_server: Any) -> None:
    questions = ["My card was declined", "How do I top up?", "A transfer is late"]
    found = speed(f"{vllm_server.url}/v1", questions, model="demo-l2", max_tokens=16, levels=(1, 8))
    require_sound(found, 16)
    alone, many = found["levels"]
    assert many["tokens_per_s"] > alone["tokens_per_s"]


def test_transformers_is_measured(transformers_server: Any) -> None:
    url = f"{transformers_server.url}/v1"
    found = speed(url, ["My card was declined"], model="demo-l1", max_tokens=6, levels=(1,))
    require_sound(found, 6)
