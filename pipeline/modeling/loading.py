"""Models and tokenizers from a folder: safetensors only, no remote code, nothing missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import ModelError
from pipeline.core.model_config import ModelKind, model_kind, read_config

Quantisation = Literal["nf4"] | None
# Beside a model whose own code may run: the recipe said so, and `fetch` wrote it down.
MARKER = "gradus.json"
_OWN_CODE = "trust_remote_code"


def kind_of_folder(folder: Path) -> ModelKind:
    """Whether the model there writes tokens (causal) or only reads them (encoder)."""
    # What does not say is loaded as what it is asked for most.
    return model_kind(read_config(folder)) or "causal"


def runs_own_code(folder: Path) -> bool:
    """Whether the recipe said that the code in this model's folder may run."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(marker, dict) and marker.get(_OWN_CODE) is True


def allow_own_code(folder: Path) -> None:
    """Writes down that the code in this model's folder may run."""
    (folder / MARKER).write_text(json.dumps({_OWN_CODE: True}) + "\n", encoding="utf-8")


def require_loadable(folder: Path) -> None:
    """Refuses at once what could not be loaded later.

    Raises:
        ModelError: pickled weights only, or code of its own that nobody allowed.
    """
    from transformers import CONFIG_MAPPING

    if not any(folder.rglob("*.safetensors")):
        pickled = sorted(p.name for p in folder.rglob("*") if p.suffix in PICKLED)
        what = f"{pickled[0]} is pickled, which can run code" if pickled else "no weights there"
        raise ModelError(
            f"base: {folder.name}: no .safetensors weights ({what}); choose a revision with "
            "safetensors, or convert them (save_pretrained writes safetensors)"
        )
    config = read_config(folder)
    known = config.get("model_type") in CONFIG_MAPPING
    if config.get("auto_map") and not known and not runs_own_code(folder):
        raise _own_code(folder)


PICKLED = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".ot"})


def _own_code(folder: Path) -> ModelError:
    code = sorted(p.name for p in folder.glob("*.py"))
    what = f" ({', '.join(code[:3])})" if code else ""
    return ModelError(
        f"base: {folder.name}: needs code of its own{what}, which gradus does not run unasked; "
        "read that code, then set trust_remote_code: true in the recipe, or take another base"
    )


def _refuse_own_code(folder: Path, error: Exception) -> None:
    if _OWN_CODE in str(error):
        raise _own_code(folder) from None


def load_tokenizer(folder: Path, chat_template: Path | None = None) -> Any:
    """The tokenizer in ``folder``, with the recipe's chat template if it names one."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=runs_own_code(folder)
        )
    except (OSError, ValueError, KeyError) as error:
        _refuse_own_code(folder, error)
        raise ModelError(
            f"{folder}: no tokenizer that can be loaded ({str(error).splitlines()[0][:120]}); "
            "point base at a folder with tokenizer.json"
        ) from None
    if chat_template is not None:
        tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(
    folder: Path,
    *,
    bf16_weights: bool = False,
    quantisation: Quantisation = None,
    attention: str = "sdpa",
    compute: Literal["fp32", "bf16"] | None = None,
) -> Any:
    """The model in ``folder`` with its language-model head, in float32 unless told otherwise.

    Args:
        bf16_weights: keep frozen weights in bfloat16 (GPU).
        quantisation: ``nf4`` for 4-bit weights with double quantisation (QLoRA, Dettmers et
            al. 2023).
        attention: transformers' name of the attention kernel.
        compute: what 4-bit weights are multiplied in; default: the other weights' type.

    Raises:
        ModelError: pickled weights only, remote code not allowed, or weights that are missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, BitsAndBytesConfig

    causal = kind_of_folder(folder) == "causal"
    auto = AutoModelForCausalLM if causal else AutoModelForMaskedLM
    dtype = torch.bfloat16 if bf16_weights else torch.float32
    extra: dict[str, Any] = {}
    if quantisation == "nf4":
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype={"bf16": torch.bfloat16, "fp32": torch.float32}.get(
                compute or "", dtype
            ),
        )
    own_code = runs_own_code(folder)
    try:
        loaded: Any = auto.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=own_code,
            use_safetensors=True,
            attn_implementation=attention,
            output_loading_info=True,
            **extra,
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        _refuse_own_code(folder, error)
        raise ModelError(
            f"{folder}: cannot be loaded ({str(error).strip().splitlines()[0][:160]}); "
            "gradus needs whole safetensors weights"
        ) from None
    model, info = loaded
    missing = sorted(info["missing_keys"])
    if causal and missing:
        raise ModelError(f"{folder}: weights lack {missing[0]} and {len(missing) - 1} more")
    if quantisation == "nf4":
        _keep_numerics(model)
    model.gradus_untrained = missing
    model.gradus_own_code = own_code
    return model


def _keep_numerics(model: Any) -> None:
    """One set of weights, whether training or not.

    On CPUs with AVX512-BF16 bitsandbytes repacks 4-bit weights at the first forward in `eval`
    mode, their scales rounded to bf16, and trains on with those: validation would change what
    it measures (and layers narrower than a block of 64 fail).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def on_device(model: Any) -> Any:
    """On the GPU where there is one with room for the weights; else where it is."""
    import torch

    if not torch.cuda.is_available():
        return model
    weights_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    free_bytes, _ = torch.cuda.mem_get_info()
    return model.to("cuda") if free_bytes > 1.3 * weights_bytes else model


def plain_model(body: Any) -> Any:
    """The transformers model itself, whether PEFT wraps it or not; LoRA layers stay in it."""
    return body.get_base_model() if hasattr(body, "get_base_model") else body


def backbone(model: Any) -> Any:
    """The model below its language-model head: (input_ids, attention_mask) -> hidden states."""
    return model.base_model


def decoder_layers(body: Any) -> list[Any]:
    """The layers that are sharded and compiled one by one, in order; PEFT may wrap them.

    Those that stand in a list; what a model names beside them (embeddings) may share weights
    with its head, and shards meet only within one group.
    """
    from torch import nn

    names = set(getattr(plain_model(body), "_no_split_modules", None) or ())
    lists = [m for m in body.modules() if isinstance(m, nn.ModuleList)]
    found = [layer for held in lists for layer in held if type(layer).__name__ in names]
    # A model that names none: its longest list is its layers.
    return found or list(max(lists, key=len, default=[]))


def save_model(
    model: Any, tokenizer: Any, out: Path, state: Mapping[str, Any] | None = None
) -> None:
    """Writes config, safetensors weights and tokenizer.

    Args:
        state: parameter name to whole tensor, where the model itself holds shards.
    """
    model.config.architectures = [type(model).__name__]
    if state is None:
        model.save_pretrained(str(out))
    else:
        model.save_pretrained(str(out), state_dict=dict(state))
    tokenizer.save_pretrained(str(out))
    if getattr(model, "gradus_own_code", False):
        allow_own_code(out)
    if getattr(model, "generation_config", None) is not None and model.can_generate():
        model.generation_config.save_pretrained(str(out))
