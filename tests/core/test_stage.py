"""The table of stages, and what a key is made of."""

from __future__ import annotations

from dataclasses import replace

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
