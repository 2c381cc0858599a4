"""Stage `scratch`: a tokenizer of its own and random weights, before any training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.model_config import scratch_config
from pipeline.core.stage import StageContext
from pipeline.data.formats import converter
from pipeline.data.origins import source_chunks
from pipeline.data.rows import Placed, RowProblem, texts_of

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Scratch:
    """Trains a byte-level BPE tokenizer on the training text and draws a Qwen3 shape."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: ``train0``, ... where a source is a fetched data set."""
        import torch
        from transformers import AutoConfig, Qwen3ForCausalLM

        shape = config["shape"]
        texts = list(_texts(inputs, config, context))
        tokenizer = train_tokenizer(texts, shape["vocab_size"])
        torch.manual_seed(shape["seed"])
        end = tokenizer.convert_tokens_to_ids(END)
        model_config = AutoConfig.for_model(
            **scratch_config({**shape, "vocab_size": len(tokenizer)}),
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = Qwen3ForCausalLM(model_config)
        model.generation_config.eos_token_id = [end, tokenizer.pad_token_id]
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.save_pretrained(str(context.out))
        tokenizer.save_pretrained(str(context.out))
        return {
            "parameters": sum(p.numel() for p in model.parameters()),
            "vocab_size": len(tokenizer),
            "texts": len(texts),
        }


def _texts(
    inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
) -> Iterator[str]:
    for index, source in enumerate(config["sources"]):
        role = f"train{index}"
        folder = inputs[role].path if role in inputs else None
        convert = converter(
            source["format"], columns=source["columns"], prompt=source.get("prompt"), keep=()
        )
        for chunk in source_chunks(source, context.files.get(role), folder, "data.train"):
            for found in chunk.rows():
                # What cannot be read is counted by `prepare`, which reads the same rows.
                if isinstance(found, Placed):
                    with contextlib.suppress(RowProblem):
                        yield from texts_of(convert(found.row))


def train_tokenizer(texts: list[str], vocab_size: int) -> Any:
    """Byte-level BPE (no unknown tokens) with chat markup and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[START],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
