"""What a config.json says of its model; transformers' own tables are the oracle."""

from __future__ import annotations

import pytest
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from pipeline.core.model_config import _ENCODERS, model_kind

KINDS = {
    "BertForMaskedLM": "encoder", "Qwen3ForCausalLM": "causal", "GPT2LMHeadModel": "causal",
    "Mystery": None,
}  # fmt: skip


@pytest.mark.parametrize("architecture", KINDS)
def test_kind_is_told_by_the_architecture(architecture: str) -> None:
    assert model_kind({"architectures": [architecture]}) == KINDS[architecture]


def test_kind_of_a_bare_encoder_is_that_of_transformers() -> None:
    assert set(MODEL_FOR_MASKED_LM_MAPPING_NAMES) == _ENCODERS
    assert model_kind({"model_type": "mpnet", "architectures": ["MPNetModel"]}) == "encoder"


def test_architecture_comes_before_the_model_type() -> None:
    """BERT was also saved as a decoder."""
    assert model_kind({"model_type": "bert", "architectures": ["BertLMHeadModel"]}) == "causal"
    assert model_kind({"model_type": "bert", "architectures": ["BertForTokenClassification"]}) == (
        "encoder"
    )


def test_every_model_of_transformers_is_of_its_kind() -> None:
    """But those of both tables, and readers of images, whose names say neither."""
    reads = dict(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    writes = {
        kind: name
        for kind, name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if isinstance(name, str)
        and name not in reads.values()
        and not name.endswith(("ForConditionalGeneration", "Decoder"))
    }
    assert len(writes) > 100
    for wanted, models in (("encoder", reads), ("causal", writes)):
        for kind, name in models.items():
            assert model_kind({"model_type": kind, "architectures": [name]}) == wanted, name
