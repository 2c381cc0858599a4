"""`gradus audit privacy`: canaries in a throwaway copy, more exposed the more often they stand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.core.store import Store
from tests.tiny_ladder import objective, write_ladder

Gradus = Callable[..., Result]
# Enough updates that what stands there 100 times is learned, over rows as they come.
LONGER = ["train.max_steps=40", "train.max_length=64", "train.learning_rate=1e-2"]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from click.testing import CliRunner

    from pipeline.cli import main

    folder = tmp_path_factory.mktemp("audit")
    recipe = write_ladder(folder / "recipes").with_name("l0.yaml")
    sets = [word for one in LONGER for word in ("--set", one)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADUS_STORE", str(folder / "store"))
        patch.setenv("OMP_NUM_THREADS", "1")
        result = CliRunner().invoke(
            main,
            ["audit", "privacy", str(recipe), *sets, "--canaries", "1", "--reference", "100",
             "--json", "--out", str(folder / "audit.json")],
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second, third, fourth = result.stderr.splitlines()[:4]
    assert first.startswith("audit of tiny-")
    assert first.endswith(
        ": trains 1 throwaway copy on its rows and 111 more (4 canaries: 1 of each of 0, 1, 10, "
        "100 repeats); each canary is ranked among 100 contents"
    )
    assert second.startswith("membership: at most 1,000 training rows against as many test rows")
    assert third == f"`gradus plan {recipe}` tells what one training takes"
    assert fourth == "before it: 2 stages of the recipe itself"
    assert json.loads((folder / "audit.json").read_text()) == json.loads(result.stdout)
    return folder / "store", json.loads(result.stdout)


def mean_bits(audit: dict[str, Any], repeats: int) -> float:
    bits = [c["fitted_bits"] for c in audit["canaries"] if c["repeats"] == repeats]
    assert len(bits) == 1
    return sum(bits) / len(bits)


def test_a_canary_repeated_100_times_is_more_exposed_than_one_that_stands_once(
    audited: tuple[Path, dict[str, Any]],
) -> None:
    (model,) = audited[1]["models"]
    print([(c["repeats"], c["rank"], c["of"], c["fitted_bits"]) for c in model["canaries"]])
    assert mean_bits(model, 100) > mean_bits(model, 1) + 3
    assert all(c["rank"] == 1 for c in model["canaries"] if c["repeats"] == 100)
    assert mean_bits(model, 0) < mean_bits(model, 100) - 3


def test_nothing_of_an_audit_is_left_in_the_store(audited: tuple[Path, dict[str, Any]]) -> None:
    store = Store(audited[0])
    assert store.models() == []
    assert list((store.root / "work").glob("audit-*")) == []
    assert {a.manifest.stage for a in store.all()} == {"scratch", "prepare"}
    assert not any(
        b"access code" in path.read_bytes() for path in store.root.rglob("*") if path.is_file()
    )


def test_an_audit_tells_membership_beside_exposure(audited: tuple[Path, dict[str, Any]]) -> None:
    lines = audited[1]["lines"]
    told = {line["what"].partition(":")[0]: line for line in lines}
    assert told["exposure of held-out canaries"]["n"] == 1
    auroc, found = (line for line in lines if line["what"].startswith("membership"))
    assert 0 <= auroc["low"] <= auroc["value"] <= auroc["high"] <= 1
    # The ladder has 8 test rows: 1 % of them is no row.
    assert found["why"] == "1% of 8 test rows is less than one row"


def test_a_recipe_that_trains_nothing_is_refused(
    tmp_path: Path, model_folder: Path, refusal: Callable[..., str]
) -> None:
    recipe = tmp_path / "base.yaml"
    recipe.write_text(f"name: base\nlevel: L0\nbase: {model_folder}\n")
    assert "trains nothing, so there is nothing to audit" in refusal("audit", "privacy", recipe)


def test_findings_that_could_not_be_written_are_refused_before_the_training(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    recipe = tmp_path / "l0.yaml"
    out = tmp_path / "nowhere" / "audit.json"
    assert "its folder is not there" in refusal("audit", "privacy", recipe, "--out", out)


def test_an_objective_whose_rows_hold_no_canary_is_refused(
    ladder: Path, refusal: Callable[..., str]
) -> None:
    objective(ladder, "channel")
    told = refusal("audit", "privacy", ladder)
    assert told.startswith("l2.yaml: its objective is channel, whose rows cannot hold a canary")
