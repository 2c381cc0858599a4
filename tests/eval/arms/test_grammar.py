"""A label written in any pieces: the arm against the grammar of an engine, and bytes of tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from eval.arms.constrained import ConstrainedPredictor
from eval.arms.grammar import ByBytes, ById, grammar_of, pieces_of
from eval.arms.rendered import answers_of
from pipeline.core.errors import DataError
from pipeline.data.rendering import Renderer
from pipeline.stages.scratch import train_tokenizer
from tests.byte_grammar import greedy_label

LABELS = ("card", "card declined", "card arrival", "top up", "我的卡")
TEXTS = ["my card was declined", "card arrival", "top up my card", "declined", "a card arrives"]
UNKNOWN, FIRST = "<unk>", "a"
CONFIGS: dict[str, Any] = {"qwen3": Qwen3Config, "llama": LlamaConfig, "gpt2": GPT2Config}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(TEXTS * 3, 320)


def random_model(name: str, tokenizer: Any) -> Any:
    torch.manual_seed(11)
    if name == "gpt2":
        config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2,
                            n_positions=128, initializer_range=0.4)  # fmt: skip
    else:
        config = CONFIGS[name](
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
            initializer_range=0.4,
        )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_batched_it_writes_what_an_engines_grammar_lets_through(name: str, tokenizer: Any) -> None:
    model, renderer = random_model(name, tokenizer), Renderer(tokenizer, causal=True)
    answers = answers_of(renderer, LABELS, [2])
    texts = [f"{text} {n}" for n in range(6) for text in TEXTS]
    rows = [{"example_id": t, "label": "card",
             "prompt_ids": renderer.prompt([{"role": "user", "content": t}])}
            for t in texts]  # fmt: skip
    expected = [greedy_label(model, tokenizer, row["prompt_ids"], LABELS) for row in rows]
    for size in (1, 4, 30):
        asked = ConstrainedPredictor(model, answers, pad_id=0, batch_size=size,
                                     pieces=pieces_of(tokenizer), stop_ids=[2])  # fmt: skip
        assert [one.label for one in asked.predict(rows)] == expected
    # By the rendered ids alone other labels are written: the two grammars are not the same.
    by_id = ConstrainedPredictor(model, answers, pad_id=0, batch_size=4).predict(rows)
    assert [one.label for one in by_id] != expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_prompt_that_leaves_room_for_the_rendered_ids_is_answered_within_the_context(
    name: str, tokenizer: Any
) -> None:
    """All labels go on alike for 19 bytes, and are rendered to a few tokens."""
    labels = ("my card was declined", "my card was declined.", "my card was decline")
    model, renderer = random_model(name, tokenizer), Renderer(tokenizer, causal=True)
    answers = answers_of(renderer, labels, [2])
    room = max(map(len, answers.values()))
    assert room < 10
    rows = []
    for spare in range(8):
        filler = renderer.prompt([{"role": "user", "content": TEXTS[spare % 5]}])
        ids = (filler * 128)[: 128 - room - spare]
        rows.append({"example_id": str(spare), "label": labels[0], "prompt_ids": ids})
    expected = [
        greedy_label(model, tokenizer, row["prompt_ids"], labels, room=room + spare)
        for spare, row in enumerate(rows)
    ]
    for size in (1, 3, 8):
        asked = ConstrainedPredictor(model, answers, pad_id=0, batch_size=size,
                                     pieces=pieces_of(tokenizer), stop_ids=[2])  # fmt: skip
        assert [one.label for one in asked.predict(rows)] == expected
    rows[0]["prompt_ids"] = [*rows[0]["prompt_ids"], 5]
    with pytest.raises(DataError, match=f"0: {129 - room} tokens and {room} for the answer exceed"):
        asked.predict(rows)


def test_what_is_left_decides_which_pieces_may_follow() -> None:
    pieces = {3: b"a", 4: b"b", 5: b"ab", 6: b"abab", 7: b"c"}
    grammar = ByBytes({"abab": b"abab", "abc": b"abc"}, pieces, [2], 3)
    assert grammar.next_tokens(b"") == grammar.next_tokens(b"", 5) == [3, 5, 6]
    # "abab" and its end; "ab", "c" or "ab", and the end; "a" would take one more.
    assert grammar.next_tokens(b"", 4) == [3, 5, 6]
    assert grammar.next_tokens(b"", 3) == [5, 6]
    assert grammar.next_tokens(b"", 2) == [6]
    assert grammar.next_tokens(b"ab", 3) == [3, 5, 7]
    assert grammar.next_tokens(b"ab", 2) == [5, 7]
    assert grammar.next_tokens(b"abc", 1) == [2]


def test_bytes_of_a_byte_level_tokenizer_are_those_of_the_text(tokenizer: Any) -> None:
    pieces = pieces_of(tokenizer) or {}
    for text in ("card declined", "我的卡 é\n\t~", "\x00\x7f"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(pieces[i] for i in ids) == text.encode()
    assert not {*tokenizer.all_special_ids} & {*pieces}
    assert len(pieces) + len(tokenizer.all_special_ids) == len(tokenizer)


def test_bytes_of_a_sentencepiece_tokenizer_are_those_of_the_text() -> None:
    letters = ["\u2581", *"cardeln", "\u2581card"]
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = [("\u2581", "c"), ("\u2581c", "a"), ("\u2581ca", "r"), ("\u2581car", "d")]
    names += ["\u2581c", "\u2581ca", "\u2581car"]
    made = Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, merges,
                                unk_token=UNKNOWN, byte_fallback=True))  # fmt: skip
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token=UNKNOWN)
    pieces = pieces_of(tokenizer) or {}
    for text in ("card declined", "card 卡"):
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(pieces[i] for i in ids) == b" " + text.encode()


def test_where_bytes_are_not_known_or_hold_markup_only_the_rendered_ids_may_be_written(
    tokenizer: Any,
) -> None:
    pieces = pieces_of(tokenizer) or {}
    ids = {name: (*tokenizer.encode(name, add_special_tokens=False), 2) for name in LABELS}
    assert isinstance(grammar_of(ids, pieces, [2]), ByBytes)
    assert isinstance(grammar_of(ids, None, [2]), ById)
    assert isinstance(grammar_of({**ids, "markup": (1, *ids["card"])}, pieces, [2]), ById)
    assert isinstance(grammar_of({**ids, "unended": (*ids["card"][:-1], 9)}, pieces, [2]), ById)
    other = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token=FIRST))
    other.decoder = decoders.WordPiece()
    assert pieces_of(PreTrainedTokenizerFast(tokenizer_object=other)) is None
    # `card` in two pieces has the bytes of `card`: told apart by ids alone.
    twice = {"card": ids["card"], "the same": (*(tokenizer.convert_tokens_to_ids([*"card"])), 2)}
    assert isinstance(grammar_of(twice, pieces, [2]), ById)


def test_a_label_is_known_as_soon_as_no_other_begins_like_it(tokenizer: Any) -> None:
    pieces = pieces_of(tokenizer) or {}
    texts = {"card": b"card", "card declined": b"card declined", "top": b"top"}
    grammar = ByBytes(texts, pieces, [2], 6)
    (c, t) = tokenizer.convert_tokens_to_ids(["c", "t"])
    assert grammar.start().label is None
    assert grammar.after(b"", t).label == "top"
    assert grammar.after(b"", c).label is None
    assert 2 in grammar.next_tokens(b"card")
    assert 2 not in grammar.next_tokens(b"car")
    assert grammar.after(b"card", 2).label == "card"
    assert ByBytes({"one": b"one"}, pieces, [2], 3).start().label == "one"
