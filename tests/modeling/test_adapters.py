"""PEFT's options as a recipe gives them, and an adapter that is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import Qwen3Config, Qwen3ForCausalLM

from pipeline.core.errors import ModelError
from pipeline.core.schema import Train
from pipeline.modeling.adapter_files import write_adapter
from pipeline.modeling.adapters import (
    adapter_tensors,
    add_lora,
    attach_frozen,
    load_adapter_into,
    merge_into,
)

IDS = torch.arange(24).reshape(2, 12)


def tiny(*, tied: bool = True, hidden: int = 32) -> Any:
    torch.manual_seed(7)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=64, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, intermediate_size=48, tie_word_embeddings=tied,
        )
    ).eval()  # fmt: skip


def settings(**keys: Any) -> dict[str, Any]:
    return Train.model_validate({"lora_r": 4, **keys}).model_dump(mode="json")


def fresh(seed: int = 1, *, tied: bool = True, **keys: Any) -> Any:
    return add_lora(tiny(tied=tied), settings(**keys), seed=seed, encoder=False).eval()


def stirred(body: Any, seed: int = 3) -> Any:
    """As after training: nothing that is trained stays where it began."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in body.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    return body


def saved(body: Any, folder: Path) -> Path:
    folder.mkdir(parents=True)
    tensors = get_peft_model_state_dict(body, adapter_name="default", save_embedding_layers=False)
    write_adapter(folder, tensors, body.peft_config["default"].to_dict())
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}},
    "norm trained whole": {"modules_to_save": ["norm"]},
    "tied embeddings trained whole": {"modules_to_save": ["embed_tokens"]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_written_is_read_by_peft_as_the_same_model(name: str, tmp_path: Path) -> None:
    body = stirred(fresh(**OPTIONS[name]))
    folder = saved(body, tmp_path / "a")
    found = PeftModel.from_pretrained(tiny(), str(folder)).eval()
    torch.testing.assert_close(logits(found), logits(body), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_loaded_adapter_is_the_one_that_was_trained(name: str, tmp_path: Path) -> None:
    body = stirred(fresh(**OPTIONS[name]))
    other = fresh(seed=9, **OPTIONS[name])
    assert (logits(other) - logits(body)).abs().max() > 1e-3
    load_adapter_into(other, saved(body, tmp_path / "a"))
    torch.testing.assert_close(logits(other), logits(body), rtol=0, atol=0)


REFUSED = {
    "another rank": ({"lora_r": 8}, "set train.lora_r: 8"),
    "another scale": ({"lora_alpha": 3}, "set train.lora_alpha: 3"),
    "rsLoRA": ({"use_rslora": True}, "set train.use_rslora: true"),
    "other targets": ({"target_modules": ["q_proj"]}, "train.target_modules"),
    "more than an adapter": ({"modules_to_save": ["norm"]}, "train.modules_to_save"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_adapter_of_other_settings_is_refused_with_what_to_set(name: str, tmp_path: Path) -> None:
    keys, remedy = REFUSED[name]
    folder = saved(fresh(**keys), tmp_path / "a")
    with pytest.raises(ModelError, match=remedy):
        load_adapter_into(fresh(), folder)


def test_adapter_of_another_base_is_not_loaded(tmp_path: Path) -> None:
    folder = saved(add_lora(tiny(hidden=48), settings(), seed=1, encoder=False), tmp_path / "a")
    with pytest.raises(ModelError, match="another base"):
        load_adapter_into(fresh(), folder)


def test_module_to_save_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match=r"train\.modules_to_save: lm_hed"):
        fresh(modules_to_save=["lm_hed"])


def test_pattern_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"train\.alpha_pattern: 'q_prj'"):
        fresh(alpha_pattern={"q_prj": 2})


@pytest.mark.parametrize("targets", [["nope"], ["q_proj", "nope"], ["q_proj", "proj"]])
def test_each_target_must_be_a_module_of_the_base(targets: list[str]) -> None:
    with pytest.raises(ModelError, match=rf"train\.target_modules: {targets[-1]}: ") as caught:
        fresh(target_modules=targets)
    assert "\n" not in str(caught.value)


def test_targets_of_which_each_is_there_get_an_adapter_each() -> None:
    names = [n for n, _ in fresh(target_modules=["q_proj", "layers.0.mlp.up_proj"]).named_modules()]
    made = {name.rpartition(".lora_A")[0] for name in names if name.endswith("lora_A.default")}
    assert sum(name.endswith("q_proj") for name in made) == 2
    assert sum(name.endswith("up_proj") for name in made) == 1


def test_target_that_is_no_linear_layer_is_one_line() -> None:
    with pytest.raises(ModelError, match="all-linear") as caught:
        fresh(target_modules=["norm"])
    assert "\n" not in str(caught.value)


def test_tied_embeddings_stay_tied_when_trained_whole() -> None:
    body = stirred(fresh(modules_to_save=["embed_tokens", "lm_head"]))
    plain = body.merge_and_unload()
    assert plain.lm_head.weight.data_ptr() == plain.model.embed_tokens.weight.data_ptr()


@pytest.mark.parametrize("name", OPTIONS)
def test_what_was_gathered_once_is_written_under_every_name(name: str) -> None:
    body = stirred(fresh(**OPTIONS[name]))
    gathered = {n: p.detach() for n, p in body.named_parameters() if p.requires_grad}
    expected = get_peft_model_state_dict(body, adapter_name="default", save_embedding_layers=False)
    found = adapter_tensors(body, gathered)
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)


def test_over_a_parent_only_the_new_adapter_is_trained(tmp_path: Path) -> None:
    parent = saved(stirred(fresh()), tmp_path / "p")
    body = add_lora(
        attach_frozen(tiny(), parent), settings(modules_to_save=["norm"]), seed=2, encoder=False
    )
    trained = {n for n, p in body.named_parameters() if p.requires_grad}
    assert trained
    assert all(".default." in name for name in trained)
    expected = logits(PeftModel.from_pretrained(tiny(), str(parent)).eval())
    torch.testing.assert_close(logits(body.eval()), expected, rtol=0, atol=1e-6)


def test_dora_beside_a_parent_is_refused(tmp_path: Path) -> None:
    parent = saved(stirred(fresh()), tmp_path / "p")
    with pytest.raises(ModelError, match=r"train\.use_dora"):
        add_lora(attach_frozen(tiny(), parent), settings(use_dora=True), seed=2, encoder=False)


def cut_short(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def of_another_method(folder: Path) -> None:
    file = folder / "adapter_config.json"
    file.write_text(file.read_text().replace('"LORA"', '"IA3"'))


def rank_that_is_not_that_of_the_weights(folder: Path) -> None:
    file = folder / "adapter_config.json"
    file.write_text(file.read_text().replace('"r": 4', '"r": 8'))


BROKEN = {
    cut_short: "cannot be read|no adapter that can be read",
    pickled: "is pickled",
    of_another_method: "not a LoRA adapter",
    rank_that_is_not_that_of_the_weights: "rank|lora_r is 8",
}


@pytest.mark.parametrize("spoil", BROKEN)
@pytest.mark.parametrize("how", ["beside", "merged", "trained on"])
def test_broken_adapter_is_one_line(spoil: Any, how: str, tmp_path: Path) -> None:
    folder = saved(stirred(fresh()), tmp_path / "a")
    spoil(folder)
    uses = {
        "beside": lambda: attach_frozen(tiny(), folder),
        "merged": lambda: merge_into(tiny(), folder),
        "trained on": lambda: load_adapter_into(fresh(), folder),
    }
    with pytest.raises(ModelError, match=BROKEN[spoil]) as caught:
        uses[how]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("how", [attach_frozen, merge_into])
def test_adapter_of_another_base_is_one_line(how: Any, tmp_path: Path) -> None:
    folder = saved(add_lora(tiny(hidden=48), settings(), seed=1, encoder=False), tmp_path / "a")
    with pytest.raises(ModelError, match="another model") as caught:
        how(tiny(), folder)
    assert "\n" not in str(caught.value)
