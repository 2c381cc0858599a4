"""`serve` before any engine starts: what it refuses, and that it refuses at once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.core.errors import EngineError, GradusError, UserError
from serve.assembly import Serving
from serve.bundle import read_bundle
from serve.engine import choose_engine
from serve.keys import add_key
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
    assert not [line for line in said if "starting" in line]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.com"])  # noqa: S104
def test_a_host_that_others_reach_needs_a_key(family: Any, host: str) -> None:
    with pytest.raises(UserError, match="--api-key"):
        serve(family.bundle, Serving(host=host, port=0))


def test_an_address_of_another_machine_is_one_line(family: Any) -> None:
    with pytest.raises(UserError, match="cannot listen"):
        serve(family.bundle, Serving(host="192.0.2.7", port=0, api_key="k"))


class Never:
    """An engine that must not be started, or that cannot be."""

    name, base_url, log_path = "transformers", "http://127.0.0.1:9", None
    models: ClassVar[dict[str, str]] = {"demo-l0": "demo-l0"}

    def __init__(self) -> None:
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        raise EngineError("engine: cannot be started")

    def stop(self) -> None:
        """Nothing runs."""


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Never:
    engine = Never()
    monkeypatch.setattr("serve.run.engines_of", lambda *_: [engine])
    return engine


def _bad_keys(folder: Path) -> dict[str, Any]:
    (folder / "keys.json").write_text('{"keys": [{"id": 1}]}')
    return {"keys": folder / "keys.json"}


def _bad_usage(folder: Path) -> dict[str, Any]:
    (folder / "usage.db").write_bytes(b"no database, but long enough to be looked at" * 99)
    return {"usage_url": f"sqlite:///{folder / 'usage.db'}"}


def _bad_releases(folder: Path) -> dict[str, Any]:
    (folder / "releases.json").write_text("[]")
    return {"releases": folder / "releases.json"}


@pytest.mark.parametrize(
    "settings",
    [
        _bad_keys,
        _bad_usage,
        _bad_releases,
        lambda folder: {"keys": folder / "nowhere.json"},
        lambda folder: {"access_log": folder},
        lambda _: {"usage_url": "mysql://x/y"},
        lambda folder: {"usage_url": f"sqlite:///{folder}/no/such/folder/usage.db"},
    ],
)
def test_a_file_that_will_not_do_is_told_before_an_engine_is_started(
    family: Any, tmp_path: Path, never: Never, settings: Callable[[Path], dict[str, Any]]
) -> None:
    with pytest.raises(UserError):
        serve(family.bundle, Serving(port=0, **settings(tmp_path)))
    assert never.starts == 0
    assert not _open(tmp_path)


def _open(folder: Path) -> set[str]:
    """What of a folder this process holds open, and the threads that would write there."""
    links = {os.path.realpath(fd) for fd in Path("/proc/self/fd").iterdir()}
    threads = {thread.name for thread in threading.enumerate()}
    return {link for link in links if link.startswith(str(folder))} | (
        threads & {"usage", "access-log"}
    )


def test_what_was_opened_is_closed_where_the_start_fails(
    family: Any, tmp_path: Path, never: Never
) -> None:
    add_key(tmp_path / "keys.json", "ada")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = Serving(
        port=port, keys=tmp_path / "keys.json", access_log=tmp_path / "log",
        usage_url=f"sqlite:///{tmp_path / 'usage.db'}",
    )  # fmt: skip
    with pytest.raises(EngineError, match="cannot be started"):
        serve(family.bundle, settings)
    assert never.starts == 1
    assert (tmp_path / "log").exists()
    assert (tmp_path / "usage.db").exists()
    assert not _open(tmp_path)
    with socket.socket() as again:
        again.bind(("127.0.0.1", port))


@pytest.mark.parametrize("key", ["", " ", " sk-x", "sk-x ", "sk\nx", "sk\0x"])
def test_a_key_that_no_client_can_send_is_refused(family: Any, key: str) -> None:
    with pytest.raises(UserError, match="--api-key"):
        serve(family.bundle, Serving(port=0, api_key=key))


def test_one_key_beside_a_file_of_keys_is_refused(family: Any, tmp_path: Path) -> None:
    add_key(tmp_path / "keys.json", "ada")
    settings = Serving(port=0, api_key="sk-x", keys=tmp_path / "keys.json")
    with pytest.raises(UserError, match="--api-key beside --keys"):
        serve(family.bundle, settings)


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
