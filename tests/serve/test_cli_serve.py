"""`gradus serve` as it is typed: what it refuses before a recipe's hours, and what it says."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tiny_family import Family

from pipeline.cli import main
from pipeline.core.store import Store
from serve.assembly import Serving
from serve.attached import AttachedEngine
from serve.keys import add_key


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Serving]:
    """Settings of every server that would have been started."""
    found: list[Serving] = []

    def record(_bundle: Path, settings: Serving, _echo: Callable[[str], None]) -> int:
        found.append(settings)
        return 0

    monkeypatch.setattr("serve.run.serve", record)
    return found


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    add_key(tmp_path / "keys.json", "ada")
    return tmp_path / "keys.json"


def serve(tmp_path: Path, *words: object, **environment: str) -> Result:
    return CliRunner().invoke(
        main, ["serve", *map(str, words)],
        env={"GRADUS_STORE": str(tmp_path / "store"), "GRADUS_API_KEY": None, **environment},
    )  # fmt: skip


def test_two_options_that_say_who_may_ask_are_refused(
    family: Family, tmp_path: Path, keys: Path, asked: list[Serving]
) -> None:
    for more in ([], ["--print"]):
        done = serve(tmp_path, family.bundle, "--keys", keys, "--api-key", "sk-x", *more)
        assert done.exit_code == 2
        assert done.stderr.startswith("gradus: --api-key beside --keys: ")
        assert "sk-x" not in done.output
    assert not asked


def test_a_key_of_the_environment_gives_way_to_a_file_of_keys_and_that_is_said(
    family: Family, tmp_path: Path, keys: Path, asked: list[Serving]
) -> None:
    done = serve(tmp_path, family.bundle, "--keys", keys, GRADUS_API_KEY="sk-x")
    assert done.exit_code == 0, done.output
    assert done.stderr == "GRADUS_API_KEY is not used: --keys says who may ask\n"
    assert [(one.api_key, one.keys) for one in asked] == [(None, keys)]
    done = serve(tmp_path, family.bundle, GRADUS_API_KEY="sk-x")
    assert done.stderr == ""
    assert asked[-1].api_key == "sk-x"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "reachable from outside"),  # noqa: S104
        (["--keys", "nowhere.json"], "nowhere.json: no such file"),
        (["--log-prompts"], "--log-prompts"),
        (["--engine-url", "http://[::1"], "--engine-url http://[::1"),
        (["--api-key", ""], "--api-key: is empty"),
    ],
)
def test_settings_that_will_not_do_are_told_before_a_recipe_is_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[Serving],
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Not even read: what is typed there is no recipe.
    (tmp_path / "recipe.yaml").write_text("[")
    done = serve(tmp_path, "recipe.yaml", *words)
    assert done.exit_code == 2
    assert told in done.stderr
    assert not asked


def test_a_model_of_the_store_is_told_from_a_file_and_a_near_name_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Serving]
) -> None:
    monkeypatch.chdir(tmp_path)
    entry = {"name": "demo", "level": "L2", "recipe": "recipes/demo.yaml", "keys": {}}
    Store(tmp_path / "store").write_json("models/demo.json", entry)
    done = serve(tmp_path, "demo")
    assert done.stderr == (
        "gradus: demo: is a model of the store; a family is served by its recipe: "
        "gradus serve recipes/demo.yaml\n"
    )
    (tmp_path / "intents.yaml").write_text("name: x\n")
    for typed in ("intent.yaml", "intents"):
        done = serve(tmp_path, typed)
        assert done.stderr == (
            f"gradus: {typed}: no such recipe, did you mean intents.yaml?; check the path\n"
        )
    assert not asked


@pytest.mark.parametrize("broken", ["{", "[]", "[" * 200_000, "\udcff"])
def test_a_torn_tokenizer_configuration_is_one_line(
    family: Family, tmp_path: Path, broken: str
) -> None:
    from pipeline.core.errors import ModelError
    from serve.bundle import read_bundle
    from serve.gateway.directory import renders

    base, bundle = tmp_path / "base", tmp_path / "bundle"
    shutil.copytree(family.base, base)
    shutil.copytree(family.bundle, bundle)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    (base / "tokenizer_config.json").write_bytes(broken.encode("utf-8", "surrogateescape"))
    tree = json.loads((bundle / "bundle.json").read_text())
    tree["base"]["path"] = str(base)
    (bundle / "bundle.json").write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="tokenizer_config") as caught:
        renders(read_bundle(bundle))
    assert "\n" not in str(caught.value)


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_an_engine_behind_tls_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", certificate, "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = HTTPServer(("127.0.0.1", 0), _Healthy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        AttachedEngine(f"https://localhost:{server.server_port}", {}).wait_ready(5)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
