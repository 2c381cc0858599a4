"""Which ids of an answer a served model is asked for: those that the offline arms score."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tiny_family import CORPUS, TEMPLATE

from eval.arms.joint import log_prior
from eval.arms.rendered import answers_of
from eval.endpoint.likely import rendered
from pipeline.data.rendering import Renderer

LABELS = ["card", "card declined", "top up", "我的卡"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS * 20, trainer)
    made: Any = PreTrainedTokenizerFast
    return made(tokenizer_object=raw, pad_token=special[0], eos_token=special[2])


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,  # A line break behind the end of a turn.
        TEMPLATE.replace("<|im_end|>\n", "<|im_end|>"),
        TEMPLATE.replace(
            "{{ m['content'] }}",
            "{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m['content'] }}",
        ),
    ],
    ids=["break behind", "nothing behind", "thought before"],
)
def test_answer_ids_are_those_of_the_offline_arms(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    renderer = Renderer(tokenizer, causal=True)
    expected = answers_of(renderer, LABELS, [tokenizer.eos_token_id])
    question = ({"role": "user", "content": "My card was declined"},)
    for label in LABELS:
        ids, counted = rendered(renderer, question, label)
        own = tuple(one for one, counts in zip(ids, counted, strict=True) if counts)
        assert own == expected[label]


def test_without_a_recipe_there_are_no_ids() -> None:
    assert rendered(None, ({"role": "user", "content": "x"},), "card") == ((), ())


def test_a_prior_counts_the_rows_of_train_and_one_more_of_each() -> None:
    found = log_prior(["a", "b"], {"a": 3, "b": 1})
    assert found == pytest.approx([math.log(4 / 6), math.log(2 / 6)])
    assert log_prior(["a", "b"], None) == pytest.approx([math.log(0.5), math.log(0.5)])
