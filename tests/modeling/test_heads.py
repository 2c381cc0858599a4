"""A head keeps all that it needs to answer; one that does not fit is refused in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.preprocessing import StandardScaler
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.errors import DataError, ModelError
from pipeline.modeling.features import FeatureScale, fit_features
from pipeline.modeling.heads import (
    Classifier,
    HeadConfig,
    load_classifier,
    new_classifier,
    pool,
    save_head,
)
from pipeline.modeling.predictions import predict

SHAPE = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 48}  # fmt: skip
SCALE = FeatureScale(
    ("amount", "digits"), ({"name": "amount", "column": "amount"},
    {"name": "digits", "pattern": r"\d"}), (3.5, -1.0), (2.0, 0.25)
)  # fmt: skip
PLAIN = HeadConfig(("a", "b", "c"), "last", 0.1, 32)
KINDS = {
    "single": PLAIN,
    "multi": replace(PLAIN, kind="multi", pooling="mean"),
    "tag": replace(PLAIN, kind="tag", labels=("O", "B-x", "I-x")),
    "regress": replace(PLAIN, kind="regress", labels=(), value_mean=1e6, value_std=250.0),
    "features": replace(PLAIN, features=SCALE),
    "several labels with features": replace(PLAIN, kind="multi", features=SCALE),
}


def body(hidden: int = 32) -> Any:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(Qwen3Config(**{**SHAPE, "hidden_size": hidden}))


def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(2)
    return [
        {"input_ids": torch.randint(3, 64, (length,), generator=generator).tolist(),
         "features": [float(length), length / 3]}
        for length in (5, 9, 1, 7, 3)
    ]  # fmt: skip


def saved(config: HeadConfig, folder: Path) -> Classifier:
    classifier = new_classifier(body(), config, seed=3)
    with torch.no_grad():
        classifier.score.weight.normal_(generator=torch.Generator().manual_seed(1))
    save_head(classifier, classifier.score.weight.detach(), folder)
    return classifier


@pytest.mark.parametrize("name", KINDS)
def test_head_answers_the_same_when_loaded_again(name: str, tmp_path: Path) -> None:
    before = saved(KINDS[name], tmp_path)
    after = load_classifier(body(), tmp_path)
    assert after.config == before.config
    assert predict(after, rows(), pad_id=0) == predict(before, rows(), pad_id=0)


@pytest.mark.parametrize("name", KINDS)
def test_answers_do_not_depend_on_the_rows_beside(name: str, tmp_path: Path) -> None:
    classifier = saved(KINDS[name], tmp_path)
    together = predict(classifier, rows(), pad_id=0)
    for row, answer in zip(rows(), together, strict=True):
        (alone,) = predict(classifier, [row], pad_id=0)
        assert alone.labels == answer.labels
        if answer.value is not None:
            assert alone.value == pytest.approx(answer.value, rel=1e-6)
        for label, score in (answer.scores or {}).items():
            assert alone.scores is not None
            assert alone.scores[label] == pytest.approx(score, abs=1e-5)


def logits_of(classifier: Classifier) -> list[torch.Tensor]:
    """Each row's alone."""
    classifier.eval()
    with torch.no_grad():
        inputs = [torch.tensor([row["input_ids"]]) for row in rows()]
        return [classifier(ids, torch.ones_like(ids))[0] for ids in inputs]


def test_regressor_answers_in_the_units_of_the_data(tmp_path: Path) -> None:
    classifier = saved(KINDS["regress"], tmp_path)
    answers = [answer.value for answer in predict(classifier, rows(), pad_id=0)]
    expected = [1e6 + 250 * float(logits[0]) for logits in logits_of(classifier)]
    assert answers == pytest.approx(expected, rel=1e-9)


def test_tagger_answers_for_each_token(tmp_path: Path) -> None:
    classifier = saved(KINDS["tag"], tmp_path)
    answers = predict(classifier, rows(), pad_id=0)
    for answer, logits in zip(answers, logits_of(classifier), strict=True):
        assert answer.labels == tuple(["O", "B-x", "I-x"][tag] for tag in logits.argmax(dim=1))


def test_labels_of_several_are_those_more_likely_than_not(tmp_path: Path) -> None:
    classifier = saved(KINDS["multi"], tmp_path)
    answers = predict(classifier, rows(), pad_id=0)
    assert len({answer.labels for answer in answers}) > 1
    for answer, logits in zip(answers, logits_of(classifier), strict=True):
        assert answer.labels == tuple(np.array(["a", "b", "c"])[logits > 0])
        scores = np.exp(list((answer.scores or {}).values())).tolist()
        assert scores == pytest.approx(logits.sigmoid().tolist(), abs=1e-5)


def test_label_of_one_is_the_likeliest_and_scores_sum_to_one(tmp_path: Path) -> None:
    classifier = saved(KINDS["single"], tmp_path)
    for answer in predict(classifier, rows(), pad_id=0):
        assert answer.scores is not None
        assert np.exp(list(answer.scores.values())).sum() == pytest.approx(1.0)
        assert answer.labels == (max(answer.scores, key=answer.scores.__getitem__),)


def test_features_are_columns_beside_the_pooled_state(tmp_path: Path) -> None:
    """Oracle: the logits without features plus the weight's last columns, by hand."""
    classifier = saved(KINDS["features"], tmp_path).eval()
    weight = classifier.score.weight
    without = Classifier(classifier.body, PLAIN).eval()
    with torch.no_grad():
        without.score.weight.copy_(weight[:, :32])
    ids, mask = torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.ones(2, 3).long()
    features = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    expected = without(ids, mask) + features @ weight[:, 32:].T
    torch.testing.assert_close(classifier(ids, mask, features), expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="was trained with some"):
        classifier(ids, mask)
    with pytest.raises(ModelError, match="takes none"):
        without(ids, mask, features)


def test_features_are_standardised_as_scikit_learn_does(tmp_path: Path) -> None:
    specs = [{"name": "amount", "column": "amount"}, {"name": "still", "pattern": "x"}]
    (tmp_path / "features.json").write_text(json.dumps(specs))
    # A large mean with a small spread: float32 would lose it.
    raw = [[1e9 + i % 7, 0.1] for i in range(50)]
    scale = fit_features(tmp_path, raw)
    assert scale is not None
    expected = StandardScaler().fit_transform(np.asarray(raw))
    np.testing.assert_allclose(scale.scaled(raw).numpy(), expected, atol=1e-5)
    assert scale.std[1] == 1.0
    assert fit_features(tmp_path / "none", raw) is None


@pytest.mark.parametrize(
    ("features", "reason"),
    [([1.0], "1 features"), (None, "0 features"), ([1.0, float("nan")], "digits: nan")],
)
def test_features_that_do_not_fit_are_named(features: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        SCALE.scaled([[1.0, 2.0], features])


@pytest.mark.parametrize(("pooling", "expected"), [("last", 2.0), ("mean", 1.0), ("cls", 0.0)])
def test_pooling_leaves_padding_out(pooling: str, expected: float) -> None:
    states = torch.tensor([[[0.0], [1.0], [2.0], [99.0]]])
    assert float(pool(states, torch.tensor([[1, 1, 1, 0]]), pooling)) == expected


def test_head_of_another_base_is_refused(tmp_path: Path) -> None:
    saved(PLAIN, tmp_path)
    with pytest.raises(ModelError, match="states of 32 features and the base makes 48"):
        load_classifier(body(48), tmp_path)


def test_weight_of_another_head_is_refused(tmp_path: Path) -> None:
    saved(PLAIN, tmp_path)
    save_file({"score.weight": torch.zeros(4, 32)}, str(tmp_path / "head.safetensors"))
    with pytest.raises(ModelError, match=r"\[4, 32\] and head.json says \[3, 32\]"):
        load_classifier(body(), tmp_path)


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "torn", "empty"])
def test_unreadable_head_is_one_line(name: str, damage: str, tmp_path: Path) -> None:
    saved(PLAIN, tmp_path)
    file = tmp_path / name
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 20 if damage == "torn" else 0])
    with pytest.raises(ModelError, match="cannot be read") as caught:
        load_classifier(body(), tmp_path)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"kind": "other"}, {"pooling": "max"}, {"labels": []}, {"labels": ["a", "a", "b"]},
     {"labels": 3}, {"value_std": 0.0}, {"features": {"names": ["a"], "specs": [], "mean": [],
      "std": []}}, {"hidden_size": "wide"}],
)  # fmt: skip
def test_head_whose_parts_do_not_go_together_is_refused(
    change: dict[str, Any], tmp_path: Path
) -> None:
    saved(PLAIN, tmp_path)
    file = tmp_path / "head.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ModelError, match=r"head\.json") as caught:
        load_classifier(body(), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["kind", "labels", "features", "hidden_size", "value_mean"])
def test_head_without_a_part_is_refused(missing: str, tmp_path: Path) -> None:
    saved(PLAIN, tmp_path)
    file = tmp_path / "head.json"
    tree = json.loads(file.read_text())
    del tree[missing]
    file.write_text(json.dumps(tree))
    with pytest.raises(ModelError, match=missing):
        load_classifier(body(), tmp_path)


def test_saved_weight_is_the_shape_that_transformers_reads(tmp_path: Path) -> None:
    saved(KINDS["features"], tmp_path)
    tensors = load_file(str(tmp_path / "head.safetensors"))
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {"score.weight": (3, 34)}


@pytest.mark.parametrize(("kind", "labels"), [("single", ("a",)), ("tag", ("O",)), ("multi", ())])
def test_too_few_labels_are_refused(kind: Any, labels: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match=r"data\.train"):
        new_classifier(body(), replace(PLAIN, kind=kind, labels=labels), seed=1)
