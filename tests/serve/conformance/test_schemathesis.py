"""schemathesis 4.32.5: our OpenAPI tells the truth, and OpenAI's fails where the engine fails it.

Run: make conformance
"""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from conformance.documents import bound, only, openai_document
from conformance.sides import Sides
from conformance.suites import require_suites, schemathesis
from page_case import HEAD, family

from serve.gateway.door import DoorLimits
from serve.gateway.openapi import description
from serve.open_files import ring_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]
CLASSIFY = "/v1/classify"
SHARED = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models")
# Constraints between fields stand in no schema: a body may be valid by it, and refused with 400.
ACCEPTS = ("--exclude-checks", "positive_data_acceptance")
# Neither side asks for keys here; the run with keys does.
NO_KEYS = ("--exclude-checks", "ignored_auth,missing_required_header")
# What the engine fails of our document, and the gateway mends: 500 for what a template or a
# grammar cannot take, errors whose code is a number, {"detail": ...}, a field of a wrong type.
_ENGINES_OWN = {
    ("AcceptedNegativeData", "POST /v1/responses"),
    *(("JsonSchemaError", f"POST {path}") for path in SHARED[:3]),
    ("JsonSchemaError", "GET /v1/models"),
    *(("ServerError", f"POST {path}") for path in SHARED[:3]),
}
# OpenAI documents no status but 200; vLLM writes null where its schemas have no null, and refuses
# what fits no model of its own (fields that go together, more tokens than a context has).
_OF_OPENAIS = {"UndefinedStatusCode", "JsonSchemaError", "RejectedPositiveData"}


@pytest.mark.engine
def test_our_document_holds_before_the_real_engine(sides: Sides, tmp_path: Path) -> None:
    require_suites()
    document = requests.get(f"{sides.through}/openapi.json", timeout=10).json()
    assert document == description(keyed=False)
    # The family has no head: of those, see below.
    served = only(bound(document), *(path for path in document["paths"] if path != CLASSIFY))
    assert schemathesis(sides.through, served, tmp_path, "-n", "30", *ACCEPTS) == set()


def test_our_document_holds_with_keys_and_a_head(tmp_path: Path) -> None:
    require_suites()
    # The key's checks are the point: whoever sends none, or another, gets 401.
    ring = ring_of("sk-conformance", None, lambda _line: None)
    # schemathesis takes 413 for no refusal, and one of its bodies is that large.
    limits = DoorLimits(body_bytes=64 << 20)
    with family(head={}, keys=ring, limits=limits) as running:
        document = requests.get(f"{running.url}/openapi.json", timeout=10).json()
        assert document["paths"][CLASSIFY]["post"]["security"] == [{"key": []}]
        found = schemathesis(
            running.url, bound(document, head=HEAD), tmp_path, "-n", "30", *ACCEPTS,
            key="sk-conformance",
        )  # fmt: skip
    assert found == set()


@pytest.mark.engine
def test_on_our_document_the_engine_alone_fails(sides: Sides, tmp_path: Path) -> None:
    require_suites()
    document = requests.get(f"{sides.through}/openapi.json", timeout=10).json()
    shared = only(bound(document), *SHARED)
    bare = schemathesis(sides.bare, shared, tmp_path, "-n", "15", *ACCEPTS)
    through = schemathesis(sides.through, shared, tmp_path, "-n", "15", *ACCEPTS)
    assert through == set()
    assert bare <= _ENGINES_OWN


@pytest.mark.engine
def test_openais_document_fails_alike(sides: Sides, tmp_path: Path) -> None:
    require_suites()
    document = openai_document()
    bare, through = (
        schemathesis(f"{url}/v1", document, tmp_path, "-n", "15", *NO_KEYS)
        for url in (sides.bare, sides.through)
    )
    assert through == bare
    assert {kind for kind, _ in through} <= _OF_OPENAIS
