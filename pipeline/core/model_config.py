"""A model's config.json, read or made, and its kind; knows no torch, so that a plan can ask."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.core.errors import ModelError

ModelKind = Literal["causal", "encoder"]
# Of transformers' models for masked language: they also come without their head's name.
_ENCODERS = frozenset({
    "albert", "bart", "bert", "big_bird", "camembert", "convbert", "data2vec-text", "deberta",
    "deberta-v2", "distilbert", "electra", "ernie", "esm", "esmc", "eurobert", "flaubert",
    "fnet", "funnel", "gte", "ibert", "jina_embeddings_v3", "layoutlm", "longformer", "luke",
    "mbart", "megatron-bert", "mobilebert", "modernbert", "modernvbert", "mpnet", "mra", "mvp",
    "neomme", "nomic_bert", "nystromformer", "perceiver", "reformer", "rembert", "roberta",
    "roberta-prelayernorm", "roc_bert", "roformer", "squeezebert", "tapas", "xlm",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "yoso",
})  # fmt: skip
_WRITES = ("ForCausalLM", "LMHeadModel", "ModelWithLMHead")
# XLM and FlauBERT have such a name for what fills in masks.
_READS = ("ForMaskedLM", "WithLMHeadModel")


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of the model in ``folder``.

    Raises:
        ModelError: there is none, or it is none.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); point base at a model") from None
    if not isinstance(config, dict):
        raise ModelError(f"{file}: holds no settings of a model; point base at a model")
    return config


def model_kind(config: Mapping[str, Any]) -> ModelKind | None:
    """Whether a model writes tokens (causal) or only reads them (encoder); None: it does not say.

    The architecture that the weights were saved as comes first: some model types are either.
    """
    name = str((config.get("architectures") or [""])[0])
    if name.endswith(_WRITES) and not name.endswith(_READS):
        return "causal"
    return "encoder" if name.endswith(_READS) or config.get("model_type") in _ENCODERS else None


def scratch_config(shape: Mapping[str, Any]) -> dict[str, Any]:
    """What the stage `scratch` makes of a recipe's shape: a Qwen3.

    Args:
        shape: of the recipe; the stage's vocabulary may come out smaller than it says.
    """
    names = (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "intermediate_size", "max_position_embeddings",
    )  # fmt: skip
    return {
        **{name: shape[name] for name in names},
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "head_dim": shape["hidden_size"] // shape["num_attention_heads"],
        "tie_word_embeddings": True,
    }
