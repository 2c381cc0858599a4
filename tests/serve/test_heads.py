"""A head beside its engine answers as the head that was trained does."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.special import softmax
from torch import nn

from pipeline.core.errors import ModelError
from pipeline.modeling.features import FeatureScale
from pipeline.modeling.heads import Classifier, HeadConfig, save_head
from pipeline.modeling.predictions import _answer
from serve.bundle import BundleHead
from serve.heads import Head, read_head

SPECS = ({"name": "amount", "column": "amount"}, {"name": "digits", "pattern": "[0-9]"})
SCALE = FeatureScale(("amount", "digits"), SPECS, (100.0, 2.0), (40.0, 1.5))


def trained(tmp_path: Path, kind: Any, *, features: bool = False) -> tuple[Classifier, Path]:
    labels = () if kind == "regress" else ("card", "card_arrival", "transfer", "卡")
    scale = SCALE if features else None
    config = HeadConfig(
        labels, "mean", 0.0, 6, kind, scale, value_mean=3.5, value_std=2.0
    )  # fmt: skip
    torch.manual_seed(3)
    head = Classifier(nn.Identity(), config)
    save_head(head, head.score.weight.detach(), tmp_path)
    return head, tmp_path


def about(folder: Path, **more: Any) -> BundleHead:
    return BundleHead("x-classifier", "L2", folder, 4, "0" * 64, **more)


def asked(head: Head, classifier: Classifier, row: int, given: dict[str, Any]) -> Any:
    """(served, trained) logits of one random state."""
    states = torch.randn(6, generator=torch.Generator().manual_seed(row))
    text = "2 cards 40"
    served = head.logits(states.tolist(), head.features(text, given) if head.specs else ())
    parts = [states]
    if head.specs:
        raw = [[float(given["amount"]), float(sum(c.isdigit() for c in text))]]
        parts.append(SCALE.scaled(raw)[0])
    return served, classifier.score(torch.cat(parts)).float().detach()


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("kind", ["single", "multi", "regress"])
def test_answers_are_those_of_the_trained_head(tmp_path: Path, kind: str, features: bool) -> None:
    classifier, folder = trained(tmp_path, kind, features=features)
    head = read_head(about(folder))
    for row in range(20):
        served, logits = asked(head, classifier, row, {"amount": 30 + row})
        np.testing.assert_allclose(served, logits.numpy(), rtol=1e-5, atol=1e-6)
        ours, theirs = head.answer(served), _answer(classifier, logits)
        if kind == "regress":
            assert ours.value == pytest.approx(theirs.value, rel=1e-6)
            continue
        assert theirs.scores is not None
        assert ours.probabilities is not None
        for name, log in theirs.scores.items():
            assert ours.probabilities[name] == pytest.approx(math.exp(log), rel=1e-5)
        expected = theirs.labels if kind == "multi" else (theirs.labels[0],)
        assert (ours.labels if kind == "multi" else (ours.label,)) == expected


def test_a_temperature_divides_the_logits(tmp_path: Path) -> None:
    classifier, folder = trained(tmp_path, "single")
    head = read_head(about(folder, temperature=1.7))
    served, logits = asked(head, classifier, 1, {})
    found = head.answer(served).probabilities
    assert found is not None
    np.testing.assert_allclose(list(found.values()), softmax(logits.numpy() / 1.7), rtol=1e-5)


def test_below_the_threshold_no_label_is_given(tmp_path: Path) -> None:
    classifier, folder = trained(tmp_path, "single")
    served, _ = asked(read_head(about(folder)), classifier, 1, {})
    plain = read_head(about(folder)).answer(served)
    assert plain.probabilities is not None
    best = max(plain.probabilities.values())
    for threshold, abstains in ((best - 1e-9, False), (best, False), (best + 1e-9, True)):
        answer = read_head(about(folder, threshold=threshold)).answer(served)
        assert answer.abstained is abstains
        assert (answer.label is None) is abstains
        assert answer.probabilities == plain.probabilities


@pytest.mark.parametrize("given", [{}, {"amount": "much"}, {"amount": None}])
def test_a_column_that_is_missing_or_no_number_is_told(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    head = read_head(about(trained(tmp_path, "single", features=True)[1]))
    assert head.columns == ("amount",)
    with pytest.raises(ValueError, match="amount"):
        head.features("a text", given)


def test_states_of_another_base_are_refused(tmp_path: Path) -> None:
    head = read_head(about(trained(tmp_path, "single")[1]))
    with pytest.raises(ModelError, match="another base"):
        head.logits([0.0] * 7)
    with pytest.raises(ModelError, match="no number"):
        head.logits([float("nan")] * 6)


def broken(change: str, folder: Path) -> None:
    place = folder / "head.json"
    tree = json.loads(place.read_text())
    if change == "torn":
        place.write_text(place.read_text()[:40])
    elif change == "weights":
        data = (folder / "head.safetensors").read_bytes()
        (folder / "head.safetensors").write_bytes(data[:-7])
    elif change == "labels":
        place.write_text(json.dumps({**tree, "labels": tree["labels"][:-1]}))
    elif change == "kind":
        place.write_text(json.dumps({**tree, "kind": "tag"}))
    elif change == "kinds":
        place.write_text(json.dumps({**tree, "kind": ["single"], "pooling": {}}))
    elif change == "nested":
        place.write_text("[" * 200_000)
    elif change == "beyond":
        place.write_text(json.dumps({**tree, "value_mean": 10**400}))
    elif change == "list":
        place.write_text("[]")
    elif change == "numbers":
        weight = torch.full((4, 6), float("inf"))
        save_file({"score.weight": weight}, str(folder / "head.safetensors"))


@pytest.mark.parametrize(
    "change",
    ["torn", "weights", "labels", "kind", "kinds", "nested", "beyond", "list", "numbers"],
)
def test_a_head_whose_files_do_not_go_together_is_refused(tmp_path: Path, change: str) -> None:
    folder = trained(tmp_path, "single")[1]
    broken(change, folder)
    with pytest.raises(ModelError, match=r"head\.json.*run the recipe again"):
        read_head(about(folder))
