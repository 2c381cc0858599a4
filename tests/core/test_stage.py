"""The table of stages, and what a key is made of."""

from __future__ import annotations

import ast
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core import stage
from pipeline.core.stage import STAGES, stage_key

CONFIG = {"learning_rate": 2e-4, "nested": {"a": 1, "b": [1, 2]}}
INPUTS = {"root": "r" * 64, "data": "d" * 64}
FILES = {"train0": "f" * 64}


def key(**changed: object) -> str:
    given: dict[str, object] = {"config": CONFIG, "inputs": INPUTS, "local_files": FILES, **changed}
    return stage_key("train", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(STAGES))
def test_every_stage_resolves_to_something_that_runs(name: str) -> None:
    assert callable(STAGES[name].load().run)


@pytest.mark.parametrize("name", sorted(STAGES))
def test_packages_that_shape_a_result_are_installed(name: str) -> None:
    versions = STAGES[name].package_versions()
    assert "missing" not in versions.values()


@pytest.mark.parametrize("name", ["prepare", "augment"])
def test_every_library_that_shapes_rows_is_in_the_key(name: str) -> None:
    """Whatever our code imports on the way from a source to rows, by reading it."""
    folder = Path(stage.__file__).parents[1]
    files = [*(folder / "data").rglob("*.py"), *(folder / "stages").glob(f"{name}*.py")]
    only_prepare = {"transformers", "jinja2", "cleanlab", "scikit-learn", "scipy", "threadpoolctl"}
    found = {_imported(name) for file in files for name in _imports(file)} - set(UNHEARD)
    wanted = found - {"", "pipeline"} - (only_prepare if name == "augment" else set())
    assert len(wanted) > 8
    assert wanted <= set(STAGES[name].packages)


# They carry bytes and settings: whatever their version, the same rows come out.
UNHEARD = ("fsspec", "huggingface-hub", "openai", "pyyaml", "zstandard")
_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml"}


def _imported(module: str) -> str:
    own = module in sys.stdlib_module_names and module != "unicodedata"
    return "" if own else _NAMES.get(module, module.replace("_", "-"))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("name", ["prepare", "augment"])
def test_key_follows_the_tables_of_characters(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stage_key(name, {}, {}, {})
    assert STAGES[name].package_versions()["unicodedata"].count(".") == 2
    monkeypatch.setattr(unicodedata, "unidata_version", "99.0.0")
    stage._version.cache_clear()
    after = stage_key(name, {}, {}, {})
    monkeypatch.undo()
    stage._version.cache_clear()
    assert after != before


def test_key_is_64_hex_digits_and_the_same_each_time() -> None:
    assert len(key()) == 64
    assert int(key(), 16)
    assert key() == key()


def test_key_ignores_the_order_of_settings() -> None:
    turned = {"nested": {"b": [1, 2], "a": 1}, "learning_rate": 2e-4}
    assert key(config=turned) == key()
    assert key(inputs=dict(reversed(INPUTS.items()))) == key()


@pytest.mark.parametrize(
    "changed",
    [
        {"config": {**CONFIG, "learning_rate": 3e-4}},
        {"config": {**CONFIG, "nested": {"a": 1, "b": [2, 1]}}},
        {"inputs": {**INPUTS, "root": "0" * 64}},
        {"inputs": {"data": "r" * 64, "root": "d" * 64}},
        {"local_files": {"train0": "0" * 64}},
        {"local_files": {}},
    ],
)
def test_key_follows_settings_inputs_and_files(changed: dict[str, object]) -> None:
    assert key(**changed) != key()


def test_key_follows_the_stage_its_version_and_its_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = key()
    assert stage_key("merge", CONFIG, INPUTS, FILES) != before
    newer = {**STAGES, "train": replace(STAGES["train"], version=99)}
    monkeypatch.setattr(stage, "STAGES", newer)
    assert key() != before
    monkeypatch.setattr(stage, "STAGES", STAGES)
    monkeypatch.setattr(stage, "_version", lambda _package: "0.0.1")
    assert key() != before


def test_key_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        key(config={"learning_rate": float("nan")})
