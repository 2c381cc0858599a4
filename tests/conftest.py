"""What most tests start from: a store, a ladder of recipes with its rows, a command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from pipeline.core.artifact import Artifact, Kind, Manifest
from pipeline.core.store import Store
from tests.tiny_ladder import write_ladder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in which nothing lies yet."""
    return Store(tmp_path / "store")


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """The L2 recipe of a tiny ladder, with its bases, its control and its rows."""
    folder = tmp_path / "recipes"
    folder.mkdir()
    return write_ladder(folder)


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """What a plan sees of a model: its configuration, and bytes where its weights would be."""
    folder = tmp_path / "model"
    folder.mkdir()
    config = {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 64, "max_position_embeddings": 512,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(64))
    return folder


@pytest.fixture
def commit() -> Callable[..., Artifact]:
    """Puts an artifact with given files into a store, under a key."""

    def put(store: Store, key: str, files: dict[str, bytes], kind: Kind = "Model") -> Artifact:
        draft = store.new_draft(key)
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        return store.commit(draft, Manifest(kind, key, "", "fetch", 1, {}, {}, {}, {}, {}))

    return put


@pytest.fixture
def gradus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line in this process; its store is ``tmp_path/store``."""
    from click.testing import CliRunner

    from pipeline.cli import main

    monkeypatch.setenv("GRADUS_STORE", str(tmp_path / "store"))

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def refusal(gradus: Callable[..., Result]) -> Callable[..., str]:
    """The one line that a refused command ends with: exit code 2, and no traceback."""

    def run(*arguments: str | Path) -> str:
        result = gradus(*arguments)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        lines = result.stderr.splitlines()
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("gradus: ")
        return lines[0].removeprefix("gradus: ")

    return run
