"""One engine and one gateway for all suites of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.brief_family import make_brief_family
from conformance.sides import Sides, started


@pytest.fixture(scope="session")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sides]:
    with started(make_brief_family(tmp_path_factory.mktemp("brief"))) as made:
        yield made
