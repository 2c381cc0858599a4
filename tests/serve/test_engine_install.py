"""The installer's own logic, with stub interpreters; vLLM itself is in test_vllm_engine."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.core import environments
from pipeline.core.errors import EngineError, UserError
from serve import engine_install
from serve.engine_install import install_engine, lock_file, read_home

# Stands in for the environment's python: pip does nothing, and the probe answers as told.
STUB_PYTHON = """#!/bin/sh
if [ "$2" = pip ]; then echo "$@" >> "{calls}"; exit {pip}; fi
echo '{{"vllm": "0.32.0+cpu", "module": "0.32.0", "torch": "2.13.0", "cuda": {cuda}}}'
exit {probe}
"""


@pytest.fixture
def stub_home(tmp_path: Path) -> Any:
    def make(pip: int = 0, probe: int = 0, cuda: str = "null") -> Path:
        home = tmp_path / "home"
        (home / "bin").mkdir(parents=True, exist_ok=True)
        (home / "lib" / "python3.11" / "site-packages").mkdir(parents=True, exist_ok=True)
        python = home / "bin" / "python"
        script = STUB_PYTHON.format(calls=tmp_path / "calls", pip=pip, probe=probe, cuda=cuda)
        python.write_text(script)
        python.chmod(0o755)
        return home

    return make


def test_a_second_install_runs_nothing(stub_home: Any, tmp_path: Path) -> None:
    home = stub_home()
    install_engine("cpu", home, echo=lambda _: None)
    calls = (tmp_path / "calls").read_text()
    assert "install --no-deps" in calls
    install_engine("cpu", home, echo=lambda _: None)
    assert (tmp_path / "calls").read_text() == calls


def test_a_changed_lock_makes_the_environment_stale(stub_home: Any) -> None:
    home = stub_home()
    install_engine("cpu", home, echo=lambda _: None)
    marker = home / engine_install.MARKER
    found = read_home(home)
    assert found is not None
    assert found.current
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "lock_sha256": "0" * 64}))
    stale = read_home(home)
    assert stale is not None
    assert not stale.current


@pytest.mark.parametrize(
    ("stub", "word"),
    [({"probe": 1}, "does not import"), ({"cuda": '"13.0"'}, "CUDA build"), ({"pip": 1}, "pip")],
)
def test_an_install_that_failed_leaves_no_marker(
    stub_home: Any, stub: dict[str, Any], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = stub_home(**stub)
    # Without a working pip the installer would make a real virtual environment over the stub.
    monkeypatch.setattr(environments, "_works", lambda _command: True)
    with pytest.raises(EngineError, match=word):
        install_engine("cpu", home, echo=lambda _: None)
    assert read_home(home) is None


def test_the_cpu_build_gets_its_name(stub_home: Any) -> None:
    import importlib.metadata

    home = stub_home()
    install_engine("cpu", home, echo=lambda _: None)
    site = home / "lib" / "python3.11" / "site-packages"
    (found,) = importlib.metadata.distributions(path=[str(site)])
    assert (found.name, found.version) == ("vllm", "0.32.0+cpu")


def test_another_device_is_refused() -> None:
    wrong: Any = "tpu"
    with pytest.raises(UserError, match="cpu or cuda"):
        install_engine(wrong)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_lock_pins_every_package_and_names_no_place(device: Any) -> None:
    lines = lock_file(device).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+( ; .+)?", pin) for pin in pins)
    assert len(pins) > 100
    assert any(pin.startswith("vllm") and "==0.32.0" in pin for pin in pins)
    assert not any("://" in line or " /" in line for line in lines)


@pytest.mark.engine
def test_the_installed_engine_is_what_the_lock_says() -> None:
    home = engine_install.find_home()
    if home is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    assert home.current
    assert home.vllm.startswith("0.32.0")
