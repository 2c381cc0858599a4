"""Exposure by its published definition, the estimates against closed forms; what a canary is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import skewnorm

from eval.risks.canaries import (
    SPACE,
    InsertCanaries,
    make_canaries,
    other_secrets,
    read_canaries,
)
from eval.risks.exposure import exposure, fitted_exposure, rank_of, sampled_exposure
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, UserError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import Split
from pipeline.data.writing import segments


@pytest.mark.parametrize(
    ("rank", "space", "bits"),
    # Definition 2 of Carlini et al. 2019: the first of 10^9 is exposed by log2 10^9 = 29.9 bits,
    # the last by none, each halving of the rank is one bit more.
    [(1, 10**9, 29.897), (10**9, 10**9, 0.0), (2**10, 2**20, 10.0), (2**9, 2**20, 11.0)],
)
def test_exposure_is_log2_of_the_space_less_log2_of_the_rank(
    rank: int, space: int, bits: float
) -> None:
    assert exposure(rank, space) == pytest.approx(bits, abs=1e-3)


def test_a_rank_outside_the_space_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 0 is not between 1 and 10"):
        exposure(0, 10)


def test_ties_stand_before_a_canary() -> None:
    assert rank_of(1.0, [2.0, 3.0]) == 1
    assert rank_of(1.0, [1.0, 1.0, 0.5, 3.0]) == 4
    assert sampled_exposure(1.0, [1.0, 1.0, 0.5]) == 0.0


def test_an_unknown_canary_is_exposed_by_1_44_bits_on_average() -> None:
    """Of a uniform rank, -log2 U has mean log2 e."""
    rng = np.random.default_rng(0)
    bits = []
    for _ in range(3000):
        own, *others = rng.normal(size=400)
        bits.append(sampled_exposure(own, others))
    assert np.mean(bits) == pytest.approx(math.log2(math.e), abs=0.1)


def test_the_fit_finds_the_tail_of_a_known_skew_normal() -> None:
    law = skewnorm(4.0, loc=10.0, scale=3.0)
    losses = law.rvs(4000, random_state=np.random.default_rng(3))
    for share in (0.25, 0.02, 0.001):
        loss = float(law.ppf(share))
        assert fitted_exposure(loss, losses, 10**6) == pytest.approx(-math.log2(share), abs=0.7)


def test_the_fit_never_tells_more_than_the_space_holds() -> None:
    losses = np.random.default_rng(4).normal(size=500)
    assert fitted_exposure(-1e6, losses, 10**6) == pytest.approx(math.log2(10**6))
    assert fitted_exposure(1e6, losses, 10**6) == 0.0


def test_canaries_are_each_of_their_own_name_and_their_references_of_none() -> None:
    canaries = make_canaries(5, seed=1, labels=["a", "b"])
    assert [canary.repeats for canary in canaries] == [0] * 5 + [1] * 5 + [10] * 5 + [100] * 5
    assert len({canary.name for canary in canaries}) == 20
    assert canaries == make_canaries(5, seed=1, labels=["a", "b"])
    others = other_secrets(canaries[0], 300, seed=1)
    assert len(set(others)) == 300
    assert canaries[0].secret not in others
    assert all(int(secret) < SPACE and len(secret) == 6 for secret in others)


def cut_at(length: int, data: Artifact) -> Artifact:
    """The Dataset as a recipe with another max_length prepares it: its rows are short."""
    config = {**data.manifest.config, "max_length": length}
    return Artifact(data.path, replace(data.manifest, config=config))


@pytest.mark.parametrize("render", ["sft", "classify"])
def test_each_canary_stands_in_the_copy_as_often_as_it_says(
    made: Mapping[str, Artifact], context: Callable[..., StageContext], render: str
) -> None:
    data = made[f"tiny-task/prepare.{render}"]
    place = context()
    before = Split(data.path / "train.arrow")
    config = {"each": 1, "seed": 0}
    inputs = {"data": cut_at(256, data), "tokenizer": made["tiny-l0/scratch"]}
    InsertCanaries().run(inputs, config, place)
    after = Split(place.out / "train.arrow")
    assert len(after) == len(before) + 111
    names = [row["example_id"].split("/")[1] for row in after if "canary" in row["example_id"]]
    canaries = read_canaries(place.out)
    assert [names.count(canary.name) for canary in canaries] == [0, 1, 10, 100]
    assert (place.out / "test.arrow").read_bytes() == (data.path / "test.arrow").read_bytes()
    labels = json.loads((data.path / "labels.json").read_text())
    own = after[len(after) - 1]
    if render == "classify":
        assert own["label"] in labels
    else:
        # The secret is what is learned: digits, blanks and the end of the turn.
        assert sum(own["supervised"]) >= 12


def test_canaries_share_blocks_where_rows_do(
    made: Mapping[str, Artifact], context: Callable[..., StageContext]
) -> None:
    data = made["tiny-l0/prepare.text"]
    place = context()
    inputs = {"data": cut_at(64, data), "tokenizer": made["tiny-l0/scratch"]}
    InsertCanaries().run(inputs, {"each": 1, "seed": 0}, place)
    blocks = list(Split(place.out / "train.arrow"))
    assert max(len(block["input_ids"]) for block in blocks) <= 64
    parts = [part["example_id"] for block in blocks for part in segments(block)]
    assert sum(name.startswith("canary/") for name in parts) == 111


def test_what_cannot_hold_a_canary_is_refused(
    made: Mapping[str, Artifact], context: Callable[..., StageContext], tmp_path: Path
) -> None:
    data = made["tiny-task/prepare.classify"]
    inputs = {"data": cut_at(8, data), "tokenizer": made["tiny-l0/scratch"]}
    with pytest.raises(DataError, match=r"takes .* tokens, and train.max_length is 8; raise it"):
        InsertCanaries().run(inputs, {"each": 1, "seed": 0}, context())
    folder = tmp_path / "tags"
    folder.mkdir()
    (folder / "render.json").write_text('{"render": "tag"}')
    with pytest.raises(UserError, match="rendered for tag cannot hold a canary; audit a recipe"):
        InsertCanaries().run({**inputs, "data": Artifact(folder, data.manifest)}, {}, context())
