"""The gateway's own rules, before a stub: what passes, what is refused, and in what shape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from door_case import CHAT, EVENTS, Door, StubEngine, StubUpstream, app_of, error_of

from serve.bundle import Bundle, read_bundle
from serve.identity import identity_of


@pytest.fixture(scope="module")
def bundle(family: Any) -> Bundle:
    return read_bundle(family.bundle)


@pytest.fixture(scope="module")
def one_door(bundle: Bundle, running: Callable[..., Any]) -> Iterator[Door]:
    upstream = StubUpstream()
    with running(upstream.app) as upstream_url:
        engine = StubEngine(upstream_url)
        with running(app_of(bundle, engine)) as url:
            yield Door(url, upstream, engine)


@pytest.fixture
def door(one_door: Door) -> Door:
    """The gateway before a stub that has seen nothing yet."""
    one_door.upstream.seen.clear()
    one_door.upstream.breaks = False
    one_door.engine.up = True
    return one_door


def test_model_name_is_mapped_there_and_back_and_other_bytes_pass(door: Door) -> None:
    answer = door.chat(CHAT)
    assert door.upstream.seen[0]["model"] == "/engine/demo-l1"
    assert answer.content == (b'{"model":"demo-l1",  "said":"\\"model\\": \\"/engine/demo-l1\\""}')


def test_streamed_bytes_pass_but_for_the_name(door: Door) -> None:
    answer = door.chat({**CHAT, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == EVENTS.replace(b"/engine/", b"")


def test_stream_of_a_broken_engine_ends_in_an_error_event_not_in_done(door: Door) -> None:
    door.upstream.breaks = True
    lines = door.chat({**CHAT, "stream": True}).text.strip().splitlines()
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] == "engine_away"
    assert "[DONE]" not in lines[-1]


@pytest.mark.parametrize("name", ["gpt-4", "../../etc", "/engine/demo-l1", "org/repo", ""])
def test_unknown_model_is_404_and_never_reaches_the_engine(door: Door, name: str) -> None:
    answer = door.chat({**CHAT, "model": name})
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "model_not_found"
    assert door.upstream.seen == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 400_000,
        b'{"model":"demo-l1","messages":[{"role":"user","content":"a"}],"top_p":NaN}',
        b'{"model":"demo-l1","messages":[{"role":"user","content":"a"}],"top_p":1e999}',
        b'{"model":"demo-l1","messages":[{"role":"user","content":"a"}],"seed":'
        + b"1" * 5000
        + b"}",
        b'{"model":"demo-l1","model":"demo-l2","messages":[{"role":"user","content":"a"}]}',
        b'{"model":"demo-l1","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"demo-l1","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"demo-l1","messages":[]}',
        b'{"messages":[{"role":"user","content":"a"}]}',
        b'{"model":"demo-l1","messages":[{"role":"user","content":"a"}],"tools":[{"a":'
        + b"[" * 100
        + b"]" * 100
        + b"}]}",
    ],
)
def test_a_body_that_makes_no_sense_is_400(door: Door, raw: bytes) -> None:
    answer = door.chat(raw)
    assert answer.status_code == 400, answer.text
    error_of(answer)
    assert door.upstream.seen == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 10**9),
        ("n", 0),
        ("n", "1"),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_completion_tokens", 10**12),
        ("top_logprobs", -1),
        ("temperature", 9),
        ("stop", ["x"] * 1000),
        ("logit_bias", {"1": 1000}),
        ("stream", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_400_and_names_the_field(
    door: Door, name: str, value: Any
) -> None:
    answer = door.chat({**CHAT, name: value})
    assert answer.status_code == 400
    assert error_of(answer)["param"].startswith(name)


@pytest.mark.parametrize(
    "name",
    [
        "cache_salt",
        "priority",
        "vllm_xargs",
        "chat_template",
        "chat_template_kwargs",
        "Temperature",
    ],
)
def test_a_field_off_the_list_is_400_and_named(door: Door, name: str) -> None:
    error = error_of(door.chat({**CHAT, name: "x"}))
    assert (error["param"], error["code"]) == (name, "unknown_field")
    assert door.upstream.seen == []


def test_every_listed_field_reaches_the_engine(door: Door) -> None:
    fields = {
        "logprobs": True,
        "top_logprobs": 3,
        "n": 8,
        "max_tokens": 4,
        "max_completion_tokens": 4,
        "temperature": 0,
        "top_p": 0.5,
        "stop": ["a"],
        "seed": 1,
        "stream_options": {"include_usage": True},
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "x", "parameters": {}}}
        ],
        "response_format": {"type": "json_object"},
        "structured_outputs": {"choice": ["a", "b"]},
    }
    assert door.chat({**CHAT, **fields, "user": None}).status_code == 200
    seen = door.upstream.seen[0]
    assert {key: seen[key] for key in fields} == fields
    assert "user" not in seen


def test_an_image_url_is_refused_before_anybody_fetches_it(door: Door) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://192.0.2.1/x.png"}}
    answer = door.chat({**CHAT, "messages": [{"role": "user", "content": [part]}]})
    assert answer.status_code == 400
    assert door.upstream.seen == []


def test_more_than_a_mebibyte_is_413_whether_its_length_is_told_or_not(door: Door) -> None:
    big = b'{"model":"' + b"x" * (1 << 20) + b'"}'
    assert door.chat(big).status_code == 413
    chunked = requests.post(
        f"{door.url}/v1/chat/completions",
        data=iter([big[:600_000], big[600_000:]]),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert chunked.status_code == 413
    error_of(chunked)


def test_text_plain_is_415_so_a_web_page_cannot_post_in_silence(door: Door) -> None:
    answer = door.chat(CHAT, **{"Content-Type": "text/plain"})
    assert answer.status_code == 415
    error_of(answer)


def test_engine_away_is_503_and_not_ready_while_alive_is_200(door: Door) -> None:
    assert requests.get(f"{door.url}/readyz", timeout=10).status_code == 200
    door.engine.up = False
    answer = door.chat(CHAT)
    assert answer.status_code == 503
    assert error_of(answer)["code"] == "engine_away"
    assert requests.get(f"{door.url}/readyz", timeout=10).status_code == 503
    assert requests.get(f"{door.url}/healthz", timeout=10).status_code == 200


def test_an_engine_that_does_not_answer_is_503(bundle: Bundle, running: Callable[..., Any]) -> None:
    from serve.child import free_port

    engine = StubEngine(f"http://127.0.0.1:{free_port()}")
    with running(app_of(bundle, engine)) as url:
        answer = Door(url, StubUpstream(), engine).chat(CHAT)
    assert answer.status_code == 503
    error_of(answer)


def test_an_engines_refusal_is_told_in_openai_shape(door: Door) -> None:
    answer = door.chat({**CHAT, "seed": 404})
    assert answer.status_code == 422
    assert "no such thing" in error_of(answer)["message"]


def test_the_bundles_settings_are_added(bundle: Bundle, running: Callable[..., Any]) -> None:
    upstream = StubUpstream()
    own = replace(bundle, system="Be brief.", chat_template_kwargs={"enable_thinking": False})
    system = {"role": "system", "content": "Be brief."}
    theirs = {"role": "system", "content": "Mine."}
    with running(upstream.app) as upstream_url:
        engine = StubEngine(upstream_url)
        with running(app_of(own, engine)) as url:
            door = Door(url, upstream, engine)
            door.chat(CHAT)
            door.chat({**CHAT, "messages": [theirs, *CHAT["messages"]]})
    first, second = upstream.seen
    assert first["messages"] == [system, *CHAT["messages"]]
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert first["stop_token_ids"] == [2]
    assert second["messages"] == [theirs, *CHAT["messages"]]


def test_key_is_asked_of_v1_and_not_of_health(bundle: Bundle, running: Callable[..., Any]) -> None:
    upstream = StubUpstream()
    with running(upstream.app) as upstream_url:
        engine = StubEngine(upstream_url)
        with running(app_of(bundle, engine, api_key="sécret")) as url:
            door = Door(url, upstream, engine)
            for bearer in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eA=="}):
                answer = door.chat(CHAT, **bearer)
                assert answer.status_code == 401
                assert error_of(answer)["code"] == "invalid_api_key"
            right = {"Authorization": "Bearer sécret".encode()}
            models = requests.get(f"{url}/v1/models", headers=right, timeout=10)
            assert models.status_code == 200
            assert requests.get(f"{url}/healthz", timeout=10).status_code == 200


def test_without_a_key_a_foreign_host_name_is_refused(door: Door) -> None:
    """DNS rebinding: a web page's own name that points at 127.0.0.1."""
    answer = requests.get(f"{door.url}/v1/models", headers={"Host": "evil.example"}, timeout=10)
    assert answer.status_code == 403
    error_of(answer)


@pytest.mark.parametrize(
    "path", ["/docs", "/v1/load_lora_adapter", "//v1/models", "/redoc", "/health"]
)
def test_nothing_else_is_reachable(door: Door, path: str) -> None:
    answer = requests.get(door.url + path, timeout=10)
    assert answer.status_code == 404
    error_of(answer)


def test_one_models_card_tells_level_base_and_version(door: Door, bundle: Bundle) -> None:
    card = requests.get(f"{door.url}/v1/models/demo-l2", timeout=10).json()
    assert card["metadata"]["level"] == "L2"
    assert card["metadata"]["base"] == "demo-l0"
    assert identity_of(bundle, bundle.adapters[1]).startswith(card["metadata"]["version"])
    assert requests.get(f"{door.url}/v1/models/nope", timeout=10).status_code == 404


def test_an_engine_that_chats_only_classifies_nothing(door: Door) -> None:
    answer = requests.post(
        f"{door.url}/v1/classify", json={"model": "demo-l1", "input": "x"}, timeout=10
    )
    assert answer.status_code == 501
    assert "serve with vLLM" in error_of(answer)["message"]
