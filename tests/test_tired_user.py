"""Every verb with what a tired user types: one line and an exit code, never a traceback."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import main

LONG = "x" * 5000
TARGETS = (
    "dir", "empty", "missing.yaml", "bytes.yaml", "nested.yaml", "loop", "-", "", LONG,
    f"{LONG}.yaml", "a\0b", "ünï çode.yaml", "\udcff.yaml", "/dev/null", "bundle", "nested.json",
    "nul.yaml", "/", "a\nb", "http://[::1", "empty/x.yaml",
)  # fmt: skip
FILES = (
    "dir", "empty", "missing.json", "nested.json", "number.json", "list.json", "loop", "-", "",
    LONG, "a\0b", "ü/é.json", "/proc/none/r.json", "/dev/null", "empty/x", "\udcff",
)  # fmt: skip
ASK = ("eval", "http://127.0.0.1:9/v1", "--data", "rows.jsonl", "--retries", "0")
# What is typed stands for WORD.
OF_TARGETS = (
    "plan --no-price WORD", "run WORD", "data WORD", "sweep WORD", "eval WORD", "lineage WORD",
    "audit privacy WORD", "serve WORD", "serve --print WORD", "engine start WORD", "verify WORD",
    "compare WORD x", "compare answers WORD", "push WORD a/b --dry-run", "push x WORD --dry-run",
    "promote WORD 1", "rollback WORD", "releases WORD", "keys revoke WORD", "eval WORD --harness t",
    "init --data rows.jsonl --base WORD --out o.yaml", "plan nul.yaml --set WORD",
    "usage --since WORD", "usage --usage-db WORD", "serve bundle --host WORD",
    "serve bundle --engine-url WORD", "keys add n --file k.json --expires WORD",
    "sweep nul.yaml --space WORD", "init --data WORD --base dir --out o.yaml",
)  # fmt: skip
OF_FILES = (
    "keys list --file WORD", "keys add n --file WORD", "keys revoke n --file WORD",
    "releases --releases WORD", "promote x 1 --releases WORD", "rollback x --releases WORD",
    "serve bundle --keys WORD", "serve bundle --access-log WORD", "compare answers WORD",
    "init --data rows.jsonl --base dir --out WORD", "audit privacy nul.yaml --out WORD",
    "data WORD --format messages",
)  # fmt: skip


@pytest.fixture
def untidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of what should not be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRADUS_STORE", str(tmp_path / "store"))
    for name in ("dir", "bundle", "answers"):
        (tmp_path / name).mkdir()
    nested = "[" * 200_000
    (tmp_path / "bundle" / "bundle.json").write_text("{")
    (tmp_path / "answers" / "metrics.json").write_text(nested)
    (tmp_path / "empty").touch()
    (tmp_path / "bytes.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "nested.yaml").write_text("[" * 5000)
    (tmp_path / "nested.json").write_text(nested)
    (tmp_path / "number.json").write_text("1" * 5000)
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "nul.yaml").write_text('name: x\nlevel: L0\nbase: "a\\0b"\n')
    (tmp_path / "rows.jsonl").write_text('{"text": "x", "label": "a"}\n')
    (tmp_path / "loop").symlink_to("loop2")
    (tmp_path / "loop2").symlink_to("loop")
    return tmp_path


def refused_in_words(words: Sequence[str]) -> str | None:
    """What is wrong with how a command ended; None where it ended as it should."""
    done = CliRunner().invoke(main, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{[ascii(word)[:60] for word in words]}: {done.exception!r:.200}"
    if done.exit_code not in {0, 1, 2, 3}:
        return f"{[ascii(word)[:60] for word in words]}: exit code {done.exit_code}"
    return None


@pytest.mark.parametrize(
    ("line", "typed"),
    [*itertools.product(OF_TARGETS, [TARGETS]), *itertools.product(OF_FILES, [FILES])],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_word_ends_in_a_traceback(untidy: Path, line: str, typed: Sequence[str]) -> None:
    found = [
        refused_in_words([word if each == "WORD" else each for each in line.split()])
        for word in typed
    ]
    assert [problem for problem in found if problem] == []


@pytest.mark.parametrize("option", ["--labels", "--out"])
def test_no_file_beside_an_address_ends_in_a_traceback(untidy: Path, option: str) -> None:
    found = [refused_in_words([*ASK, option, word]) for word in FILES]
    assert [problem for problem in found if problem] == []


ENTRY = {"name": "demo", "level": "L2", "recipe": "r.yaml", "keys": {"root": "a" * 64}}
MANIFEST = {
    "kind": "Model", "key": "a" * 64, "digest": "d", "stage": "fetch", "stage_version": 1,
    "config": {}, "packages": {}, "inputs": {}, "local_files": {}, "files": {},
}  # fmt: skip
NESTED = "[" * 200_000
BROKEN = (NESTED, "", "[]", "{}", "null", "1", '"x"', '{"name": 1}', '{"name": "demo"}')
ENTRIES = (
    *BROKEN, json.dumps({**ENTRY, "keys": []}), json.dumps({**ENTRY, "keys": {"root": 1}}),
    json.dumps({**ENTRY, "gates": []}), json.dumps(ENTRY),
)  # fmt: skip
MANIFESTS = (
    *BROKEN, json.dumps({**MANIFEST, "inputs": {"x": 1}}), json.dumps({**MANIFEST, "files": [1]}),
    json.dumps({**MANIFEST, "inputs": {"x": {"key": "a"}}}),
    json.dumps({**MANIFEST, "files": {"../x": "d", "a\0b": "d"}}),
    json.dumps({**MANIFEST, "files": {"x": 1}}), json.dumps({**MANIFEST, "facts": None}),
    json.dumps({**MANIFEST, "config": []}), json.dumps(MANIFEST),
)  # fmt: skip
OF_STORES = (
    "models", "models --json", "lineage demo", "lineage aaaaaa", "verify", "eval demo",
    "compare demo demo", "push demo a/b --dry-run", "serve demo", "keys list", "releases",
    "usage", "plan --no-price nul.yaml",
)  # fmt: skip


@pytest.mark.parametrize(
    ("place", "texts"),
    [
        ("models/demo.json", ENTRIES),
        (f"objects/{'a' * 64}/manifest.json", MANIFESTS),
        ("digests.json", BROKEN),
        ("keys.json", BROKEN),
        ("releases.json", BROKEN),
        ("usage.db", BROKEN),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_no_broken_file_of_a_store_ends_in_a_traceback(
    untidy: Path, place: str, texts: Sequence[str]
) -> None:
    store = untidy / "store"
    found = []
    for text in texts:
        shutil.rmtree(store, ignore_errors=True)
        for name, content in {"models/demo.json": json.dumps(ENTRY), place: text}.items():
            (store / name).parent.mkdir(parents=True, exist_ok=True)
            (store / name).write_text(content)
        found += [(text[:60], refused_in_words(line.split())) for line in OF_STORES]
    assert [problem for problem in found if problem[1]] == []
