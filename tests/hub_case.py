"""What the hub's tests share: one small repository, and an environment that points at it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.core.errors import GradusError

MODEL = "acme/tiny"
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB
FILES = {
    "README.md": b"# tiny\n",
    "config.json": b'{"model_type": "qwen3"}\n',
    "model.safetensors": WEIGHTS,
    "sub folder/tokenizer [1].json": b"{}",
}


def point_at(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Makes ``endpoint`` the hub, asked without a token."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    # Not the developer's own token, wherever it lies.
    monkeypatch.setenv("HF_TOKEN_PATH", os.devnull)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", os.devnull)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def one_line(caught: pytest.ExceptionInfo[GradusError]) -> str:
    """The message, which is one line."""
    message = str(caught.value)
    assert "\n" not in message
    return message
