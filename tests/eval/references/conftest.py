"""A base and its data, once for all references."""

from __future__ import annotations

import pytest
from reference_case import make_base, make_data

from pipeline.core.artifact import Artifact


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_base(tmp_path_factory.mktemp("references") / "base")


@pytest.fixture(scope="session")
def data(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_data(tmp_path_factory.mktemp("references") / "data", base)
