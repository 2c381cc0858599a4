"""`gradus push`: what goes to a hub, and what does not; the hub is a stub (hub_push_stub)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.store import Store
from tests.hub_case import point_at
from tests.hub_push_stub import HubPushStub
from tests.hub_stand_in import GOOD_TOKEN

# huggingface_hub's own way of sending a file to its storage.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

PASS = {"status": "pass", "text": "accuracy on test: 0.9; promised at least 0.5: pass"}
FAIL = {"status": "fail", "text": "export: accuracy on test: -0.3 against unquantised: fail"}
CARD = "---\nlicense: apache-2.0\n---\n\n# tiny\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubPushStub]:
    with HubPushStub() as server:
        point_at(monkeypatch, server.endpoint)
        monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
        # The stub knows the older way of sending large files alone.
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        yield server


def put(store: Store, key: str, files: dict[str, str | bytes], **more: Any) -> Artifact:
    draft = store.new_draft(key)
    for name, content in files.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (draft / name).write_bytes(data)
    stage = more.pop("stage", "bundle")
    manifest = Manifest("Bundle", key, "", stage, 1, {}, {}, {}, {}, {}, **more)
    return store.commit(draft, manifest)


def exported(store: Store, *, gates: list[dict[str, str]] | None = None, **more: Any) -> Artifact:
    """An export: weights and bundle.json side by side."""
    tree = {
        "name": "tiny", "base": {"name": "tiny", "level": "L2", "path": ".", "digest": "ab"},
        "max_model_len": 64, "gates": [PASS] if gates is None else gates, **more,
    }  # fmt: skip
    files: dict[str, str | bytes] = {
        "bundle.json": json.dumps(tree), "config.json": "{}", "README.md": CARD,
        "model.safetensors": bytes(range(256)) * 64, "golden.json": '{"rows": "of the data"}',
        "tokenizer.json": "{}",
    }  # fmt: skip
    artifact = put(store, "e" * 64, files)
    named(store, export=artifact.key)
    return artifact


def bundled(store: Store, *, stage: str = "train-full", **facts: Any) -> Artifact:
    """A family of one base, which lies beside it."""
    base = put(
        store, "b" * 64, {"config.json": "{}", "model.safetensors": b"weights"},
        stage=stage, facts=facts,
    )  # fmt: skip
    tree = {
        "name": "tiny", "max_model_len": 64, "gates": [PASS],
        "base": {"name": "l0", "level": "L0", "path": f"../{base.key}", "digest": base.digest},
    }  # fmt: skip
    files: dict[str, str | bytes] = {"bundle.json": json.dumps(tree), "README.md": CARD}
    artifact = put(store, "d" * 64, files)
    named(store, bundle=artifact.key)
    return artifact


def named(store: Store, **keys: str) -> None:
    store.write_json("models/tiny.json", {"name": "tiny", "keys": keys, "gates": {}})


def test_an_export_goes_whole_but_for_its_golden_rows(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub
) -> None:
    artifact = exported(store)
    result = gradus("push", "tiny", "me/tiny-fp8", "--export", "--private", "--json")
    assert result.exit_code == 0, result.output
    assert hub.made == {"me/tiny-fp8": True}
    sent = hub.files["me/tiny-fp8"]
    assert set(sent) == {*artifact.manifest.files, "SHA256SUMS"} - {"golden.json"}
    assert sent["model.safetensors"] == (artifact.path / "model.safetensors").read_bytes()
    assert sent["README.md"].decode().startswith(CARD)
    sums = dict(line.split("  ")[::-1] for line in sent["SHA256SUMS"].decode().splitlines())
    assert sums == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sent.items()
        if name != "SHA256SUMS"
    }
    assert json.loads(result.stdout)["url"].startswith(f"{hub.endpoint}/me/tiny-fp8/commit/")


def test_a_base_that_no_hub_has_goes_along(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub
) -> None:
    bundled(store)
    assert gradus("push", "tiny", "me/tiny").exit_code == 0
    sent = hub.files["me/tiny"]
    assert sent["base/model.safetensors"] == b"weights"
    assert json.loads(sent["bundle.json"])["base"]["path"] == "base"
    assert hub.made == {"me/tiny": False}


def test_what_was_pushed_is_a_bundle_where_it_is_unpacked(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub, tmp_path: Path
) -> None:
    from serve.bundle import read_bundle

    bundled(store)
    gradus("push", "tiny", "me/tiny")
    for name, content in hub.files["me/tiny"].items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    assert read_bundle(tmp_path / "got").base.path == tmp_path / "got/base"


def test_a_base_of_the_hub_is_named_and_not_sent_again(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub
) -> None:
    bundled(store, stage="fetch", origin="acme/big@0123abc")
    assert gradus("push", "tiny", "me/tiny").exit_code == 0
    sent = hub.files["me/tiny"]
    assert not any(name.startswith("base/") for name in sent)
    fetch = "hf download acme/big --revision 0123abc --local-dir FOLDER/base"
    assert fetch in sent["README.md"].decode()


def test_a_dry_run_lists_sizes_prints_the_card_and_sends_nothing(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    artifact = exported(store)
    result = gradus("push", artifact.path, "me/tiny", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{256 * 64:,}  model.safetensors" in result.stdout
    assert CARD in result.stdout
    assert "golden.json" not in result.stdout
    assert hub.paths == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"gates": [PASS, FAIL]}, FAIL["text"]),
        ({"gates": []}, "no gate was ever set"),
        ({"ungated": True}, "overridden, or it has none"),
        ({"gates": [{"text": "told by nobody"}]}, "told by nobody"),
        ({"gates": [PASS, {}]}, "gates did not all pass"),
    ],
)
def test_what_did_not_pass_its_gates_is_not_pushed(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub, more: dict[str, Any], told: str
) -> None:
    exported(store, **more)
    result = gradus("push", "tiny", "me/tiny", "--export")
    assert result.exit_code == 3
    assert told in result.stderr
    assert hub.paths == []


def test_a_changed_byte_is_not_pushed(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub
) -> None:
    artifact = exported(store)
    (artifact.path / "model.safetensors").write_bytes(b"other")
    result = gradus("push", "tiny", "me/tiny", "--export")
    assert result.exit_code == 1
    assert "model.safetensors: changed" in result.stderr
    assert hub.paths == []


def test_a_card_that_names_this_machine_is_not_pushed(
    store: Store, gradus: Callable[..., Result], hub: HubPushStub
) -> None:
    exported(store, system=f"{store.root}/objects/x")
    result = gradus("push", "tiny", "me/tiny", "--export")
    assert "bundle.json: names a folder of this machine" in result.stderr
    assert hub.paths == []


def test_without_a_token_one_line_says_what_to_do(
    store: Store, refusal: Callable[..., str], hub: HubPushStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    exported(store)
    told = refusal("push", "tiny", "me/tiny", "--export")
    assert told.startswith("me/tiny: the hub takes nothing without a token; set HF_TOKEN")
    assert hub.paths == []


def test_a_token_that_the_hub_refuses_is_told_in_one_line(
    store: Store, refusal: Callable[..., str], hub: HubPushStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    exported(store)
    assert "the hub refuses the token (401)" in refusal("push", "tiny", "me/tiny", "--export")


def test_a_hub_that_is_away_is_told_in_one_line(
    store: Store, refusal: Callable[..., str], hub: HubPushStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported(store)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    told = refusal("push", "tiny", "me/tiny", "--export")
    assert "cannot be reached" in told
    assert "recipe" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none", "me/tiny"), "none: no bundle's folder and no model of the store (there: tiny)"),
        (("tiny", "tiny"), "tiny: is no repository of a hub; write it as owner/name"),
        (("tiny", "me/tiny"), "tiny: has no bundle (its gates did not pass); run its recipe"),
    ],
)
def test_what_cannot_be_pushed_is_told_in_one_line(
    store: Store, refusal: Callable[..., str], arguments: tuple[str, ...], told: str
) -> None:
    exported(store)
    assert refusal("push", *arguments) == told
