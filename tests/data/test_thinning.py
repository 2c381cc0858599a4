"""Rows and labels of a learning curve: the same share of each class, nested, and told."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.thinning import thin
from tests.data.preparing import adds_up, names, prepare, tiny_base
from tests.data.test_selection import shelf_of, verdicts_of

SIZES = {"home": 150, "alone": 60, "rare": 4, "single pair": 2}
ROWS = [
    {"text": f"ship {label} {number}", "label": label}
    for label, size in SIZES.items()
    for number in range(size)
]
TESTS = [{"text": f"boat {label}", "label": label} for label in SIZES]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


def _thin(
    folder: Path, root: Artifact, share: float, flipped: float = 0.0, seed: int = 1, **config: Any
) -> tuple[Artifact, Any]:
    settings = {"render": "classify", "carve": CARVE, **config}
    thin = {"share": share, "flipped": flipped, "seed": seed}
    splits = {"train": ROWS, "test": TESTS}
    return prepare(folder, root, splits, thin=thin, **settings)


CARVE = {"carve": 0.2, "by": None, "time": None, "seed": 0}


def _labels(made: Artifact) -> dict[str, str]:
    return {r["example_id"]: r["label"] for r in read_rows(made.path / "train.arrow")}


def test_each_class_keeps_the_same_share_and_at_least_one_row(
    root: Artifact, tmp_path: Path
) -> None:
    whole, _ = prepare(
        tmp_path / "w", root, {"train": ROWS, "test": TESTS}, render="classify", carve=CARVE
    )
    made, facts = _thin(tmp_path / "t", root, 0.1)
    before, after = (Counter(_labels(one).values()) for one in (whole, made))
    assert after == {label: max(1, round(0.1 * rows)) for label, rows in before.items()}
    assert facts["thinned"] == {
        "share": 0.1, "flipped": 0.0, "seed": 1, "rows": after.total(), "of": before.total(),
        "classes": 4, "smallest_class": 1, "labels_flipped": 0,
    }  # fmt: skip
    assert adds_up(facts)
    assert facts["funnel"]["train"]["sampled out"] == before.total() - after.total()


def test_larger_shares_hold_the_smaller_of_one_seed(root: Artifact, tmp_path: Path) -> None:
    shares = (0.01, 0.1, 0.3, 1.0)
    kept = [set(_labels(_thin(tmp_path / str(s), root, s)[0])) for s in shares]
    assert all(small < large for small, large in itertools.pairwise(kept))
    other = set(_labels(_thin(tmp_path / "other", root, 0.3, seed=2)[0]))
    assert other != kept[2]
    assert len(other) == len(kept[2])


def test_what_is_judged_on_is_the_same_at_every_point(root: Artifact, tmp_path: Path) -> None:
    whole, _ = prepare(
        tmp_path / "w", root, {"train": ROWS, "test": TESTS}, render="classify", carve=CARVE
    )
    made, _ = _thin(tmp_path / "t", root, 0.03, flipped=0.3)
    for name in ("test.arrow", "validation.arrow", "labels.json"):
        assert (made.path / name).read_bytes() == (whole.path / name).read_bytes()


def test_all_rows_without_flips_are_the_training_split_itself(
    root: Artifact, tmp_path: Path
) -> None:
    whole, _ = prepare(
        tmp_path / "w", root, {"train": ROWS, "test": TESTS}, render="sft", carve=CARVE
    )
    made, _ = _thin(tmp_path / "t", root, 1.0, render="sft")
    assert (made.path / "train.arrow").read_bytes() == (whole.path / "train.arrow").read_bytes()


def test_flips_are_the_same_share_of_each_class_and_the_fewer_are_among_the_more(
    root: Artifact, tmp_path: Path
) -> None:
    own = _labels(_thin(tmp_path / "0", root, 1.0)[0])
    tables = {}
    for flipped in (0.1, 0.2):
        made, facts = _thin(tmp_path / str(flipped), root, 1.0, flipped)
        tables[flipped] = wrong = {
            name: label for name, label in _labels(made).items() if label != own[name]
        }
        sizes, hit = Counter(own.values()), Counter(own[name] for name in wrong)
        assert all(hit[label] == round(flipped * rows) for label, rows in sizes.items())
        assert facts["thinned"]["labels_flipped"] == len(wrong)
        assert set(_labels(made)) == set(own)
    assert tables[0.1].items() < tables[0.2].items()


def test_a_flip_goes_to_each_other_label_alike(root: Artifact, tmp_path: Path) -> None:
    rows = [{"text": f"ship {n}", "label": "abcd"[n % 4]} for n in range(2000)]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, render="classify",
        thin={"share": 1.0, "flipped": 0.5, "seed": 3},
    )  # fmt: skip
    moved = Counter(
        (rows[int(name)]["label"], label)
        for name, label in _labels(made).items()
        if label != rows[int(name)]["label"]
    )
    assert len(moved) == 12
    assert moved.total() == 1000
    assert chisquare(list(moved.values())).pvalue > 0.001


def test_a_label_writer_is_taught_the_flipped_label(root: Artifact, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    read, _ = _thin(tmp_path / "c", root, 0.5, 0.3)
    written, _ = _thin(tmp_path / "s", root, 0.5, 0.3, render="sft")
    tokenizer = AutoTokenizer.from_pretrained(str(root.path))
    rows = read_rows(written.path / "train.arrow")
    # Both forms see the same rows with the same labels.
    assert {r["example_id"]: r["label"] for r in rows} == _labels(read)
    taught = {
        r["example_id"]: str(
            tokenizer.decode(
                [i for i, on in zip(r["input_ids"], r["supervised"], strict=True) if on],
                skip_special_tokens=True,
            )
        ).strip()
        for r in rows
    }
    assert taught == _labels(read)


def test_class_weights_are_those_of_the_labels_that_are_learned(
    root: Artifact, tmp_path: Path
) -> None:
    made, _ = _thin(tmp_path, root, 0.3, 0.3, clean={"balance": {"action": "weights"}})
    counts = Counter(_labels(made).values())
    weights = json.loads((made.path / "class_weights.json").read_text())
    assert weights == pytest.approx(
        {label: counts.total() / (len(counts) * rows) for label, rows in counts.items()}
    )


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"text": f"a {n}"} for n in range(9)], "9 of 9 have none"),
        ([{"text": f"a {n}", "labels": ["b"]} for n in range(9)], "several"),
        ([{"text": f"a {n}", "label": "b"} for n in range(9)], "another label"),
    ],
)
def test_rows_that_cannot_be_thinned_are_refused(
    root: Artifact, tmp_path: Path, rows: list[dict[str, Any]], words: str
) -> None:
    form = "text" if words.startswith("9") else "classification"
    render = "text" if form == "text" else "classify"
    with pytest.raises(DataError, match=words):
        prepare(
            tmp_path, root, {"train": rows}, source={"format": form}, render=render,
            thin={"share": 0.5, "flipped": 0.2, "seed": 0},
        )  # fmt: skip


def test_rows_that_a_model_made_are_left_to_the_rows_that_they_were_made_from(
    tmp_path: Path,
) -> None:
    rows: list[tuple[str, str | None]] = [(f"row {n}", "ab"[n % 2]) for n in range(40)]
    shelf = shelf_of(tmp_path, rows, [0] * 20 + [1] * 20)
    verdicts = verdicts_of(shelf)
    counted = thin(shelf, verdicts, {"share": 0.5, "seed": 0}, made=1)
    assert np.bincount(shelf.source[verdicts.live]).tolist() == [10, 20]
    assert (counted["rows"], counted["of"]) == (10, 20)


def test_a_prepare_that_thins_nothing_says_nothing_of_it(root: Artifact, tmp_path: Path) -> None:
    made, facts = prepare(tmp_path, root, {"train": ROWS}, render="classify")
    assert "thinned" not in facts
    assert len(names(made, "train")) == len(ROWS)
