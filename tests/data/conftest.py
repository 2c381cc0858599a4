"""A base without weights that count, once for all tests of rows."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.core.artifact import Artifact
from pipeline.modeling.loading import load_tokenizer
from tests.data.preparing import tiny_base


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


@pytest.fixture(scope="session")
def tokenizer(root: Artifact) -> Any:
    return load_tokenizer(root.path)
