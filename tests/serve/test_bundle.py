"""What a bundle may say, and what it may not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load, save_file

from pipeline.core.errors import GradusError
from serve.adapter_folder import copy_adapter
from serve.bundle import read_bundle

Change = Callable[[dict[str, Any], Path], None]


@pytest.fixture
def edited(family: Any, tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the bundle with one thing changed."""

    def edit(change: Change) -> Path:
        root = tmp_path / "bundle"
        shutil.copytree(family.bundle, root)
        place = root / "bundle.json"
        content = json.loads(place.read_text())
        change(content, root)
        place.write_text(json.dumps(content))
        return root

    return edit


def test_a_whole_bundle_is_read(family: Any) -> None:
    bundle = read_bundle(family.bundle)
    assert [model.name for model in bundle.models] == family.names
    assert [adapter.rank for adapter in bundle.adapters] == [4, 12]
    assert bundle.base.path == family.base


def test_a_base_may_be_named_from_the_bundle_so_that_a_store_can_move(
    family: Any, edited: Callable[[Change], Path]
) -> None:
    root = edited(lambda content, root: content["base"].update(path="../base"))
    shutil.copytree(family.base, root.parent / "base")
    assert read_bundle(root).base.path == root.parent / "base"


def adapter_link(content: dict[str, Any], root: Path) -> None:
    place = root / content["adapters"][0]["path"] / "adapter_model.safetensors"
    outside = place.rename(root.parent / "outside.safetensors")
    place.symlink_to(outside)


def folder_link(content: dict[str, Any], root: Path) -> None:
    place = (root / "adapters").rename(root.parent / "outside")
    (root / "adapters").symlink_to(place)


def pickled(content: dict[str, Any], root: Path) -> None:
    (root / content["adapters"][0]["path"] / "adapter_model.bin").write_bytes(b"\x80")


def other_scale(content: dict[str, Any], root: Path) -> None:
    place = root / content["adapters"][0]["path"] / "adapter_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "lora_alpha": 99}))


def rslora(content: dict[str, Any], root: Path) -> None:
    place = root / content["adapters"][0]["path"] / "adapter_config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "use_rslora": True}))


def weights(content: dict[str, Any], root: Path, number: int = 0) -> Path:
    return root / content["adapters"][number]["path"] / "adapter_model.safetensors"


def saved(place: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The file with its tensors changed, written by the format's own library."""
    tensors = load(place.read_bytes())
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place)


def truncated(content: dict[str, Any], root: Path) -> None:
    place = weights(content, root)
    place.write_bytes(place.read_bytes()[:-100])


def torn_head(content: dict[str, Any], root: Path) -> None:
    place = weights(content, root)
    place.write_bytes(place.read_bytes()[:300])


def empty(content: dict[str, Any], root: Path) -> None:
    weights(content, root).write_bytes(b"")


def longer(content: dict[str, Any], root: Path) -> None:
    place = weights(content, root)
    place.write_bytes(place.read_bytes() + b"#!/bin/sh")


def pickled_within(content: dict[str, Any], root: Path) -> None:
    import torch

    torch.save(load(weights(content, root).read_bytes()), weights(content, root))


def endless_head(content: dict[str, Any], root: Path) -> None:
    weights(content, root).write_bytes(b"\xff" * 8 + b"{}")


def outside_place(content: dict[str, Any], root: Path) -> None:
    head = b'{"base_model.model.a.lora_A.weight":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}'
    weights(content, root).write_bytes(len(head).to_bytes(8, "little") + head + b"0000")


def a_number_beyond_any(content: dict[str, Any], root: Path) -> None:
    head = b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}'
    weights(content, root).write_bytes(len(head).to_bytes(8, "little") + head + b"0000")


def nested_head(content: dict[str, Any], root: Path) -> None:
    head = b"[" * 200_000
    weights(content, root).write_bytes(len(head).to_bytes(8, "little") + head)


def nested_config(content: dict[str, Any], root: Path) -> None:
    (root / content["adapters"][0]["path"] / "adapter_config.json").write_bytes(b"[" * 200_000)


def links_in_a_circle(content: dict[str, Any], root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    content["base"].update(path="one/base")


def no_lora(content: dict[str, Any], root: Path) -> None:
    import torch

    save_file({"a": torch.zeros(2)}, weights(content, root))


def of_another_rank(content: dict[str, Any], root: Path) -> None:
    # The config says 4, and the weights are the other adapter's.
    shutil.copyfile(weights(content, root, 1), weights(content, root, 0))


def of_a_wider_base(content: dict[str, Any], root: Path) -> None:
    def wider(tensors: dict[str, Any]) -> None:
        import torch

        for name, tensor in tensors.items():
            if "lora_A" in name:
                tensors[name] = torch.cat([tensor, tensor], dim=1)

    saved(weights(content, root), wider)


def of_a_deeper_base(content: dict[str, Any], root: Path) -> None:
    def deeper(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if ".layers.1." in name]:
            tensors[name.replace(".layers.1.", ".layers.7.")] = tensors.pop(name)

    saved(weights(content, root), deeper)


CHANGES: dict[str, tuple[Change, str]] = {
    "unknown key": (lambda c, _: c.update(colour="red"), "colour"),
    "missing key": (lambda c, _: c.pop("max_model_len"), "max_model_len"),
    "a rule that is none": (lambda c, _: c.update(controls={"always": []}), "controls"),
    "a rule without a separator": (
        lambda c, _: c.update(
            controls={"always": ["<s>"], "outside_assistant": [], "separator": ""}
        ),
        "separator",
    ),
    "wrong level": (lambda c, _: c["base"].update(level="L9"), "base.level"),
    "name with a path": (lambda c, _: c["adapters"][0].update(name="../x"), "adapters.0.name"),
    "name twice": (lambda c, _: c["adapters"][0].update(name="demo-l0"), "twice"),
    "base that is no model": (lambda c, _: c["base"].update(path="."), "config.json"),
    "missing base": (lambda c, _: c["base"].update(path="/nowhere"), "config.json"),
    "path upward": (lambda c, _: c["adapters"][0].update(path="../x"), "leaves the bundle"),
    "absolute path": (lambda c, _: c["adapters"][0].update(path="/etc"), "leaves the bundle"),
    "no adapter": (lambda c, _: c["adapters"][0].update(path="adapters/x"), "adapter_config"),
    "other rank": (lambda c, _: c["adapters"][0].update(rank=5), "rank 5"),
    "linked weights": (adapter_link, "symbolic link"),
    "linked folder": (folder_link, "symbolic link"),
    "pickled weights": (pickled, "safetensors only"),
    "weights cut off": (truncated, "torn"),
    "weights' head cut off": (torn_head, "torn"),
    "no weights": (empty, "torn"),
    "weights with something behind them": (longer, "torn"),
    "pickled weights by the name of others": (pickled_within, "no safetensors"),
    "weights whose head is endless": (endless_head, "no safetensors"),
    "a tensor that is larger than its place": (outside_place, "does not fit"),
    "weights that are no adapter's": (no_lora, "no LoRA weights"),
    "weights of another rank": (of_another_rank, "says rank 4"),
    "weights of a wider base": (of_a_wider_base, "another base"),
    "weights of a deeper base": (of_a_deeper_base, "another base"),
    "weights with a number beyond any": (a_number_beyond_any, "torn"),
    "weights' head nested without end": (nested_head, "torn"),
    "a config nested without end": (nested_config, "not JSON"),
    "a base by links in a circle": (links_in_a_circle, "cannot be read"),
    "a base whose path holds a NUL": (
        lambda c, _: c["base"].update(path="a\0b"),
        "cannot be read",
    ),
    "a base of 5,000 letters": (
        lambda c, _: c["base"].update(path="x" * 5000),
        "File name too long",
    ),
    "an adapter whose path holds a NUL": (
        lambda c, _: c["adapters"][0].update(path="adapters/a\0b"),
        "a",
    ),
    "an adapter of 5,000 letters": (
        lambda c, _: c["adapters"][0].update(path="x" * 5000),
        "File name too long",
    ),
    "scale not folded in": (other_scale, "lora_alpha 99"),
    "rank-stabilised scale": (rslora, "use_rslora"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_bundle_that_is_not_right_is_refused_in_one_line(
    edited: Callable[[Change], Path], case: str
) -> None:
    change, word = CHANGES[case]
    with pytest.raises(GradusError) as caught:
        read_bundle(edited(change))
    message = str(caught.value)
    assert word in message
    assert "\n" not in message


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff"])
def test_a_bundle_file_that_is_not_json_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "bundle.json").write_bytes(raw)
    with pytest.raises(GradusError, match=r"bundle\.json"):
        read_bundle(tmp_path)


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GradusError, match="no such file"):
        read_bundle(tmp_path)


def test_a_copied_adapter_names_the_absolute_base_and_keeps_its_bytes(
    family: Any, tmp_path: Path
) -> None:
    adapter = read_bundle(family.bundle).adapters[0]
    copy = copy_adapter(adapter, family.base, tmp_path / "copy")
    config = json.loads((copy / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(family.base)
    weights = "adapter_model.safetensors"
    assert (copy / weights).read_bytes() == (adapter.path / weights).read_bytes()
