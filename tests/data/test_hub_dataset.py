"""Reading a downloaded hub data set: configurations, splits, labels, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import DataError
from pipeline.core.hub import download_snapshot, resolve_revision
from pipeline.data.hub_dataset import hub_chunks
from pipeline.data.rows import Placed
from tests.hub_case import point_at
from tests.hub_stand_in import HubStandIn

ROOT = Path(__file__).resolve().parents[2]
ROWS = [{"text": "where is my card", "label": 1}, {"text": "Überweisung\nfehlt", "label": 0}]
README = """\
---
configs:
- config_name: intents
  default: true
  data_files:
  - split: train
    path: data/train-*.parquet
  - split: test
    path: data/test.parquet
- config_name: names
  data_files:
  - split: train
    path: names.parquet
---
# A data set
"""


def _parquet(rows: list[dict[str, object]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


FILES = {
    ".gitattributes": b"*.parquet filter=lfs diff=lfs merge=lfs -text\n",
    "README.md": README.encode(),
    "data/train-00000-of-00002.parquet": _parquet(ROWS[:1]),
    "data/train-00001-of-00002.parquet": _parquet(ROWS[1:]),
    "data/test.parquet": _parquet([{"text": "a", "label": 1}, {"text": "b", "label": None}]),
    "names.parquet": _parquet([{"name": "Ada", "kind": "person"}]),
}


def _read(folder: Path, config: str | None, split: str) -> list[dict[str, Any]]:
    chunks = [
        pickle.loads(pickle.dumps(chunk))  # noqa: S301
        for chunk in hub_chunks(folder, config, split, "p")
    ]
    found = [row for chunk in chunks for row in chunk.rows()]
    assert [row.place for row in found] == [f"p: row {n}" for n in range(1, len(found) + 1)]
    assert all(isinstance(row, Placed) for row in found)
    return [row.row for row in found]


def _write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write(tmp_path / "snapshot", FILES)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with HubStandIn() as server:
        point_at(monkeypatch, server.endpoint)
        yield server


def test_a_data_set_from_the_hub_reads_as_its_readme_says(
    stand_in: HubStandIn, tmp_path: Path
) -> None:
    stand_in.add("dataset", "acme/intents", FILES)
    commit = resolve_revision("dataset", "acme/intents")
    download_snapshot("dataset", "acme/intents", commit, tmp_path)
    assert _read(tmp_path, "intents", "train") == ROWS


def test_no_configuration_takes_the_default(folder: Path) -> None:
    assert _read(folder, None, "train") == ROWS
    assert [row["label"] for row in _read(folder, None, "test")] == [1, None]


def test_a_named_configuration_is_taken(folder: Path) -> None:
    assert _read(folder, "names", "train") == [{"name": "Ada", "kind": "person"}]


def test_an_unknown_configuration_lists_those_that_exist(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no configuration 'intent'; it has 'intents', 'names'"):
        _read(folder, "intent", "train")


@pytest.mark.parametrize("split", ["validation", "train[:1]", "train+test"])
def test_an_unknown_split_lists_those_that_exist(folder: Path, split: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(folder, None, split)
    assert f"no split {split!r}; it has 'train', 'test'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_configurations_without_a_default_must_be_named(tmp_path: Path) -> None:
    readme = README.replace("  default: true\n", "").encode()
    _write(tmp_path, {**FILES, "README.md": readme})
    with pytest.raises(DataError, match="set config to one of 'intents', 'names'"):
        _read(tmp_path, None, "train")


def test_files_without_a_readme_are_split_by_name(tmp_path: Path) -> None:
    _write(tmp_path, {"train.csv": b"text,label\nx,1\n", "test.csv": b"text,label\ny,0\n"})
    assert _read(tmp_path, None, "test") == [{"text": "y", "label": 0}]


def test_class_labels_are_given_by_name(tmp_path: Path) -> None:
    readme = b"""\
---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': card_lost
          '1': transfer_missing
configs:
- config_name: default
  data_files:
  - split: train
    path: train.csv
---
"""
    _write(tmp_path, {"README.md": readme, "train.csv": b"text,label\nx,1\ny,-1\nz,0\n"})
    rows = _read(tmp_path, None, "train")
    assert [row["label"] for row in rows] == ["transfer_missing", None, "card_lost"]


def test_a_readme_that_points_to_another_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.parquet").write_bytes(_parquet([{"text": "not of the commit"}]))
    readme = README.replace("names.parquet", "../outside.parquet").encode()
    folder = _write(tmp_path / "snapshot", {**FILES, "README.md": readme})
    with pytest.raises(DataError) as caught:
        _read(folder, "names", "train")
    assert "outside.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_readme_that_points_to_an_address_is_refused_unasked(
    stand_in: HubStandIn, folder: Path
) -> None:
    address = f"{stand_in.endpoint}/rows.parquet"
    readme = README.replace("names.parquet", address).encode()
    (folder / "README.md").write_bytes(readme)
    for config in ("intents", "names"):
        with pytest.raises(DataError, match="outside of the data set") as caught:
            _read(folder, config, "train")
        assert f"points to {address}" in str(caught.value)
    assert stand_in.requests == []


def test_a_torn_file_is_one_line(folder: Path) -> None:
    (folder / "data/train-00001-of-00002.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(DataError, match="split train cannot be read") as caught:
        _read(folder, None, "train")
    assert "\n" not in str(caught.value)


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, None, "train")
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such folder"):
        _read(tmp_path / "none", None, "train")


def test_a_changed_file_of_the_same_name_is_read_anew(folder: Path) -> None:
    assert _read(folder, "names", "train")[0]["name"] == "Ada"
    (folder / "names.parquet").write_bytes(_parquet([{"name": "Bob", "kind": "person"}]))
    assert _read(folder, "names", "train")[0]["name"] == "Bob"


def test_reading_leaves_nothing_in_the_home_or_the_data_set(folder: Path, tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    script = (
        "import sys; from pathlib import Path; "
        "from pipeline.data.hub_dataset import hub_chunks; "
        "assert 'datasets' not in sys.modules; "
        f"chunks = list(hub_chunks(Path({str(folder)!r}), None, 'train', 'p')); "
        "print(sum(len(list(chunk.rows())) for chunk in chunks))"
    )
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "PATH": os.environ["PATH"]}
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.stdout.strip() == str(len(ROWS)), run.stderr
    assert run.stderr == ""
    assert list(home.rglob("*")) == []
    assert list(temporary.rglob("*")) == []
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert kept == FILES.keys()


def test_the_copy_lives_as_long_as_the_iterator(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr("pipeline.data.hub_dataset.batch_rows", lambda *_: 1)
    chunks = hub_chunks(folder, None, "train", "p")
    first = next(chunks)
    assert list(temporary.rglob("*.arrow"))
    assert [row.row for row in first.rows()] == ROWS[:1]
    chunks.close()
    assert list(temporary.iterdir()) == []


def test_columns_of_json_are_values_again(tmp_path: Path) -> None:
    """The library keeps objects of differing shape as JSON text."""
    from datasets import Dataset, Features, Json, Value

    rows = [{"n": 1, "call": {"a": 1}}, {"n": 2, "call": {"b": ["x"]}}]
    features = Features({"n": Value("int64"), "call": Json()})
    Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "train.parquet"))
    assert _read(tmp_path, None, "train") == rows


def test_many_rows_come_in_pieces_and_in_order(tmp_path: Path) -> None:
    rows = [{"n": n, "text": "x" * (n % 7)} for n in range(2500)]
    (tmp_path / "train.parquet").write_bytes(_parquet(rows))
    assert len(list(hub_chunks(tmp_path, None, "train", "p"))) > 2
    assert _read(tmp_path, None, "train") == rows
