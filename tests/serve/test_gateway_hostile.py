"""What an attacker or a tired user sends is a 4xx in time; the next good request is served."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from stub_engine import Stub

from serve.keys import OneKey

GOOD = {"model": "demo-l2", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def running(gateway: Any) -> Iterator[Any]:
    """A gateway that must still serve, and hold nothing, when the test is over."""
    found = gateway(Stub())
    yield found
    answer = requests.post(f"{found.url}/v1/chat/completions", json=GOOD, timeout=5)
    assert answer.status_code == 200
    assert found.door.in_flight == 0


def raw(running: Any, data: bytes, seconds: float = 5.0) -> bytes:
    """What a server answers to these very bytes, until it closes or is silent."""
    with socket.create_connection(("127.0.0.1", running.port), timeout=seconds) as client:
        found = b""
        try:
            client.sendall(data)
            while chunk := client.recv(65536):
                found += chunk
                if b"\r\n\r\n" in found and b"content-length" in found.lower():
                    head, _, body = found.partition(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                    if len(body) >= length:
                        break
        except (TimeoutError, ConnectionError):
            pass
        return found


def posted(running: Any, body: bytes, path: str = "/v1/chat/completions", **headers: str) -> Any:
    given = {
        "Content-Type": "application/json",
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    return requests.post(f"{running.url}{path}", data=body, headers=given, timeout=10)


def head(body: bytes, *lines: bytes) -> bytes:
    start = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    return start + b"Content-Type: application/json\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + body


BODY = json.dumps(GOOD).encode()
SIZE = b"Content-Length: %d" % len(BODY)


TWOFOLD: list[bytes] = [
    head(BODY, SIZE, b"Transfer-Encoding: chunked"),
    head(BODY, b"Transfer-Encoding: chunked", SIZE),
    head(BODY, SIZE, b"Content-Length: 3"),
    head(b"zz\r\n{}\r\n0\r\n\r\n", b"Transfer-Encoding: chunked"),
    head(b"ffffffffffffffffff\r\n{}", b"Transfer-Encoding: chunked"),
    head(BODY, b"Content-Length: -5"),
    head(BODY, b"Content-Length : %d" % len(BODY)),
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x00\x01\x02\x03\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\nb\r\n\r\n",
]


@pytest.mark.parametrize("data", TWOFOLD)
def test_requests_that_two_readers_would_read_differently_are_400(
    running: Any, data: bytes
) -> None:
    assert raw(running, data).startswith(b"HTTP/1.1 400 ")


def test_an_endless_head_is_refused_and_takes_no_memory(running: Any) -> None:
    line = b"X-Many: " + b"a" * 1000 + b"\r\n"
    data = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n" + line * 2000
    found = raw(running, data)
    assert found == b"" or found.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_a_slow_head_ends_in_time(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.gateway.wire.HEAD_S", 0.5)
    began = time.monotonic()
    for data in (b"", b"GET /v1/models HTTP/1.1\r\nHost: 127"):
        assert raw(running, data).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 3


def test_a_slow_body_ends_in_time(gateway: Any) -> None:
    from serve.gateway.door import DoorLimits

    slow = gateway(limits=DoorLimits(body_s=0.5))
    assert raw(slow, head(b"{", b"Content-Length: 400")).startswith(b"HTTP/1.1 408 ")
    assert slow.door.in_flight == 0


@pytest.mark.parametrize(
    ("path", "method"),
    [("//v1/models", "GET"), ("/v1//models", "GET"), ("/v1%2fmodels", "GET"),
     ("/v1/models/%2e%2e/x", "GET"), ("/V1/models", "GET"), ("/v1/models/", "GET"),
     ("/v1/../metrics/../v1/models", "GET"), ("/v1/load_lora_adapter", "POST"),
     ("/tokenize", "POST"), ("/pooling", "POST"), ("/classify", "POST"), ("/invocations", "POST"),
     ("/docs", "GET"), ("/v1/chat/completions/x", "POST"), ("/health", "GET"),
     ("/v1/unload_lora_adapter", "POST"), ("/reset_prefix_cache", "POST")],
)  # fmt: skip
def test_no_other_path_is_there(running: Any, path: str, method: str) -> None:
    data = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n".encode()
    found = raw(running, data)
    assert found.startswith(b"HTTP/1.1 404 ")
    assert json.loads(found.partition(b"\r\n\r\n")[2])["error"]["type"] == "not_found_error"
    assert running.stub.seen == []


def test_another_method_is_405_in_openais_shape(running: Any) -> None:
    answer = requests.delete(f"{running.url}/v1/models", timeout=5)
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"


BODIES: list[bytes] = [
    b"", b"[]", b"null", b"3", b'"x"', b"{", b"{}", b"[" * 400_000, b'{"a":' * 200_000,
    b'{"model": "demo-l2", "messages": [], "seed": ' + b"9" * 5000 + b"}",
    b'{"model": NaN}', b'{"model": Infinity}', b'{"a": 1, "a": 2}', b"\xff\xfe{}", b"\x00",
    b'{"model": "demo-l2", "messages": [{"role": "user", "content": "\\ud800"}]}',
    b'{"model": "demo-l2\\u0000", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": ["demo-l2"], "messages": [{"role": "user", "content": "x"}]}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_none_are_4xx_and_never_reach_the_engine(running: Any, body: bytes) -> None:
    answer = posted(running, body)
    assert 400 <= answer.status_code < 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert running.stub.seen == []


def test_a_packed_body_is_not_unpacked(running: Any) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    assert posted(running, bomb, Content_Encoding="gzip").status_code == 415


def test_a_body_beyond_its_bound_is_413_before_it_is_read(running: Any) -> None:
    assert posted(running, b" " * (2 << 20)).status_code == 413
    began = time.monotonic()
    found = raw(running, head(b"", b"Content-Length: 99999999999999999999"))
    assert found.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    assert time.monotonic() - began < 2


FIELDS: list[dict[str, Any]] = [
    {"n": 10**9}, {"n": 0}, {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 10**12},
    {"max_completion_tokens": -3}, {"top_logprobs": -1}, {"top_logprobs": 10**6},
    {"logprobs": -1}, {"stop": ["x"] * 5000}, {"stop": ""}, {"temperature": -1},
    {"temperature": 1e308}, {"cache_salt": "x"}, {"priority": -5}, {"vllm_xargs": {}},
    {"chat_template": "{{ x }}"}, {"chat_template_kwargs": {}}, {"stop_token_ids": [1]},
    {"guided_choice": ["a"]}, {"prompt_logprobs": 10**6}, {"logit_bias": {"1": 1000}},
    {"messages": []}, {"messages": [{"role": "root", "content": "x"}]},
    {"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]},
    {"messages": [{"role": "user", "content": [
        {"type": "file", "file": {"file_id": "/etc/passwd"}}]}]},
    {"structured_outputs": {"regex": "((a{99}){99}){99}"}},
    {"structured_outputs": {"regex": "a" * 5000}}, {"structured_outputs": {"regex": "("}},
    {"structured_outputs": {"grammar": "root ::= x"}}, {"structured_outputs": {"choice": []}},
    {"structured_outputs": {"choice": ["a"] * 5000}},
    {"structured_outputs": {"choice": ["a"], "regex": "a"}},
    {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"type": "string", "pattern": "((x{500}){500}){500}"}}}},
    {"response_format": {"type": "json_schema", "json_schema": {
        "name": "x", "schema": {"enum": [str(i) for i in range(3000)]}}}},
    {"tools": [{"type": "function", "function": {"name": "f" * 100_000}}]},
    {"seed": -1}, {"seed": 2**70}, {"user": 5}, {"metadata": {"a": 1}}, {"stream": "yes"},
    {"stream_options": {"x": 1}}, {"min_tokens": -1}, {"top_k": -9}, {"ignore_eos": "a"},
]  # fmt: skip


@pytest.mark.parametrize("more", FIELDS, ids=range(len(FIELDS)))
def test_fields_out_of_their_bounds_are_400_and_named(running: Any, more: dict[str, Any]) -> None:
    answer = posted(running, json.dumps({**GOOD, **more}).encode())
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].split("[")[0].split(".")[0] == next(iter(more))
    assert running.stub.seen == []


@pytest.mark.parametrize(
    "more",
    [{"prompt": [-1]}, {"prompt": [[2**40]]}, {"prompt": []}, {"prompt": [[]]}, {"prompt": ""},
     {"prompt": "x", "max_tokens": 0}, {"prompt": "x", "logprobs": -1}, {"prompt": "x", "n": 99},
     {"prompt": "x", "best_of": 50}, {"prompt": [[1]] * 999}, {"prompt": "x", "suffix": "y"},
     {"prompt_embeds": "AAAA"}],
)  # fmt: skip
def test_odd_completions_are_400(running: Any, more: dict[str, Any]) -> None:
    answer = posted(running, json.dumps({"model": "demo-l2", **more}).encode(), "/v1/completions")
    assert answer.status_code == 400, answer.text
    assert running.stub.seen == []


@pytest.mark.parametrize(
    "more",
    [{"input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": "http://169.254.169.254/"}]}]},
     {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
     {"input": "x", "store": True}, {"input": "x", "previous_response_id": "r"},
     {"input": "x", "background": True}],
)  # fmt: skip
def test_odd_responses_are_400(running: Any, more: dict[str, Any]) -> None:
    answer = posted(running, json.dumps({"model": "demo-l2", **more}).encode(), "/v1/responses")
    assert answer.status_code == 400, answer.text
    assert running.stub.seen == []


@pytest.mark.parametrize(
    "name",
    ["../demo-l0", "/etc/passwd", "Qwen/Qwen3-0.6B", "demo-l2/", "DEMO-L2", "", "demo-l2 ",
     "demo-l2'; DROP TABLE keys; --", "x" * 100_000, "\u202edemo"],
)  # fmt: skip
def test_a_name_that_is_not_in_the_table_is_404(running: Any, name: str) -> None:
    answer = posted(running, json.dumps({**GOOD, "model": name}).encode())
    assert answer.status_code == 404
    assert len(answer.content) < 2000
    assert running.stub.seen == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "a@evil.example", ""])
def test_without_keys_another_host_is_403(running: Any, host: str) -> None:
    answer = requests.get(f"{running.url}/v1/models", headers={"Host": host}, timeout=5)
    assert answer.status_code in {400, 403}


def test_a_page_of_another_site_cannot_post(running: Any) -> None:
    answer = posted(running, BODY, Content_Type="text/plain")
    assert answer.status_code == 415
    assert "access-control-allow-origin" not in answer.headers


def test_many_requests_in_one_go_do_not_pile_up(running: Any) -> None:
    found = raw(running, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 5000, 3)
    assert found.startswith(b"HTTP/1.1 ")


def test_long_names_of_requests_are_not_taken_over(running: Any) -> None:
    for given, kept in (("abc-1", True), ("a" * 65, False), ("a b", False), ("<x>", False)):
        answer = posted(running, BODY, X_Request_Id=given)
        assert (answer.headers["x-request-id"] == given) is kept


def test_good_requests_at_the_same_moment_are_served_in_time(gateway: Any) -> None:
    """All of the above at once, again and again, from four sides."""
    running = gateway(Stub(keep_seen=False))
    good: list[tuple[int, float]] = []
    bad = [*TWOFOLD, *(head(body, b"Content-Length: %d" % len(body)) for body in BODIES)]
    for more in FIELDS:
        body = json.dumps({**GOOD, **more}).encode()
        bad.append(head(body, b"Content-Length: %d" % len(body)))
    over = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not over.is_set():
                began = time.monotonic()
                told = session.post(f"{running.url}/v1/chat/completions", json=GOOD, timeout=10)
                good.append((told.status_code, time.monotonic() - began))
                time.sleep(0.01)

    asker = threading.Thread(target=ask)
    asker.start()
    statuses, ends = set[bytes](), time.monotonic() + 2
    with ThreadPoolExecutor(4) as pool:
        while time.monotonic() < ends:
            statuses |= set(pool.map(lambda data: raw(running, data)[9:12], bad))
    over.set()
    asker.join(10)
    assert all(status.startswith(b"4") for status in statuses), statuses
    assert {status for status, _ in good} == {200}
    assert len(good) > 20
    assert max(seconds for _, seconds in good) < 2


@pytest.mark.parametrize(
    "bearer",
    [b"' OR 1=1 --", b'"; DROP TABLE used; --', b"\xff\xfe", b"a" * 30_000, b"../keys.json",
     b"%00", b"{}", b"\xe2\x80\xae", b"nul\x00", b"line\nX-Forwarded-For: 127.0.0.1",
     b"folded\r\n secret"],
)  # fmt: skip
def test_a_bearer_that_is_none_is_4xx_whatever_stands_in_it(gateway: Any, bearer: bytes) -> None:
    running = gateway(Stub(), keys=OneKey("secret"))
    found = raw(running, head(BODY, SIZE, b"Authorization: Bearer " + bearer))
    assert found.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))
    assert running.stub.seen == []
    answer = posted(running, BODY, Authorization="Bearer secret")
    assert answer.status_code == 200
