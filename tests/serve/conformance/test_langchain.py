"""langchain-openai 1.7.4 under langchain-tests 1.1.9: each standard test ends alike on both sides.

Run: make conformance
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.sides import Sides
from conformance.suites import langchain, require_suites

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(1800)]


def test_both_fail_the_same_standard_tests(sides: Sides, tmp_path: Path) -> None:
    require_suites()
    bare, through = (langchain(url, tmp_path) for url in (sides.bare, sides.through))
    assert through == bare
    passed = [test for test, came in through.items() if came == "passed"]
    # What fails fails for the model's answers, which are always the same ones.
    assert len(passed) > 60, sorted(through.items())
