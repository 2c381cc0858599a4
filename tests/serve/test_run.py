"""`serve` before any engine starts: what it refuses, and that it refuses at once."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import EngineError, GradusError, UserError
from serve.assembly import Serving
from serve.bundle import read_bundle
from serve.engine import choose_engine
from serve.run import serve
from serve.transformers_engine import TransformersEngine


def test_a_port_in_use_is_one_line_and_no_engine_starts(family: Any) -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port}: in use"):
            serve(family.bundle, Serving(engine="transformers", port=port), said.append)
    assert said == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])  # noqa: S104
def test_a_host_that_others_reach_needs_a_key(family: Any, host: str) -> None:
    with pytest.raises(UserError, match="--api-key"):
        serve(family.bundle, Serving(host=host, port=0))


def test_an_address_of_another_machine_is_one_line(family: Any) -> None:
    with pytest.raises(UserError, match="cannot listen"):
        serve(family.bundle, Serving(host="192.0.2.7", port=0, api_key="k"))


def test_auto_takes_transformers_where_vllm_is_not_installed(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADUS_ENGINE_HOME", str(tmp_path))
    bundle = read_bundle(family.bundle)
    engine = choose_engine(bundle, "auto")
    assert isinstance(engine, TransformersEngine)
    engine.stop()
    with pytest.raises(EngineError, match="gradus engine install"):
        choose_engine(bundle, "vllm")


def test_an_engine_that_dies_at_start_shows_its_last_words(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A base that no engine can load: its weights are cut off.
    bundle = read_bundle(family.bundle)
    engine = TransformersEngine(bundle)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    try:
        engine.start()
        with pytest.raises(GradusError, match="died at start; its log ends"):
            engine.wait_ready(20)
    finally:
        engine.stop()


def test_importing_run_is_light() -> None:
    """The command line imports it for `serve --help`."""
    code = "import sys, serve.run; print([m for m in sys.modules if m in (%r, %r, %r, %r)])"
    heavy = ("fastapi", "torch", "aiohttp", "uvicorn")
    done = subprocess.run(
        [sys.executable, "-c", code % heavy],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"do_sample": True, "top_k": 0, "max_new_tokens": 128}),
        ({"temperature": 0}, {"do_sample": False}),
        ({"max_completion_tokens": 5}, {"max_new_tokens": 5}),
        ({"max_tokens": 10**6}, {"max_new_tokens": 128}),
        ({"stop_token_ids": [9, 2]}, {"eos_token_id": [2, 9]}),
    ],
)
def test_transformers_engine_says_generation_in_its_own_words(
    family: Any, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    import json

    engine = TransformersEngine(read_bundle(family.bundle))
    body = engine.request({"model": "m", "messages": [], **given})
    engine.stop()
    config = json.loads(body["generation_config"])
    assert {key: config[key] for key in expected} == expected
    assert set(body) <= {
        *("model", "messages", "max_tokens", "temperature", "generation_config"),
    }


def test_vllm_command_line_has_a_spare_slot_and_a_rank_that_vllm_takes(family: Any) -> None:
    from serve.engine_install import EngineHome
    from serve.vllm_engine import command_line, slot_rank

    bundle = read_bundle(family.bundle)
    home = EngineHome(Path("/home/engine"), "cpu", "0.32.0+cpu", current=True)
    adapters = {adapter.name: Path("/x") / adapter.name for adapter in bundle.adapters}
    line = command_line(bundle, home, adapters, 9)

    def after(option: str) -> str:
        return line[line.index(option) + 1]

    assert (after("--max-loras"), after("--max-lora-rank")) == ("3", "16")
    assert after("--host") == "127.0.0.1"
    assert "--enforce-eager" in line
    assert "--enable-lora" not in command_line(bundle, home, {}, 9)
    ranks: Callable[[int], int] = slot_rank
    assert [ranks(rank) for rank in (1, 2, 16, 17, 129, 321)] == [1, 8, 16, 32, 256, 512]
    with pytest.raises(GradusError, match="512"):
        slot_rank(513)
