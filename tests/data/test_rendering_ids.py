"""Text to ids: words apart or whole, the same ids; control strings that are none any more."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from pipeline.data.rendering import controls_of
from pipeline.data.rendering.encoding import Encoder, words_stand_apart
from tests.data.rendering_cases import CASES, WHOLE, case, tiny, whole

TEXTS = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["a", "Z", "'s", "don't", " ", "  ", "\n", "\t", "\n\n", "1", "234", ",", ".", "-", "(",
         "é", "中文", "。", "\u0301", "<|im_end|>", "<|end|>", "<mask>", "</s>", "_", "\u2060"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


@cache
def encoder(name: str) -> Encoder:
    return Encoder(whole(name) if name in WHOLE else case(name).tokenizer)


@pytest.mark.parametrize("name", [*WHOLE, "qwen3/gpt2", "phi-4-base/phi-2", "chatml/roberta-base"])
@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, max_size=3))
@example(["a b", "a b\n\n c.", "x<|im_end|> y", "s' s s"])
def test_words_apart_give_the_ids_of_the_whole(name: str, texts: list[str]) -> None:
    tokenizer = whole(name) if name in WHOLE else case(name).tokenizer
    expected = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    assert encoder(name).many(texts) == expected


def test_words_are_taken_apart_only_where_it_is_proved() -> None:
    assert {name: words_stand_apart(whole(name)) for name in WHOLE} == {
        "gpt2": True, "phi-2": True, "roberta-base": True, "phi-3-mini": False, "chatglm": False,
    }  # fmt: skip
    from tokenizers.normalizers import NFC, Lowercase

    tokenizer = tiny()
    assert words_stand_apart(tokenizer)
    tokenizer._tokenizer.normalizer = NFC()
    assert words_stand_apart(tokenizer)
    tokenizer._tokenizer.normalizer = Lowercase()
    assert not words_stand_apart(tokenizer)
    tokenizer._tokenizer.normalizer = None
    tokenizer._tokenizer.model.dropout = 0.1
    assert not words_stand_apart(tokenizer)
    tokenizer._tokenizer.model.dropout = None
    tokenizer.add_tokens(["two words"])
    assert not words_stand_apart(tokenizer)


def test_many_texts_in_one_batch_and_long_words_keep_their_ids() -> None:
    texts = [f"word{n} the, of {'x' * n} {'长' * n}" for n in range(150)]
    tokenizer = whole("gpt2")
    found = encoder("gpt2")
    for _ in range(2):
        assert found.many(texts) == [tokenizer(text)["input_ids"] for text in texts]
    assert max(map(len, found._after)) <= 48


def test_another_calls_truncation_cuts_nothing() -> None:
    tokenizer = tiny()
    ours = Encoder(tokenizer)
    expected = ours.one("a b c d e f")
    tokenizer(["a b c d", "a"], truncation=True, max_length=2, padding=True)
    assert Encoder(tokenizer).one("a b c d e f") == ours.one("a b c d e f") == expected


def test_a_tokenizer_that_betrays_the_proof_is_refused() -> None:
    ours = Encoder(tiny())
    ours._after["b"] = (0,)
    with pytest.raises(ModelError, match="'a b' otherwise than word by word"):
        ours.many(["a b"])


@pytest.mark.parametrize("name", [*WHOLE, *CASES])
def test_no_neutralised_text_is_read_as_a_control_token(name: str) -> None:
    tokenizer = whole(name) if name in WHOLE else case(name).tokenizer
    rule = controls_of(tokenizer, tokenizer.chat_template)
    controls = [*rule.always, *rule.outside_assistant]
    forbidden = set(tokenizer.convert_tokens_to_ids(controls))
    texts = [text for c in controls for text in (c, f"x {c}\ny", f" {c} ", c + c, c.strip("<>|"))]
    ids = tokenizer([rule.neutralise(t) for t in texts], add_special_tokens=False)["input_ids"]
    assert not forbidden.intersection(each for row in ids for each in row)
    plain = tokenizer(list(controls), add_special_tokens=False)["input_ids"]
    assert all(forbidden.intersection(row) for row in plain)
    assert all(rule.restore(rule.neutralise(text)) == text for text in texts)


def test_control_strings_are_special_or_stand_in_the_template() -> None:
    rule = case("qwen3/gpt2").renderer.controls
    assert {"<|im_start|>", "<|im_end|>", "<|endoftext|>"} <= set(rule.always)
    assert {"<think>", "</think>", "<tool_call>", "<|fim_prefix|>"} <= set(rule.outside_assistant)
    # Runs of blanks are added tokens of phi-2, and stand in every template.
    assert not any(c.isspace() for c in case("qwen3/phi-2").renderer.controls.outside_assistant)
    assert "<code>" not in case("qwen2.5/gpt2").renderer.controls.outside_assistant


def test_a_separator_that_the_tokenizer_takes_away_is_not_used() -> None:
    from tokenizers.normalizers import Replace

    tokenizer = tiny()
    # Matched in the normalised text, so a separator that the normalizer drops is no help.
    tokenizer._tokenizer.normalizer = Replace("\u2060", "")
    tokenizer.add_tokens(["<think>"])
    assert controls_of(tokenizer, "<think>").separator == "\u200b"


def test_case_is_ignored_where_the_tokenizer_ignores_it() -> None:
    from tokenizers.normalizers import Lowercase

    tokenizer = tiny()
    tokenizer._tokenizer.normalizer = Lowercase()
    tokenizer.add_tokens(["<think>"])
    rule = controls_of(tokenizer, "<think>")
    assert rule.ignore_case
    number = tokenizer.convert_tokens_to_ids("<think>")
    assert number in tokenizer("<THINK>")["input_ids"]
    assert number not in tokenizer(rule.neutralise("<THINK>"))["input_ids"]


def test_where_no_separator_helps_the_tokenizer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.rendering.probing._attacks", lambda rule: [rule.always[0]])
    tokenizer: Any = tiny()
    with pytest.raises(ModelError, match="no separator keeps"):
        controls_of(tokenizer, None)


def test_no_control_string_means_no_change() -> None:
    assert Controls().neutralise("<|im_end|>") == "<|im_end|>"
