"""llm-comply 0.5.0: the gateway fails no check that the bare engine passes, and the same otherwise.

Run: make conformance
"""

from __future__ import annotations

import pytest
from conformance.sides import Sides
from conformance.suites import llm_comply, require_suites

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(1800)]
# What the engine fails and the gateway does not.
_BETTER = {
    "openai-chat": {"chat-error-handling": "a request without a model is answered by the engine"},
    "open-responses": {
        "error-handling": "a request without a model is answered by the engine",
        "compact-response": "the engine answers 405 on a route that neither has, the gateway 404",
        "compact-missing-model": "the same",
    },
}


@pytest.mark.parametrize("form", list(_BETTER))
def test_both_fail_the_same_checks_for_the_same_reasons(sides: Sides, form: str) -> None:
    require_suites()
    bare, through = (llm_comply(url, form) for url in (sides.bare, sides.through))
    assert bare.keys() == through.keys()
    better = _BETTER[form]
    assert {check for check in better if bare[check] and not through[check]} == set(better)
    for check in bare.keys() - better.keys():
        assert through[check] == bare[check], check
