"""Compressed files, folders, URLs: the same rows from everywhere, and what goes wrong there."""

from __future__ import annotations

import bz2
import functools
import gzip
import json
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DataError
from pipeline.data.generators import generate
from pipeline.data.rows import Refused
from pipeline.data.sources import generator_chunks, local_files, peek, read_chunks, remote_identity
from pipeline.data.sources.chunks import BROKEN_OFF
from tests.data.sources.reader import placed, read, refused, rows_of

ROWS = [{"n": n, "text": f"{random.Random(n).random()} é"} for n in range(3000)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    # The smallest blocks, so that small data has several.
    ".bz2": functools.partial(bz2.compress, compresslevel=1),
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("suffix", COMPRESS)
def test_rows_are_the_same_whatever_the_compression(tmp_path: Path, suffix: str) -> None:
    whole, half = tmp_path / f"x.jsonl{suffix}", LINES.index(b"\n", len(LINES) // 2)
    # Two members or frames after each other are one file.
    whole.write_bytes(COMPRESS[suffix](LINES[:half]) + COMPRESS[suffix](LINES[half:]))
    (tmp_path / "x.jsonl").write_bytes(LINES)
    found = read(whole)
    assert placed(found) == ROWS
    assert [each.place.replace(suffix, "") for each in found] == [
        each.place for each in read(tmp_path / "x.jsonl")
    ]
    chunks = [list(read_chunks(str(path), place="p")) for path in (whole, tmp_path / "x.jsonl")]
    assert len(chunks[0]) == len(chunks[1])


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.txt", "x.json"])
def test_a_cut_file_gives_what_stands_before_and_tells_the_rest(
    tmp_path: Path, suffix: str, name: str
) -> None:
    # Noise that no method shrinks away, so that several blocks end before the cut.
    rows = [{"text": str(random.Random(n).getrandbits(400))} for n in range(5000)]
    texts = [row["text"] for row in rows]
    data = {
        "x.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "x.csv": "\n".join(["text", *texts]),
        "x.txt": "\n\n".join(texts),
        "x.json": json.dumps(rows),
    }[name].encode()
    path = tmp_path / f"{name}{suffix}"
    packed = COMPRESS[suffix](data)
    path.write_bytes(packed[: int(len(packed) * 0.9)])
    found = read(path)
    last = found[-1]
    assert isinstance(last, Refused)
    assert last.reason.startswith(f"{BROKEN_OFF} after ")
    assert "ends too early" in last.reason
    kept = placed(found)
    assert 2500 < len(kept) < 5000
    assert kept == rows[: len(kept)]
    assert sum(isinstance(each, Refused) for each in found) <= 2
    if name == "x.jsonl":
        assert last.place == f"{path}:{len(kept) + 1}"


@pytest.mark.parametrize("suffix", COMPRESS)
def test_damaged_bytes_are_told(tmp_path: Path, suffix: str) -> None:
    packed = bytearray(COMPRESS[suffix](LINES))
    middle = len(packed) // 2
    packed[middle : middle + 200] = bytes(200)
    (tmp_path / f"x.jsonl{suffix}").write_bytes(packed)
    last = read(tmp_path / f"x.jsonl{suffix}")[-1]
    assert isinstance(last, Refused)
    assert last.reason.startswith(BROKEN_OFF)
    (tmp_path / f"y.jsonl{suffix}").write_bytes(b"not compressed at all\n")
    only = read(tmp_path / f"y.jsonl{suffix}")
    assert len(only) == 1
    assert isinstance(only[0], Refused)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(cut=st.integers(0, 2000), suffix=st.sampled_from(sorted(COMPRESS)))
def test_wherever_it_is_cut_rows_are_true_and_the_end_is_told(
    tmp_path: Path, cut: int, suffix: str
) -> None:
    packed = COMPRESS[suffix](LINES[:8000])
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(packed[: cut % len(packed)])
    if cut % len(packed) == 0:
        with pytest.raises(DataError, match="holds no rows"):
            read(path)
        return
    found = read(path)
    assert placed(found) == ROWS[: len(found) - 1]
    assert isinstance(found[-1], Refused)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    files = {
        "b.txt": "one\n\ntwo", "a/c.md": "# Title\r\n", ".hidden/x.txt": "no", "a/.x.md": "no",
        "rows.jsonl": '{"text": "row"}\n', "image.png": "?", "LICENSE": "?", "z.jsonl/part.csv":
        "text\nshard\n", "a/blank.txt": " \n",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, newline="")
    return root


def test_a_folder_is_read_whole_and_in_order(folder: Path) -> None:
    found = read(folder)
    assert placed(found) == [
        {"text": "# Title", "source_file": "a/c.md"},
        {"text": "one\n\ntwo", "source_file": "b.txt"},
        {"text": "row"},
        {"text": "shard"},
    ]
    bad = {each.place: each.reason for each in found if isinstance(each, Refused)}
    assert list(bad) == [
        f"{folder}/LICENSE", f"{folder}/a/blank.txt: row 1", f"{folder}/image.png",
    ]  # fmt: skip
    assert bad[f"{folder}/image.png"].startswith(".png is not read; use one of .csv")
    names = [path.relative_to(folder).as_posix() for path in local_files(str(folder))]
    assert names == [
        "LICENSE", "a/blank.txt", "a/c.md", "b.txt", "image.png", "rows.jsonl", "z.jsonl/part.csv",
    ]  # fmt: skip


def test_patterns_choose_among_a_folders_files(folder: Path) -> None:
    assert placed(read(folder, "*.md", "rows.*")) == [
        {"text": "# Title", "source_file": "a/c.md"}, {"text": "row"},
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"holds no file that fits \*\.pdf"):
        read(folder, "*.pdf")
    with pytest.raises(DataError, match="files chooses among those of a folder"):
        read(folder / "b.txt", "*.txt")


def test_a_folder_named_like_a_file_is_a_folder(folder: Path) -> None:
    assert placed(read(folder / "z.jsonl")) == [{"text": "shard"}]
    (folder / "empty.jsonl").mkdir()
    with pytest.raises(DataError, match="holds no file; check the folder"):
        read(folder / "empty.jsonl")


def test_links_do_not_lead_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret/key.txt")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder)
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "same.txt").symlink_to(folder / "b.txt")
    os.mkfifo(folder / "pipe.jsonl")
    found = read(folder)
    assert [row.get("source_file") for row in placed(found)].count("same.txt") == 1
    assert "secret" not in str(placed(found))
    bad = {each.place.removeprefix(f"{folder}/") for each in found if isinstance(each, Refused)}
    assert {"link.txt", "linked", "gone.txt", "pipe.jsonl"} < bad
    assert len(found) == 5 + 3 + 4
    with pytest.raises(DataError, match="neither a file nor a folder"):
        read(folder / "pipe.jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jsonl", "No such file"),
        ("x.zip", ".zip is not read"),
        ("x.gz", "no suffix is not read"),
        ("x", "no suffix is not read"),
        ("x.parquet.gz", "decompress the file"),
        ("nul\0.jsonl", "null"),
        ("x" * 300, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    if name.startswith("x") and len(name) < 20:
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(DataError, match=r"^data\.train: ") as caught:
        read(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_permission_is_one_line(folder: Path) -> None:
    """As a user who may not read: for root there is no such file."""
    (folder / "rows.jsonl").chmod(0)
    (folder / "b.txt").chmod(0)
    user = os.geteuid()
    walk = folder
    while walk != walk.parent:
        if user == 0 and not walk.stat().st_mode & 1:
            walk.chmod(walk.stat().st_mode | 0o755)
        walk = walk.parent
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(DataError, match=r"rows\.jsonl: Permission denied; check the path"):
            read(folder / "rows.jsonl")
        found = read(folder, "*.txt")
    finally:
        os.seteuid(user)
    assert "Permission denied; check the path" in refused(found)["row 1"] or placed(found) == []


def test_a_file_that_vanishes_is_one_line(folder: Path) -> None:
    chunks = read_chunks(str(folder), place="p", files=("a/c.md", "b.txt", "rows.jsonl"))
    next(chunks)
    (folder / "b.txt").unlink()
    (bad,) = list(next(chunks).rows())
    assert isinstance(bad, Refused)
    assert "No such file" in bad.reason
    (folder / "rows.jsonl").unlink()
    with pytest.raises(DataError, match=r"rows\.jsonl: No such file"):
        next(chunks)


def test_urls_read_as_files_do(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/sources/docs/b.txt", b"one\n\ntwo")
    memory.pipe("/sources/docs/a/rows.jsonl.gz", gzip.compress(LINES))
    memory.pipe("/sources/docs/.hidden/x.txt", b"no")
    memory.pipe("/sources/docs/x.bin", b"?")
    try:
        found = read("memory://sources/docs")
        assert placed(found) == [*ROWS, {"text": "one\n\ntwo", "source_file": "b.txt"}]
        assert found[0].place == "memory://sources/docs/a/rows.jsonl.gz:1"
        assert found[-1].place == "memory://sources/docs/x.bin"
        assert len(peek("memory://sources/docs/a/rows.jsonl.gz", place="p")) == 200
        first = remote_identity("memory://sources/docs")
        assert first[0][0] == "memory://sources/docs/a/rows.jsonl.gz"
        assert local_files("memory://sources/docs") == []
        with pytest.raises(DataError, match=r"memory://sources/none: no such file or folder"):
            read("memory://sources/none")
    finally:
        memory.rm("/sources", recursive=True)
    assert read(f"file://{folder}") == read(folder)
    assert local_files(f"file://{folder}") == local_files(str(folder))
    before = remote_identity(f"file://{folder}", ("rows.jsonl",))
    (folder / "rows.jsonl").write_text('{"text": "other"}\n')
    assert remote_identity(f"file://{folder}", ("rows.jsonl",)) != before
    assert remote_identity(str(folder)) == []
    with pytest.raises(DataError, match="nonesuch"):
        read("nonesuch://x/y.jsonl")


def test_a_generators_rows_come_as_it_makes_them() -> None:
    rows = generate("retail_banking", "intents_test", 3)
    found = rows_of(generator_chunks("retail_banking", "intents_test", 3, "data.test"))
    assert placed(found) == rows
    assert found[0].place == "data.test: row 1"
    with pytest.raises(DataError, match="does not exist"):
        generator_chunks("retail_banking", "nonesuch", 3, "data.test")
