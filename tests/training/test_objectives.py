"""Each objective's loss and gradients against those of transformers, and of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sklearn.preprocessing import StandardScaler
from torch.nn import functional

from pipeline.modeling.loading import plain_model
from pipeline.training.objectives import HybridModel, LabelModel, TokenModel
from pipeline.training.targets import batch_of
from pipeline.training.vocabulary import read_tokens, scales_logits
from tests.training.objective_case import (
    CONFIG,
    HIDDEN,
    LABELS,
    TAGS,
    VOCABULARY,
    batch_for,
    bert,
    gradients,
    in_parts,
    qwen,
    rows,
    trainee_of,
    with_lora,
)

SHAPE = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
         "intermediate_size": 48}  # fmt: skip
SCALED: dict[str, dict[str, Any]] = {
    "Gemma2Config": {**SHAPE, "final_logit_softcapping": 0.5},
    "CohereConfig": {**SHAPE, "logit_scale": 0.3},
    "GraniteConfig": {**SHAPE, "logits_scaling": 7.0},
}


def theirs(kind: str, objective_module: Any, body: Any, outputs: int, **extra: Any) -> Any:
    """transformers' own model for the task, with our weights."""
    config = type(body.config)(**{**body.config.to_dict(), "num_labels": outputs, **extra})
    model = getattr(transformers, f"Auto{kind}").from_config(config)
    prefix = body.base_model_prefix
    getattr(model, prefix).load_state_dict(body.base_model.state_dict(), strict=True)
    head = model.score if hasattr(model, "score") else model.classifier
    with torch.no_grad():
        head.weight.copy_(objective_module.classifier.score.weight)
        if head.bias is not None:
            head.bias.zero_()
    return model


def compare(
    module: Any, body: Any, model: Any, loss: torch.Tensor, ours: float, grads: Any
) -> None:
    """Their loss and the gradients of the body's parameters."""
    assert ours == pytest.approx(float(loss.detach()), abs=1e-5)
    loss.backward()
    own = {n.removeprefix("classifier.body."): g for n, g in grads.items()}
    prefix, compared = body.base_model_prefix, 0
    for name, parameter in getattr(model, prefix).named_parameters():
        found = own.get(f"{prefix}.{name}")
        if parameter.grad is None:
            assert found is None
            continue
        assert found is not None, name
        torch.testing.assert_close(found, parameter.grad, rtol=0, atol=1e-5)
        compared += 1
    assert compared > 10
    head = model.score if hasattr(model, "score") else model.classifier
    torch.testing.assert_close(own["classifier.score.weight"], head.weight.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["single", "multi", "regress"])
def test_row_losses_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    """Oracle: AutoModelForSequenceClassification, whose decoders pool the last token."""
    body = qwen()
    objective = "regress" if kind == "regress" else "classify"
    trainee, config = trainee_of(objective, body, tmp_path, several=kind == "multi")
    batch = batch_for(trainee, config)
    ours, grads = in_parts(trainee, batch, 2)
    labels = batch["labels"] if kind != "regress" else torch.tensor(
        StandardScaler().fit_transform([[row["value"]] for row in rows()]), dtype=torch.float32
    )  # fmt: skip
    problem = {"single": "single_label_classification", "multi": "multi_label_classification",
               "regress": "regression"}[kind]  # fmt: skip
    outputs = 1 if kind == "regress" else len(LABELS)
    model = theirs(
        "ModelForSequenceClassification", trainee.module, body, outputs, problem_type=problem
    )
    made = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
        labels=labels[:, 0] if kind == "regress" else labels,
    )  # fmt: skip
    compare(trainee.module, body, model, made.loss, ours, grads)


@pytest.mark.parametrize("base", [qwen, bert])
def test_tags_are_learned_as_in_transformers(base: Any, tmp_path: Path) -> None:
    """Oracle: AutoModelForTokenClassification on the whole batch."""
    body = base()
    trainee, config = trainee_of("tag", body, tmp_path)
    batch = batch_for(trainee, config)
    ours, grads = in_parts(trainee, batch, 3)
    model = theirs("ModelForTokenClassification", trainee.module, body, len(TAGS),
                   classifier_dropout=0.0)  # fmt: skip
    model.eval()
    made = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
                 labels=batch["tags"])  # fmt: skip
    compare(trainee.module, body, model, made.loss, ours, grads)


@pytest.mark.parametrize("name", SCALED)
def test_scaled_logits_are_learned_as_in_transformers(name: str) -> None:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, name)(**SCALED[name]), attn_implementation="eager"
    )
    assert scales_logits(model)
    batch, labels = _text_batch()
    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
          labels=labels).loss.backward()  # fmt: skip
    expected = gradients(model)
    summed, count = TokenModel(model)(batch)
    (summed / count).backward()
    found = gradients(model)
    for parameter, gradient in expected.items():
        torch.testing.assert_close(found[parameter], gradient, rtol=0, atol=1e-5)
    # What a head would pool are the states that the backbone hands to the vocabulary.
    states = model.base_model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(read_tokens(model, batch).states, states, rtol=0, atol=1e-6)


@pytest.mark.parametrize("made", ["tied", "untied", "lora", "lora on the vocabulary", "whole head"])
def test_text_is_learned_as_in_transformers(made: str) -> None:
    """Whatever the vocabulary's head is: plain, tied, with an adapter, trained beside one."""
    body = qwen(lora=made == "lora", tied=made == "tied")
    if made == "lora on the vocabulary":
        body = with_lora(body, target_modules=["q_proj", "lm_head"])
    if made == "whole head":
        body = with_lora(body, modules_to_save=["lm_head"])
    batch, labels = _text_batch()
    body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"],
         labels=labels).loss.backward()  # fmt: skip
    expected = gradients(body)
    summed, count = TokenModel(body)(batch)
    (summed / count).backward()
    found = gradients(body)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)


def test_masked_tokens_are_learned_as_in_transformers(tmp_path: Path) -> None:
    body = bert()
    trainee, config = trainee_of("mlm", body, tmp_path)
    batch = batch_for(trainee, config)
    ours, found = in_parts(trainee, batch, 3)
    labels = batch["input_ids"].masked_fill(~batch["chosen"], -100)
    made = body(batch["masked_ids"], attention_mask=batch["attention_mask"], labels=labels)
    assert ours == pytest.approx(float(made.loss.detach()), abs=1e-5)
    made.loss.backward()
    for name, gradient in gradients(trainee.module).items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)


def _text_batch() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(3, VOCABULARY, (3, 11), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    supervised = torch.rand(ids.shape, generator=generator) < 0.5
    supervised &= mask.bool()
    supervised[:, 0] = False
    batch = {"input_ids": ids, "attention_mask": mask, "supervised": supervised}
    return batch, ids.masked_fill(~supervised, -100)


def test_hybrid_gradient_is_the_weighted_sum_of_both(tmp_path: Path) -> None:
    """Oracle: transformers' loss of the answer, and torch's of a head over the question alone."""
    body = qwen(lora=True)
    trainee, config = trainee_of("hybrid", body, tmp_path)
    batch = batch_for(trainee, config)
    ours, found = in_parts(trainee, batch, 2)
    labels = batch["input_ids"].masked_fill(~batch["supervised"], -100)
    written = body(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels).loss
    module: Any = trainee.module
    # The question without its answer: what a head sees when it serves.
    asked = []
    for row in rows():
        ids = torch.tensor([row["input_ids"][: row["prompt"]]])
        asked.append(plain_model(body).model(ids).last_hidden_state[0, -1])
    judged = functional.cross_entropy(
        functional.linear(torch.stack(asked), module.classifier.score.weight),
        torch.tensor([LABELS.index(row["label"]) for row in rows()]),
    )
    shares = CONFIG["hybrid"]
    expected = shares["generative"] * written + shares["head"] * judged
    assert ours == pytest.approx(float(expected.detach()), abs=1e-5)
    expected.backward()
    wanted = gradients(trainee.module)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)


def test_hybrid_head_never_sees_the_answer(tmp_path: Path) -> None:
    trainee, config = trainee_of("hybrid", qwen(), tmp_path)
    batch = batch_for(trainee, config)
    assert isinstance(trainee.module, HybridModel)
    _, _, before = trainee.module.outputs(batch)
    answers = torch.arange(batch["input_ids"].shape[1]) >= batch["prompt"][:, None]
    other = {**batch, "input_ids": batch["input_ids"].masked_fill(answers, 5)}
    _, _, after = trainee.module.outputs(other)
    assert before is not None
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


def test_class_weights_of_a_hybrid_are_those_of_torch(tmp_path: Path) -> None:
    (tmp_path / "class_weights.json").write_text('{"a": 4.0, "b": 1, "c": 0.5}')
    settings = {"hybrid": {"generative": 1e-9, "head": 1.0}}
    trainee, config = trainee_of("hybrid", qwen(), tmp_path, **settings)
    batch = batch_for(trainee, config)
    ours, _ = in_parts(trainee, batch, 3)
    _, _, logits = trainee.module.outputs(batch)  # type: ignore[operator]
    expected = functional.cross_entropy(
        logits, batch["labels"], weight=torch.tensor([4.0, 1.0, 0.5])
    )
    assert ours == pytest.approx(float(expected), abs=1e-5)


def test_features_reach_the_head(tmp_path: Path) -> None:
    """Oracle: scikit-learn's scaling, torch's product."""
    trainee, config = trainee_of("classify", qwen(), tmp_path, features=True)
    batch = batch_for(trainee, config)
    raw = np.array([row["features"] for row in rows()])
    scaled = torch.tensor(StandardScaler().fit_transform(raw), dtype=torch.float32)
    torch.testing.assert_close(batch["features"], scaled, rtol=0, atol=1e-5)
    assert isinstance(trainee.module, LabelModel)
    classifier = trainee.module.classifier
    _, _, logits = trainee.module.outputs(batch)
    states = classifier.body.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    last = states[torch.arange(len(raw)), batch["attention_mask"].sum(1) - 1]
    expected = classifier.score(torch.cat([last, scaled], dim=1))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("objective", ["classify", "hybrid", "tag", "regress"])
def test_head_is_drawn_from_the_seed(objective: str, tmp_path: Path) -> None:
    drawn = [
        trainee_of(objective, qwen(), tmp_path, seed=seed)[0].module.classifier.score.weight
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_masks_are_drawn_from_seed_and_step_over_the_whole_batch(tmp_path: Path) -> None:
    trainee, config = trainee_of("mlm", bert(), tmp_path)
    made = [batch_of(rows(), trainee, {**config, "seed": seed}, step)
            for seed, step in ((1, 3), (1, 3), (2, 3), (1, 4))]  # fmt: skip
    assert torch.equal(made[0]["masked_ids"], made[1]["masked_ids"])
    assert not torch.equal(made[0]["chosen"], made[2]["chosen"])
    assert not torch.equal(made[0]["chosen"], made[3]["chosen"])
