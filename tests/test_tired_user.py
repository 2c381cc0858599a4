"""Every verb with what a tired user types: one line and an exit code, never a traceback."""

from __future__ import annotations

import itertools
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
