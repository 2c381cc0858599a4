"""LoRA adapters on a model: fresh ones to train, frozen ones beside it, or added to weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.core.adapter_form import form_of_adapter, form_problem, resolved_alpha
from pipeline.core.errors import ModelError
from pipeline.modeling.adapter_files import FACTOR, PREFIX, factors, read_adapter

OUTPUTS = ("lm_head", "embed_out")
_ENCODER_HEADS = r"(cls|lm_head|vocab_projector|predictions)\b.*"


def lora_config(settings: Mapping[str, Any], *, encoder: bool, tied_to: str | None = None) -> Any:
    """PEFT's LoraConfig from a recipe's training settings.

    Args:
        tied_to: the input embedding's name, of a model that writes with the same matrix.
    """
    from peft import LoraConfig

    targets = settings["target_modules"]
    whole = list(settings["modules_to_save"])
    # One matrix at both ends stays one: trained as two, the model would no longer be of its kind.
    ends = {tied_to, *OUTPUTS} if tied_to is not None else set()
    keep_tied = any(_last(name) in ends for name in whole)
    if keep_tied:
        whole = [tied_to or "", *(name for name in whole if _last(name) not in ends)]
    return LoraConfig(
        r=settings["lora_r"],
        # PEFT takes fractions, whatever its annotation says.
        lora_alpha=resolved_alpha(settings),  # type: ignore[arg-type]
        lora_dropout=settings["lora_dropout"],
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=settings["use_rslora"],
        use_dora=settings["use_dora"],
        modules_to_save=whole or None,
        ensure_weight_tying=keep_tied,
        rank_pattern=dict(settings["rank_pattern"]),
        alpha_pattern=dict(settings["alpha_pattern"]),
        # The language-model head of an encoder takes no part in its sentence vectors.
        exclude_modules=_ENCODER_HEADS if encoder else None,
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
    config = lora_config(settings, encoder=encoder, tied_to=_tied_to(plain))
    _require_modules(plain, settings, encoder=encoder)
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


def _tied_to(model: Any) -> str | None:
    """The input embedding's name, where the model writes with the same matrix."""
    inward, outward = model.get_input_embeddings(), model.get_output_embeddings()
    if inward is None or outward is None or inward.weight is not outward.weight:
        return None
    return _last(next(name for name, module in model.named_modules() if module is inward))


def _is_own(name: str) -> bool:
    return ".default." in name or name.endswith(".default")


def _require_modules(model: Any, settings: Mapping[str, Any], *, encoder: bool) -> None:
    """PEFT passes over a name that fits no module, and nothing of it would be trained."""
    there = [name for name, _ in model.named_modules()]
    open_to = [name for name in there if not (encoder and re.fullmatch(_ENCODER_HEADS, name))]
    targets = settings["target_modules"]
    lists = {
        "modules_to_save": (settings["modules_to_save"], there),
        "target_modules": (() if isinstance(targets, str) else targets, open_to),
    }
    for key, (names, modules) in lists.items():
        for wanted in names:
            if not any(name == wanted or name.endswith("." + wanted) for name in modules):
                raise ModelError(
                    f"train.{key}: {wanted}: no such module in the base; name one of "
                    f"{', '.join(sorted({_last(n) for n in modules if n})[:12])}"
                )


def _require_patterns(body: Any, settings: Mapping[str, Any]) -> None:
    """A pattern that fits no module with an adapter would be a wish that nobody hears."""
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import get_pattern_key

    layers = [
        name.removeprefix(PREFIX) for name, m in body.named_modules() if isinstance(m, LoraLayer)
    ]
    for key in ("rank_pattern", "alpha_pattern"):
        for pattern in settings[key]:
            if not any(get_pattern_key([pattern], name) == pattern for name in layers):
                raise ModelError(
                    f"train.{key}: {pattern!r} fits no module that has an adapter "
                    f"(such as {layers[0]}); mend or drop it"
                )


def adapter_tensors(body: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of the adapter ``default``, under PEFT's names.

    Args:
        state: name to whole tensor of what was trained, gathered from all processes. A matrix
            that serves at both ends of the model stands in it once.
    """
    from peft import get_peft_model_state_dict

    first = {id(body_parameter): name for name, body_parameter in body.named_parameters()}
    named = body.named_parameters(remove_duplicate=False)
    shared = {name: state[first[id(p)]] for name, p in named if first[id(p)] in state}
    tensors: dict[str, Any] = get_peft_model_state_dict(
        body, state_dict=shared, adapter_name="default", save_embedding_layers=False
    )
    return tensors


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
    problem = form_problem(form_of_adapter(config), form_of_adapter(mine))
    if problem is not None:
        raise ModelError(f"train.init_from: {folder}: {problem}")
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


def attach_frozen(model: Any, adapter: Path, name: str = "parent") -> Any:
    """Puts an adapter beside quantised or bf16 weights, frozen.

    Args:
        model: a plain model, or one that bears adapters already.
        name: what it is called there; all adapters are active after that.

    Raises:
        ModelError: an adapter of another base, or of another rank than its config says.
    """
    from peft import PeftModel

    tensors, config = read_adapter(adapter)
    over = isinstance(model, PeftModel)
    _require_fit(model.get_base_model() if over else model, adapter, tensors)
    try:
        if not over:
            return PeftModel.from_pretrained(
                model, str(adapter), adapter_name=name, is_trainable=False
            )
        model.load_adapter(str(adapter), adapter_name=name, is_trainable=False)
    except (RuntimeError, ValueError, KeyError) as error:
        first = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise ModelError(
            f"{adapter}: does not fit this base, or its rank {config.get('r')} is not that of its "
            f"weights ({first[:120]}); name the base it was trained over"
        ) from None
    model.base_model.set_adapter(list(model.peft_config), inference_mode=True)
    return model


def _require_fit(model: Any, adapter: Path, tensors: Mapping[str, Any]) -> None:
    """Every A and B has its module in the base, of its width.

    Widths are those of the layer, not of its weight: 4-bit weights are packed.
    """
    modules = dict(model.named_modules())
    for name, tensor in tensors.items():
        found = FACTOR.search(name)
        if found is None:
            continue
        module = name.removeprefix(PREFIX)[: found.start() - len(PREFIX)]
        layer = modules.get(module)
        if layer is None:
            raise ModelError(f"{adapter}: {module} is not in the base; it is of another model")
        inward = ".lora_A." in name
        width = getattr(layer, "in_features" if inward else "out_features", None)
        theirs = tensor.shape[1] if inward else tensor.shape[0]
        if width is not None and width != theirs:
            raise ModelError(
                f"{adapter}: {module} is {theirs} wide there and {width} in the base; "
                "it is of another model"
            )
