"""Downloads of a snapshot: the real client against a stand-in of the hub's HTTP API."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.core.errors import HubError, ModelError, StoreError
from pipeline.core.hub import download_snapshot, resolve_revision
from tests.hub_case import FILES, MODEL, WEIGHTS, contents, one_line, point_at
from tests.hub_stand_in import GOOD_TOKEN, HubStandIn


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        point_at(monkeypatch, server.endpoint)
        yield server


def test_a_download_holds_the_files_and_nothing_else(stand_in: HubStandIn, tmp_path: Path) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    seen: list[tuple[int, int]] = []
    done = download_snapshot(
        "model", MODEL, commit, tmp_path, on_progress=lambda *step: seen.append(step)
    )
    assert done == sorted(FILES)
    assert contents(tmp_path) == FILES
    total_bytes = sum(map(len, FILES.values()))
    assert seen[-1] == (total_bytes, total_bytes)
    assert seen == sorted(seen)


def test_a_whole_download_is_not_fetched_again(stand_in: HubStandIn, tmp_path: Path) -> None:
    commit = stand_in.add("dataset", MODEL, FILES)
    download_snapshot("dataset", MODEL, commit, tmp_path)
    stand_in.requests.clear()
    assert download_snapshot("dataset", MODEL, commit, tmp_path) == sorted(FILES)
    assert not [request for request in stand_in.requests if "resolve" in request.path]


def test_patterns_choose_files(stand_in: HubStandIn, tmp_path: Path) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    done = download_snapshot("model", MODEL, commit, tmp_path, ["*.json"], ["sub folder/*"])
    assert done == ["config.json"]
    with pytest.raises(HubError, match="none of its 4 files is wanted"):
        download_snapshot("model", MODEL, commit, tmp_path, ["*.gguf"])


def test_pickled_weights_are_left_out_beside_safetensors(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    extra = ["pytorch_model.bin", "tf_model.h5", "rust_model.ot", "onnx/model.onnx", "a/b.pkl"]
    commit = stand_in.add("model", MODEL, {**FILES, **dict.fromkeys(extra, b"x")})
    assert download_snapshot("model", MODEL, commit, tmp_path) == sorted(FILES)
    assert not any(stand_in.fetched(path) for path in extra)


def test_pickled_weights_alone_are_refused(stand_in: HubStandIn, tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": b"\x80\x02."}
    commit = stand_in.add("model", MODEL, files)
    with pytest.raises(ModelError, match=r"pickled only \(pytorch_model\.bin\)") as caught:
        download_snapshot("model", MODEL, commit, tmp_path)
    assert "safetensors" in one_line(caught)
    assert not stand_in.fetched("pytorch_model.bin")
    # Who wants only the configuration does not meet the weights.
    assert download_snapshot("model", MODEL, commit, tmp_path, ["*.json"]) == ["config.json"]


def test_a_file_name_that_leads_out_is_refused(stand_in: HubStandIn, tmp_path: Path) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    stand_in.extra_siblings = [{"rfilename": "../evil.json", "size": 1, "blobId": "0" * 40}]
    with pytest.raises(HubError, match=r"'\.\./evil\.json' leads out"):
        download_snapshot("model", MODEL, commit, tmp_path / "out")


def test_a_token_does_not_reach_the_second_server(
    stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = stand_in.add("model", MODEL, FILES, access="gated")
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    download_snapshot("model", MODEL, commit, tmp_path)
    tokens = {(request.server, request.token) for request in stand_in.requests}
    assert tokens == {("hub", GOOD_TOKEN), ("cdn", None)}


# Interruptions and wrong bytes


def test_a_cut_connection_resumes_where_it_was_cut(stand_in: HubStandIn, tmp_path: Path) -> None:
    # The client writes chunks of 10 MB and forgets a part of one.
    files = {**FILES, "model.safetensors": WEIGHTS * 11}
    commit = stand_in.add("model", MODEL, files)
    stand_in.cut_after["model.safetensors"] = 11_000_000
    download_snapshot("model", MODEL, commit, tmp_path)
    assert contents(tmp_path) == files
    first, second = stand_in.fetched("model.safetensors")
    assert (first.range, first.status) == (None, 200)
    assert second.range is not None
    assert 10_000_000 <= int(second.range.removeprefix("bytes=").rstrip("-")) <= 11_000_000
    assert second.status == 206


def test_after_a_failed_download_whole_files_are_not_fetched_again(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    download_snapshot("model", MODEL, commit, tmp_path, ["config.json", "README.md"])
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS[:-1])
    stand_in.requests.clear()

    download_snapshot("model", MODEL, commit, tmp_path)
    assert contents(tmp_path) == FILES
    assert not stand_in.fetched("config.json")
    assert len(stand_in.fetched("model.safetensors")) == 1


def test_what_a_killed_attempt_left_is_neither_kept_nor_trusted(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    stand_in.corrupt.add("config.json")
    with pytest.raises(HubError):
        download_snapshot("model", MODEL, commit, tmp_path)
    # By its notes the client takes this file for whole.
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    leftover = tmp_path / ".cache/huggingface/download/0a1b.incomplete"
    leftover.write_bytes(b"half a file that no later attempt takes up")

    with pytest.raises(HubError, match=r"config\.json has git"):
        download_snapshot("model", MODEL, commit, tmp_path)
    assert not leftover.exists()
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_checksum_removes_that_file_and_fetches_it_anew(
    stand_in: HubStandIn, tmp_path: Path, name: str
) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    stand_in.corrupt.add(name)
    with pytest.raises(HubError) as caught:
        download_snapshot("model", MODEL, commit, tmp_path)
    message = one_line(caught)
    assert MODEL in message
    assert f"{name} has " in message
    assert "the hub promises" in message
    assert "run again" in message
    assert not (tmp_path / name).exists()

    stand_in.corrupt.clear()
    stand_in.requests.clear()
    download_snapshot("model", MODEL, commit, tmp_path)
    assert contents(tmp_path) == FILES
    assert [path for path in FILES if stand_in.fetched(path)] == [name]


def test_the_checksum_named_is_the_one_git_computes(stand_in: HubStandIn, tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("needs git as the oracle")
    commit = stand_in.add("model", MODEL, {"config.json": b"right\n"})
    stand_in.corrupt.add("config.json")
    with pytest.raises(HubError) as caught:
        download_snapshot("model", MODEL, commit, tmp_path)
    told = [
        subprocess.run([git, "hash-object", "--stdin"], input=content, capture_output=True)
        for content in (b"sight\n", b"right\n")
    ]
    got, promised = (run.stdout.decode().strip() for run in told)
    assert f"config.json has git {got}, the hub promises {promised}" in one_line(caught)


def test_no_room_is_said_before_the_download(
    stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = stand_in.add("model", MODEL, FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(StoreError, match=r"needs 0\.0 GB and 0\.0 GB are free"):
        download_snapshot("model", MODEL, commit, tmp_path)
    assert not stand_in.fetched("config.json")


def test_a_disk_that_fills_up_is_a_store_error(
    stand_in: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = stand_in.add("model", MODEL, FILES)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(StoreError, match="the disk is full"):
        download_snapshot("model", MODEL, commit, tmp_path)


def test_a_gated_repository_says_where_to_accept(stand_in: HubStandIn, tmp_path: Path) -> None:
    commit = stand_in.add("dataset", MODEL, FILES, access="gated")
    assert resolve_revision("dataset", MODEL) == commit
    with pytest.raises(HubError, match="gated") as caught:
        download_snapshot("dataset", MODEL, commit, tmp_path)
    message = one_line(caught)
    assert f"{stand_in.endpoint}/datasets/{MODEL}" in message
    assert "HF_TOKEN" in message
    assert not FILES.keys() & contents(tmp_path).keys()
