"""LoRA adapters: made with PEFT, stacked into one over the root, merged into full weights.

A stacked adapter is in canonical form: one rank for every module, ``lora_alpha == r`` (scale
1), so that any reader of PEFT's format, the engine included, adds exactly B @ A.
Source: Hu et al. 2021, LoRA, equation 3; the sum of two updates is B1 A1 + B2 A2 =
[B1 B2] [A1; A2].
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out")
OUTPUTS = ("lm_head", "embed_out")


def lora_config(settings: Mapping[str, Any], *, encoder: bool, tied: bool = False) -> Any:
    """PEFT's LoraConfig from a recipe's training settings.

    Args:
        tied: the model reads and writes with one embedding matrix.
    """
    from peft import LoraConfig

    targets = settings["target_modules"]
    whole = list(settings["modules_to_save"])
    # One matrix at both ends stays one: trained as two, the model would no longer be of its kind.
    keep_tied = tied and any(_last(name) in EMBEDDINGS for name in whole)
    return LoraConfig(
        r=settings["lora_r"],
        lora_alpha=settings["lora_alpha"] or 2 * settings["lora_r"],
        lora_dropout=settings["lora_dropout"],
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=settings["use_rslora"],
        use_dora=settings["use_dora"],
        modules_to_save=[n for n in whole if not (keep_tied and _last(n) in OUTPUTS)] or None,
        ensure_weight_tying=keep_tied,
        rank_pattern=dict(settings["rank_pattern"]),
        alpha_pattern=dict(settings["alpha_pattern"]),
        # The language-model head of an encoder takes no part in its sentence vectors.
        exclude_modules=r"(cls|lm_head|vocab_projector|predictions)\b.*" if encoder else None,
        bias="none",
    )


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def add_lora(model: Any, settings: Mapping[str, Any], *, seed: int, encoder: bool) -> Any:
    """Puts a fresh adapter ``default`` on ``model``; B starts at zero, A is drawn from ``seed``.

    A model that already bears a frozen ``parent`` (see `attach_frozen`) keeps it: both are
    active, and only the new one is trained.

    Raises:
        ModelError: modules, patterns or options that the model does not have or PEFT refuses.
    """
    import torch
    from peft import PeftModel, get_peft_model

    over = isinstance(model, PeftModel)
    plain = model.get_base_model() if over else model
    if over and settings["use_dora"]:
        raise ModelError(
            "train.use_dora: the parent's adapter lies beside rounded weights, and DoRA's "
            "magnitudes would not see it; use precision fp32 with method lora, or a merged parent"
        )
    tied = bool(getattr(plain.config, "tie_word_embeddings", False))
    config = lora_config(settings, encoder=encoder, tied=tied)
    _require_modules(plain, settings)
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            # PEFT warns of patterns that fit nothing; below that is an error.
            warnings.filterwarnings("ignore", ".*did not match any targeted module.*")
            body = model if over else get_peft_model(model, config)
            if over:
                body.add_adapter("default", config)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"train.target_modules: {settings['target_modules']}: "
            f"{str(error).splitlines()[0][:160]}; use all-linear or names of linear layers"
        ) from None
    if over:
        body.base_model.set_adapter(["parent", "default"])
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(_is_own(name))
    _require_patterns(body, settings)
    return body


def _is_own(name: str) -> bool:
    return ".default." in name or name.endswith(".default")


def _require_modules(model: Any, settings: Mapping[str, Any]) -> None:
    """PEFT passes over a module to save that is not there, and nothing of it would be trained."""
    there = [name for name, _ in model.named_modules()]
    for wanted in settings["modules_to_save"]:
        if not any(name == wanted or name.endswith("." + wanted) for name in there):
            raise ModelError(
                f"train.modules_to_save: {wanted}: no such module in the base; name one of "
                f"{', '.join(sorted({_last(n) for n in there if n})[:12])}"
            )


def _require_patterns(body: Any, settings: Mapping[str, Any]) -> None:
    """A pattern that fits no module with an adapter would be a wish that nobody hears."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import get_pattern_key

    prefix = "base_model.model."
    layers = [
        name.removeprefix(prefix) for name, m in body.named_modules() if isinstance(m, LoraLayer)
    ]
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in settings[key]:
            if not any(get_pattern_key([pattern], name) == pattern for name in layers):
                raise ModelError(
                    f"train.{key}: {pattern!r} fits no module that has an adapter "
                    f"(such as {layers[0]}); mend or drop it"
                )


def load_adapter_into(body: Any, folder: Path) -> None:
    """Copies the weights of the adapter in ``folder`` into the fresh adapter ``default``.

    It is then trained on: the same rank, targets and scale, or it would be another update.

    Raises:
        ModelError: what does not fit, and what to set instead.
    """
    import torch
    from peft import get_peft_model_state_dict

    tensors, config = read_adapter(folder)
    mine = body.peft_config["default"].to_dict()
    for key, name in _SAME.items():
        theirs, ours = config.get(key) or _NOTHING[key], mine.get(key) or _NOTHING[key]
        if theirs != ours:
            raise ModelError(
                f"train.init_from: {folder}: {name} is {_shown(theirs)} there and {_shown(ours)} "
                f"here; set train.{name}: {_shown(theirs)}"
            )
    with torch.no_grad():
        own = get_peft_model_state_dict(body, adapter_name="default", save_embedding_layers=False)
        odd = sorted(set(own) ^ set(tensors))
        if odd:
            where = "is not there" if odd[0] in own else "has no place here"
            raise ModelError(
                f"train.init_from: {folder}: {odd[0]} {where}; its train.target_modules and "
                "train.modules_to_save, and its base, must be those of this recipe"
            )
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ModelError(
                    f"train.init_from: {folder}: {name} is {tuple(tensors[name].shape)} there and "
                    f"{tuple(tensor.shape)} here; it is of another base or another rank"
                )
            tensor.copy_(tensors[name])


# PEFT's key to the recipe's; what is missing or null in a config means the same as these.
_SAME = {
    "r": "lora_r", "lora_alpha": "lora_alpha", "use_rslora": "use_rslora",
    "use_dora": "use_dora", "rank_pattern": "rank_pattern", "alpha_pattern": "alpha_pattern",
}  # fmt: skip
_NOTHING: Mapping[str, Any] = {
    "r": 0, "lora_alpha": 0, "use_rslora": False, "use_dora": False,
    "rank_pattern": {}, "alpha_pattern": {},
}  # fmt: skip


def _shown(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def write_adapter(out: Path, tensors: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Writes an adapter folder in PEFT's format: the same tensors, the same bytes."""
    from safetensors.torch import save_file

    # A copy of each: tied modules share one storage, which safetensors refuses to write.
    ordered = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    save_file(ordered, str(out / WEIGHTS), metadata={"format": "pt"})
    text = json.dumps(config, indent=1, sort_keys=True, default=_plain)
    (out / CONFIG).write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tensors, config) of an adapter folder."""
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return load_file(str(folder / WEIGHTS)), config
    except OSError as error:
        raise ModelError(f"{folder}: no adapter that can be read ({error})") from None


def factors(tensors: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Module name to (A [r, in], B [out, r]) in float32, the scale folded into B.

    Handles rsLoRA and rank and alpha patterns as PEFT itself resolves them.

    Raises:
        ModelError: an adapter of a kind that is no sum of low-rank updates (DoRA, bias).
    """
    from peft.utils.other import get_pattern_key

    if config.get("use_dora") or config.get("bias", "none") != "none":
        raise ModelError("adapter: DoRA and bias cannot be stacked; train with plain LoRA")
    found: dict[str, tuple[Any, Any]] = {}
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        module = name.removeprefix(_PREFIX).removesuffix(".lora_A.weight")
        b = tensors[name.replace(".lora_A.", ".lora_B.")]
        ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
        rank = int(ranks.get(get_pattern_key(list(ranks), module), config["r"]))
        alpha = float(alphas.get(get_pattern_key(list(alphas), module), config["lora_alpha"]))
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        if a.shape[0] != rank:
            raise ModelError(f"adapter: {module} has rank {a.shape[0]}, its config says {rank}")
        found[module] = (a.float(), b.float() * scale)
    return found


def stack(
    parts: Sequence[Mapping[str, tuple[Any, Any]]],
) -> tuple[dict[str, tuple[Any, Any]], int]:
    """One adapter whose update is the sum of the parts' updates.

    A's rows and B's columns are concatenated; modules that have fewer are filled with zeros
    up to the largest rank, which engines want uniform.

    Returns:
        (module to (A, B), rank).
    """
    import torch

    modules = sorted({module for part in parts for module in part})
    joined: dict[str, tuple[Any, Any]] = {}
    for module in modules:
        pairs = [part[module] for part in parts if module in part]
        joined[module] = (
            torch.cat([a for a, _ in pairs], dim=0),
            torch.cat([b for _, b in pairs], dim=1),
        )
    rank = max((a.shape[0] for a, _ in joined.values()), default=0)
    for module, (a, b) in joined.items():
        lack = rank - a.shape[0]
        if lack:
            a = torch.cat([a, a.new_zeros(lack, a.shape[1])], dim=0)
            b = torch.cat([b, b.new_zeros(b.shape[0], lack)], dim=1)
            joined[module] = (a, b)
    return joined, rank


def canonical(
    joined: Mapping[str, tuple[Any, Any]], rank: int, task_type: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and config of a stacked adapter in PEFT's format, scale 1."""
    tensors = {}
    for module, (a, b) in joined.items():
        tensors[f"{_PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{_PREFIX}{module}.lora_B.weight"] = b
    config = {
        "base_model_name_or_path": None,
        "bias": "none",
        "inference_mode": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted(joined),
        "task_type": task_type,
        "use_rslora": False,
    }
    return tensors, config


def updates(folder: Path) -> Iterator[tuple[str, Any]]:
    """(module name, B @ A in float32) of an adapter folder."""
    tensors, config = read_adapter(folder)
    for module, (a, b) in factors(tensors, config).items():
        yield module, b @ a


def merge_into(model: Any, adapter: Path) -> None:
    """Adds an adapter's update to the weights of a float32 model, in place.

    Raises:
        ModelError: weights that are not float32 (rounding would eat the update), or modules
            that the model does not have.
    """
    import torch

    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, update in updates(adapter):
            module = modules.get(name)
            if module is None:
                raise ModelError(f"{adapter}: {name} is not in the base; it is of another model")
            if module.weight.dtype != torch.float32:
                raise ModelError(f"{name}: {module.weight.dtype}; merge needs float32 weights")
            if module.weight.shape != update.shape:
                raise ModelError(
                    f"{adapter}: {name} is {tuple(update.shape)}, "
                    f"the base's {tuple(module.weight.shape)}; it is of another model"
                )
            module.weight += update


def attach_frozen(model: Any, adapter: Path) -> Any:
    """Puts a parent's adapter beside quantised or bf16 weights, frozen, under ``parent``."""
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter), adapter_name="parent", is_trainable=False)
