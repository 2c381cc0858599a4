"""Files behind web addresses: what tells their version, and which URLs hold a secret."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.server
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.core.errors import DataError
from pipeline.data.sources import remote, remote_identity
from pipeline.data.sources.remote import secret_in
from tests.data.sources.reader import placed, read

LINES = b'{"text": "a"}\n{"text": "b"}\n'
ROWS = [{"text": "a"}, {"text": "b"}]


@contextlib.contextmanager
def serving(folder: Path, **headers: str) -> Iterator[str]:
    """A web server over a folder that tells of a file's version what ``headers`` say."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def send_header(self, keyword: str, value: str) -> None:
            if keyword != "Last-Modified":
                super().send_header(keyword, value)

        def end_headers(self) -> None:
            for name, value in headers.items():
                super().send_header(name.replace("_", "-"), value)
            super().end_headers()

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path) as address:
        yield address


def version(url: str) -> str:
    ((_, found),) = remote_identity(url)
    return found


def test_a_web_address_reads_as_a_file_and_its_secrets_stay(server: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(LINES))
    address = server.replace("//", "//user:secret@")
    found = read(f"{address}/x.jsonl.gz?token=secret")
    assert placed(found) == ROWS
    assert found[0].place == f"{server}/x.jsonl.gz:1"
    ((name, told),) = remote_identity(f"{server}/x.jsonl.gz?token=secret")
    assert name == f"{server}/x.jsonl.gz"
    # This server tells no version.
    packed = (tmp_path / "x.jsonl.gz").read_bytes()
    assert told == f"sha256={hashlib.sha256(packed).hexdigest()}"
    with pytest.raises(DataError, match="FileNotFoundError") as caught:
        read(f"{server}/gone.jsonl?token=secret")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["ETag", "etag", "Content-MD5", "Digest", "Last-Modified", "last-modified"]
)
def test_what_a_web_server_tells_of_a_version_counts(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    values = ["Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"]
    found = []
    for value in (*values, values[0]):
        with serving(tmp_path, **{name: value}) as address:
            found.append(version(f"{address}/x.jsonl"))
    assert found[0] == found[2] != found[1]
    assert f"={values[0]}" in found[0]


def test_a_file_without_a_version_is_known_by_its_bytes(server: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    before = version(f"{server}/x.jsonl")
    assert before == f"sha256={hashlib.sha256(LINES).hexdigest()}"
    (tmp_path / "x.jsonl").write_bytes(LINES.swapcase())
    assert version(f"{server}/x.jsonl") != before


def test_a_long_file_without_a_version_is_refused(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.jsonl").write_bytes(LINES)
    monkeypatch.setattr(remote, "MOST_HASHED_BYTES", len(LINES))
    version(f"{server}/x.jsonl")
    monkeypatch.setattr(remote, "MOST_HASHED_BYTES", len(LINES) - 1)
    with pytest.raises(DataError, match=r"x\.jsonl: its server tells .* download it") as caught:
        version(f"{server}/x.jsonl?v=1")
    assert "\n" not in str(caught.value)


def test_a_store_of_objects_is_known_by_what_it_tells() -> None:
    memory = fsspec.filesystem("memory")
    path = f"{uuid.uuid4()}.jsonl"
    memory.pipe(f"/{path}", LINES)
    try:
        assert " created=" in version(f"memory://{path}")
    finally:
        memory.rm(f"/{path}")


@pytest.mark.parametrize(
    "url",
    [
        "https://h/x.jsonl",
        "https://h/x.jsonl?download=true",
        "https://h/x.jsonl?Expires=99&v=2#rows",
        "https://h/x.jsonl?tokenizer=a&keys=b&token",
        "s3://bucket/x.jsonl?versionId=3",
        "hf://datasets/a/b@main/x.jsonl",
    ],
)
def test_a_query_alone_is_no_secret(url: str) -> None:
    assert secret_in(url) is None


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://user:SECRET@h/x.jsonl", "a user or password"),
        ("s3://SECRET@bucket/x.jsonl", "a user or password"),
        ("simplecache::https://u:SECRET@h/x.jsonl", "a user or password"),
        ("https://h/x?X-Amz-Expires=60&X-Amz-Signature=SECRET", "X-Amz-Expires"),
        ("https://h/x?X-Goog-Credential=SECRET", "X-Goog-Credential"),
        ("https://h/x?Expires=99&Signature=SECRET", "Signature"),
        ("https://h/x?AWSAccessKeyId=SECRET", "AWSAccessKeyId"),
        ("https://h/x?sv=2024&SIG=SECRET", "SIG"),
        ("https://h/x?a=1;token=SECRET", "token"),
        ("https://h/x?access_token=SECRET", "access_token"),
        ("https://h/x?apiKey=SECRET", "apiKey"),
        ("https://h/x?api%5Fkey=SECRET", "api_key"),
        ("https://h/x?KEY=SECRET", "KEY"),
        ("https://h/x?PassWord=SECRET", "PassWord"),
        ("https://h/x#access_token=SECRET", "access_token"),
    ],
)
def test_a_secret_is_told_by_its_name_alone(url: str, name: str) -> None:
    assert secret_in(url) == name
