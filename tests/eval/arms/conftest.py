"""A tiny model in its folder, and suites that are prepared for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from choosing_case import SYSTEM, rows_of

from pipeline.core.artifact import Artifact
from tests.data.preparing import prepare, tiny_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A tiny random model with its tokenizer, in a folder."""
    return tiny_model(tmp_path_factory.mktemp("choosing") / "root")


@pytest.fixture(scope="session")
def suites(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same rows, to be answered and to be told by their label; train packed and not."""
    folder = tmp_path_factory.mktemp("suites")
    splits = {"train": rows_of("train", 40), "test": rows_of("test", 9)}
    made = {
        "sft": {"render": "sft", "system": SYSTEM},
        "channel": {"render": "channel"},
        "packed": {"render": "channel", "packing": True},
    }
    return {
        name: prepare(folder / name, base, splits, max_length=200, **config)[0].path
        for name, config in made.items()
    }
