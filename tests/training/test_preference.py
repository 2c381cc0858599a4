"""DPO against TRL's trainer on the same rows and the same model."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.training.modules import module_for
from pipeline.training.objectives import PreferenceModel
from pipeline.training.scores import scoreboard_for
from pipeline.training.targets import batch_of
from pipeline.training.trainee import Trainee
from tests.training.objective_case import (
    CONFIG,
    batch_for,
    gradients,
    in_parts,
    qwen,
    trainee_of,
    with_lora,
)

PAIRS = [
    {"prompt": "the red ship and", "chosen": " the blue sail", "rejected": " the grey rope rope"},
    {"prompt": "the grey", "chosen": " crane and the dock", "rejected": " tide"},
    {"prompt": "the blue tide and the", "chosen": " sail", "rejected": " red red red"},
]


def trl_trainer(root: Path, folder: Path, reference: Any, model: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    logging.disable(logging.WARNING)
    try:
        return DPOTrainer(
            model=model,
            ref_model=reference,
            args=DPOConfig(
                output_dir=str(folder), beta=CONFIG["dpo_beta"], report_to="none", use_cpu=True,
                per_device_train_batch_size=len(PAIRS), bf16=False, gradient_checkpointing=False,
                disable_dropout=True,
            ),
            processing_class=AutoTokenizer.from_pretrained(str(root)),
            train_dataset=Dataset.from_list(PAIRS),
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)


def own_rows(trainer: Any) -> list[dict[str, Any]]:
    """TRL's own ids as prepared rows."""
    made = []
    for index, row in enumerate(trainer.train_dataset):
        prompt = list(row["prompt_ids"])
        made.append(
            {"example_id": str(index), "prompt": len(prompt),
             "input_ids": prompt + row["chosen_ids"],
             "supervised": [0] * len(prompt) + [1] * len(row["chosen_ids"]),
             "rejected_ids": prompt + row["rejected_ids"],
             "rejected_supervised": [0] * len(prompt) + [1] * len(row["rejected_ids"])}
        )  # fmt: skip
    return made


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("adapter", [False, True])
def test_loss_reference_and_gradients_are_those_of_trl(
    adapter: bool, root: Path, tmp_path: Path
) -> None:
    """Three updates by plain SGD on both sides; the reference is what stood before the first."""

    def body() -> Any:
        model = AutoModelForCausalLM.from_pretrained(str(root), dtype=torch.float32)
        if not adapter:
            return model
        torch.manual_seed(5)
        return with_lora(model)

    peer = body()
    trainer = trl_trainer(root, tmp_path, None if adapter else copy.deepcopy(peer), peer)
    inputs = trainer.data_collator(list(trainer.train_dataset))
    own = body()
    config = {**CONFIG, "objective": "dpo"}
    module = module_for("dpo", own, tmp_path, config, ())
    trainee = Trainee(module, own, AutoTokenizer.from_pretrained(str(root)), ())
    rows = own_rows(trainer)
    assert isinstance(module, PreferenceModel)
    reference = module.log_probabilities(batch_of(rows, trainee, config, 0))
    theirs = trainer.compute_ref_log_probs(peer if adapter else trainer.ref_model, inputs)
    torch.testing.assert_close(reference, torch.stack(theirs, dim=1), rtol=0, atol=1e-5)
    rows = [{**row, "reference": pair.tolist()} for row, pair in zip(rows, reference, strict=True)]
    batch = batch_of(rows, trainee, config, 0)
    losses = []
    for _ in range(3):
        expected = trainer.compute_loss(peer, inputs)
        expected.backward()
        loss, found = in_parts(trainee, batch, 2)
        assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
        losses.append(loss)
        wanted = {f"body.{n}": g for n, g in gradients(peer).items()}
        assert found.keys() == {n for n in wanted if ".ref." not in n}
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, wanted[name], rtol=0, atol=1e-5)
        _descend(module, found)
        _descend(peer, {n.removeprefix("body."): g for n, g in found.items()})
    assert losses[0] == pytest.approx(float(-functional.logsigmoid(torch.zeros(()))), abs=1e-6)
    assert losses[2] < losses[1] < losses[0]
    _accuracy_is_that_of_trl(trainer, trainee, batch, inputs)


def _descend(module: torch.nn.Module, slopes: dict[str, torch.Tensor]) -> None:
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for name, gradient in slopes.items():
            parameters[name] -= 0.05 * gradient


def _accuracy_is_that_of_trl(trainer: Any, trainee: Any, batch: Any, inputs: Any) -> None:
    board = scoreboard_for(trainee.module, ())
    told = trainer._metrics["train" if trainer.model.training else "eval"]
    told.clear()
    with torch.no_grad():
        _, _, rewards = trainee.module.outputs(batch)
        trainer.compute_loss(trainer.model, inputs)
    board.add(batch, rewards)
    assert board.metrics()["reward_accuracy"] == pytest.approx(told["rewards/accuracies"][0])
    assert float(rewards[:, 0].mean()) == pytest.approx(told["rewards/chosen"][0], abs=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_gradients_are_those_of_the_formula_differentiated_by_torch(
    lora: bool, tmp_path: Path
) -> None:
    """Oracle: equation 7 written out over full logits, with autograd through all of it."""
    trainee, config = trainee_of("dpo", qwen(lora=lora), tmp_path)
    batch = batch_for(trainee, config)
    loss, found = in_parts(trainee, batch, 3)
    flat = {name: batch[name].flatten(0, 1) for name in ("input_ids", "attention_mask")}
    logits = trainee.body(**flat).logits[:, :-1]
    chosen = logits.log_softmax(-1).gather(2, flat["input_ids"][:, 1:, None])[..., 0]
    summed = (chosen * batch["supervised"].flatten(0, 1)[:, 1:]).sum(1).view(-1, 2)
    ratio = summed - batch["reference"]
    expected = -functional.logsigmoid(config["dpo_beta"] * (ratio[:, 0] - ratio[:, 1])).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    for name, gradient in gradients(trainee.module).items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-5)


def test_figures_without_gradients_are_those_with(tmp_path: Path) -> None:
    trainee, config = trainee_of("dpo", qwen(), tmp_path)
    batch = batch_for(trainee, config)
    with torch.no_grad():
        loss, count, rewards = trainee.module.outputs(batch)  # type: ignore[operator]
        own = trainee.module.log_probabilities(batch)  # type: ignore[operator]
    again, _, same = trainee.module.outputs(batch)  # type: ignore[operator]
    # On some CPUs the kernels with gradients round the last bit otherwise.
    torch.testing.assert_close(loss, again.detach(), rtol=1e-6, atol=0)
    assert int(count) == len(batch["input_ids"])
    torch.testing.assert_close(rewards, same.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(rewards, 0.3 * (own - batch["reference"]))
