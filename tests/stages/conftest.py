"""What tests of stages share: a tiny base, and a folder for the augment stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.artifact import Artifact
from tests.data.preparing import tiny_base
from tests.stages.augment_case import Case


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A base's tokenizer and configuration."""
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """Rows in a folder of their own, and the augment stage over them."""
    return Case(tmp_path)
