"""An adapter's folder: what may lie in it, and how an engine is given a copy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import ModelError
from serve.adapter_weights import check_adapter_weights

if TYPE_CHECKING:
    from serve.bundle import BundleAdapter, BundleHead
    from serve.bundle_file import AdapterFile, HeadFile

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
HEAD_FILES = ("head.json", "head.safetensors")
# Formats that run code when they are read.
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".py"})


def checked_folder(
    adapter: AdapterFile | HeadFile,
    files: tuple[str, ...],
    root: Path,
    place: Path,
    base: Path,
) -> Path:
    """An adapter's folder, inside its bundle, whole, of its base, nothing but safetensors.

    Args:
        adapter: what bundle.json says of it.
        files: what it must hold.
        root: the bundle's folder.
        place: its bundle.json, for messages.
        base: the base's folder.

    Raises:
        ModelError: it is not.
    """
    relative = Path(adapter.path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise ModelError(
            f"{place}: adapter {adapter.name}: path {adapter.path} leaves the bundle; "
            "keep adapters under adapters/"
        )
    folder = root / relative
    _refuse_links_and_pickles(folder, root, adapter.name)
    for name in files:
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: adapter {adapter.name} has no {name}; run the recipe again"
            )
    _check_config(folder / ADAPTER_FILES[0], adapter)
    check_adapter_weights(folder / ADAPTER_FILES[1], adapter.name, adapter.rank, base)
    return folder


def _refuse_links_and_pickles(folder: Path, root: Path, name: str) -> None:
    steps = [folder, *folder.parents]
    for step in [*steps[: steps.index(root)], *folder.rglob("*")]:
        if step.is_symlink():
            raise ModelError(f"{step}: adapter {name} holds a symbolic link; copy the file instead")
        if step.suffix in PICKLED and step.is_file():
            raise ModelError(f"{step}: adapter {name} holds code or pickled data; safetensors only")


def _check_config(place: Path, adapter: AdapterFile | HeadFile) -> None:
    try:
        config = json.loads(place.read_bytes())
    except (ValueError, RecursionError):
        raise ModelError(f"{place}: not JSON; run the recipe again") from None
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{place}: not a LoRA adapter; engines serve LoRA over a base")
    if config.get("r") != adapter.rank or config.get("lora_alpha") != adapter.rank:
        raise ModelError(
            f"{place}: r is {config.get('r')} and lora_alpha {config.get('lora_alpha')}, and "
            f"bundle.json says rank {adapter.rank}; export it with the scale folded in"
        )
    for option in ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(option):
            raise ModelError(f"{place}: {option} is set, which the engine would misread; export it")


def copy_adapter(adapter: BundleAdapter | BundleHead, base: Path, into: Path) -> Path:
    """Copy an adapter into ``into``, its config naming the absolute base.

    The bundle travels, so its configs name no real base; engines look the base up.

    Args:
        adapter: The adapter in the bundle.
        base: Absolute folder of the base.
        into: Folder to write; made where it is missing.

    Returns:
        ``into``.
    """
    into.mkdir(parents=True, exist_ok=True)
    (into / ADAPTER_FILES[0]).write_text(adapter_config(adapter, base))
    shutil.copyfile(adapter.path / ADAPTER_FILES[1], into / ADAPTER_FILES[1])
    return into


def adapter_config(adapter: BundleAdapter | BundleHead, base: Path) -> str:
    """The text of an adapter's config that names the base's folder."""
    config = json.loads((adapter.path / ADAPTER_FILES[0]).read_bytes())
    return json.dumps({**config, "base_model_name_or_path": str(base)})
