"""The official client gets through the gateway what it gets from the bare engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
from conformance.openai_checks import CHECKS
from conformance.sides import Sides

pytestmark = pytest.mark.engine
# They say when and which, and not what.
_OWN = {"id", "created", "created_at", "completed_at", "item_id", "call_id"}
# vLLM says it in a stream's last chunk: where usage is asked for, and the gateway always asks,
# in the chunk of usage, which is taken out for a client that did not ask.
_GOES_WITH_USAGE = "system_fingerprint"
# Where the gateway is meant to differ.
_BY_DESIGN = {
    "models: one": "the engine has no such route",
    "chat: error: unknown role": "roles are a closed list; the engine takes any word",
    "chat stream: error: unknown role": "roles are a closed list; the engine takes any word",
    "completion: error: best of several": "the engine takes the field and ignores it",
    "completion stream: error: best of several": "the engine takes the field and ignores it",
    "response: error: an earlier one": "no response is kept, so the field is refused",
    "response stream: error: an earlier one": "no response is kept, so the field is refused",
}


@dataclass(frozen=True)
class Outcome:
    """What came of a check.

    Attributes:
        answer: None where it was refused.
        status: of a refusal; None where it came inside a stream that had begun with 200.
        body: of a refusal.
        error: of the client's own, about an answer that it cannot take.
    """

    answer: Any = None
    status: int | None = None
    body: Any = None
    error: str | None = None

    @property
    def refused(self) -> bool:
        return self.body is not None


@pytest.fixture(scope="module")
def clients(sides: Sides) -> Iterator[dict[str, openai.OpenAI]]:
    made = {
        side: openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        for side, url in sides.both.items()
    }
    yield made
    for client in made.values():
        client.close()


def plain(value: Any) -> Any:
    """An answer without what is another's each time."""
    if isinstance(value, dict):
        kept = {key: part for key, part in value.items() if key != _GOES_WITH_USAGE}
        return {
            key: type(part).__name__ if key in _OWN else plain(part) for key, part in kept.items()
        }
    return [plain(each) for each in value] if isinstance(value, list) else value


def outcome(name: str, client: openai.OpenAI) -> Outcome:
    try:
        return Outcome(plain(CHECKS[name](client)))
    except openai.APIStatusError as error:
        return Outcome(status=error.status_code, body=error.body)
    except openai.APIError as error:
        return Outcome(body=error.body)
    except (openai.OpenAIError, ValueError) as error:
        return Outcome(error=f"{type(error).__name__}: {error}")


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in _BY_DESIGN])
def test_the_client_gets_what_the_bare_engine_gives_it(
    clients: dict[str, openai.OpenAI], name: str
) -> None:
    bare, through = (outcome(name, clients[side]) for side in ("bare", "through"))
    assert through.refused == bare.refused, (bare, through)
    assert through.answer == bare.answer
    assert through.error == bare.error
    if bare.status is not None:
        # Inside a stream there is none: the gateway may see what is wrong before one begins.
        assert through.status == bare.status, (bare, through)
    if through.refused:
        assert {"message", "type", "param", "code"} <= set(through.body), through


@pytest.mark.parametrize("name", _BY_DESIGN)
def test_a_difference_by_design_is_still_one(clients: dict[str, openai.OpenAI], name: str) -> None:
    bare, through = (outcome(name, clients[side]) for side in ("bare", "through"))
    assert (through.refused, through.status) != (bare.refused, bare.status)


def test_most_checks_are_answered(clients: dict[str, openai.OpenAI]) -> None:
    """Two sides that refuse all would agree too."""
    expected = [name for name in CHECKS if "error" not in name and name != "embeddings"]
    refused = [name for name in expected if outcome(name, clients["through"]).refused]
    # vLLM has them for whole answers alone.
    assert refused == ["chat stream: prompt's log-probabilities"]
