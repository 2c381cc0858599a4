"""Engines that run elsewhere: known by what they serve, asked by their load, left when they go."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from stub_engine import Stub
from stub_gateway import free_port, serving_door, serving_stub
from tiny_family import HEAD, Family, make_headed

from pipeline.core.errors import EngineError, UserError
from serve.attached import KEY_VARIABLE, attach, engine_headers, require_same
from serve.bundle import read_bundle
from serve.gateway.directory import table_of
from serve.gateway.door import Door
from serve.gateway.upstreams import Upstream, UpstreamGroup

ASKED: Any = [{"role": "user", "content": "Hello"}]


def test_engines_are_told_apart_by_what_they_serve(family: Family, tmp_path: Path) -> None:
    bundle = read_bundle(make_headed(family, tmp_path, "mean"))
    with serving_stub(Stub()) as writer, serving_stub(Stub(models=(HEAD,))) as reader:
        found = attach(bundle, [f"http://127.0.0.1:{port}" for port in (reader, writer)])
        assert [engine.pooling for engine in found] == ["mean", None]
        assert list(found[0].models) == [HEAD]
        with pytest.raises(UserError, match="none of them writes"):
            attach(bundle, [f"http://127.0.0.1:{reader}"])


@pytest.mark.parametrize("url", [
    "", "localhost:1", "ftp://x", "http://x/v1", "http://", "http://[::1", "http://h:abc",
    "http://h:99999", "http://h?x", "http://h#x", "http://a b", "http://[not an address]:1",
    "http://ada:hunter2@h:1", "http://ada:hunter2@[::1", "\0", "http://\0",
])  # fmt: skip
def test_a_url_that_is_none_is_told(family: Family, url: str) -> None:
    with pytest.raises(UserError, match="--engine-url") as caught:
        attach(read_bundle(family.bundle), [url])
    assert "hunter2" not in str(caught.value)


def test_an_engine_of_another_family_or_none_is_told(family: Family) -> None:
    bundle = read_bundle(family.bundle)
    other = pytest.raises(UserError, match="serves other; the bundle has demo-l0")
    with serving_stub(Stub(models=("other",))) as port, other:
        attach(bundle, [f"http://127.0.0.1:{port}"])
    with pytest.raises(EngineError, match="does not answer"):
        attach(bundle, [f"http://127.0.0.1:{free_port()}"])


def test_a_gateway_starts_with_the_replicas_that_are_there(family: Family) -> None:
    bundle, told = read_bundle(family.bundle), list[str]()
    gone = f"http://127.0.0.1:{free_port()}"
    with serving_stub(Stub()) as port:
        here = f"http://127.0.0.1:{port}"
        found = attach(bundle, [gone, here], told.append)
    assert [(engine.base_url, engine.away) for engine in found] == [(here, False), (gone, True)]
    assert len(told) == 1
    assert gone in told[0]
    assert "does not answer" in told[0]


def test_the_only_reader_of_heads_must_answer_at_the_start(family: Family, tmp_path: Path) -> None:
    bundle = read_bundle(make_headed(family, tmp_path, "mean"))
    with serving_stub(Stub()) as writer, pytest.raises(EngineError, match="does not answer"):
        attach(bundle, [f"http://127.0.0.1:{p}" for p in (writer, free_port())])


def test_a_replica_that_comes_back_as_another_is_known(family: Family) -> None:
    bundle, stub = read_bundle(family.bundle), Stub()
    with serving_stub(stub) as port:
        (engine,) = attach(bundle, [f"http://127.0.0.1:{port}"])
        require_same(bundle, engine)
        stub.models = ("other",)
        with pytest.raises(UserError, match="serves other"):
            require_same(bundle, engine)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 200_000]
)
def test_what_listens_there_and_is_no_engine_is_told(family: Family, said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(4096)
                client.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(EngineError, match="/v1/models does not answer"):
            attach(read_bundle(family.bundle), [url])
        thread.join(5)


def test_the_engines_own_key_is_taken_from_the_environment(
    family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "engine-key")
    assert engine_headers() == {"Authorization": "Bearer engine-key"}


def test_the_least_loaded_replica_is_asked_and_a_lost_one_fails_nobody(family: Family) -> None:
    bundle = read_bundle(family.bundle)
    stubs = [Stub(tokens=200, chunk_s=0.01), Stub(tokens=200, chunk_s=0.01)]
    with contextlib.ExitStack() as rest:
        first = contextlib.ExitStack()
        ports = [
            first.enter_context(serving_stub(stubs[0])),
            rest.enter_context(serving_stub(stubs[1])),
        ]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        engines = attach(bundle, urls)
        group = UpstreamGroup([Upstream(engine.base_url) for engine in engines])
        door = Door(directory=table_of(bundle, engines[0], group))
        running = rest.enter_context(serving_door(door, stubs[0]))
        client = running.client()
        streams = [
            client.chat.completions.create(model="demo-l2", messages=ASKED, stream=True)
            for _ in range(4)
        ]
        assert [stub.open for stub in stubs] == [2, 2]
        for stream in streams:
            stream.close()
        first.close()
        for _ in range(6):
            made = client.chat.completions.create(model="demo-l2", messages=ASKED)
            assert made.model == "demo-l2"
        assert not group.members[0].usable
        # Ready is whoever has one engine left.
        assert door.ready
    with pytest.raises(openai.APIConnectionError):
        client.models.list()
