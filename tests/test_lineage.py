"""What verify finds, beyond changed bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.core.artifact import Artifact, write_manifest
from pipeline.core.store import Store
from pipeline.lineage import lineage_of, print_lineage, verify_store

Commit = Callable[..., Artifact]


def test_whole_store_has_no_problems(store: Store, commit: Commit) -> None:
    commit(store, "a" * 64, {"x.txt": b"1"})
    assert verify_store(store) == (1, [])


def test_lost_manifest_is_found(store: Store, commit: Commit) -> None:
    artifact = commit(store, "a" * 64, {"x.txt": b"1"})
    (artifact.path / "manifest.json").unlink()
    _, problems = verify_store(store)
    assert [str(artifact.path) in line and "no manifest" in line for line in problems] == [True]


def test_lost_input_is_found_and_its_user_named(store: Store, commit: Commit) -> None:
    artifact = commit(store, "a" * 64, {"x.txt": b"1"})
    lost = {"data": {"key": "b" * 64, "digest": "c" * 64}}
    write_manifest(artifact.path, replace(artifact.manifest, inputs=lost))
    _, problems = verify_store(store)
    assert len(problems) == 1
    assert "b" * 64 in problems[0]
    assert "a" * 12 in problems[0]


def test_manifest_of_another_artifact_is_found(store: Store, commit: Commit) -> None:
    artifact = commit(store, "a" * 64, {"x.txt": b"1"})
    write_manifest(artifact.path, replace(artifact.manifest, key="d" * 64))
    _, problems = verify_store(store)
    assert any("is that of dddddddddddd" in line for line in problems)


@pytest.mark.parametrize("differ", [True, False])
def test_own_code_of_a_base_is_told_whatever_its_numerics(
    differ: bool, store: Store, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = commit(store, "a" * 64, {"x.txt": b"1"}, "Adapter")
    served = "full precision" if differ else "nf4"
    losses = {"trained": None, "served": None}
    numerics = {"trained": "nf4", "served": served, "golden_loss": losses}
    facts = {"numerics": numerics, "trust_remote_code": True}
    write_manifest(artifact.path, replace(artifact.manifest, facts=facts, run={"node": "one/x"}))
    print_lineage(lineage_of(store, "a" * 12))
    told = " ".join(capsys.readouterr().out.split())
    assert "; runs the base's own code" in told
    assert ("trained over nf4 and served over full precision" in told) == differ


def test_numerics_are_told_where_training_and_serving_differ(
    store: Store, commit: Commit, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = commit(store, "a" * 64, {"x.txt": b"1"}, "Adapter")
    numerics = {"trained": "nf4", "served": "full precision",
                "golden_loss": {"trained": 1.25, "served": 1.5}}  # fmt: skip
    facts = {"numerics": numerics}
    write_manifest(artifact.path, replace(artifact.manifest, facts=facts, run={"node": "one/x"}))
    print_lineage(lineage_of(store, "a" * 12))
    assert "trained over nf4 and served over full precision: golden loss 1.250, 1.500" in (
        capsys.readouterr().out
    )
