"""What has to be known of a tokenizer and its template: control strings, thinking, ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.controls import Controls
from pipeline.core.errors import ModelError
from pipeline.data.rendering.encoding import Encoder
from pipeline.data.rendering.template import reads, source_of

# Word joiner, zero-width space, non-joiner, joiner: they show nothing. The others where a
# tokenizer knows none of them.
SEPARATORS = ("\u2060", "\u200b", "\u200c", "\u200d", "\ufeff", "\u00b7", "-")


def controls_of(tokenizer: Any, chat_template: str | Mapping[str, str] | None) -> Controls:
    """The rule for a tokenizer and a template, its separator tried on every control string.

    Control strings are the special tokens, and those other added tokens that stand in the
    template or look like ``<|mark|>``; one character cannot be held apart, and blanks are none.

    Raises:
        ModelError: no separator keeps the control strings from being read.
    """
    source = source_of(chat_template)
    always = set(tokenizer.all_special_tokens)
    outside = set()
    for token in tokenizer.added_tokens_decoder.values():
        if token.special:
            always.add(token.content)
        elif token.content in source or (
            token.content.startswith("<|") and token.content.endswith("|>")
        ):
            outside.add(token.content)
    first = tuple(sorted(each for each in map(str, always) if len(each.strip()) > 1))
    second = tuple(sorted(e for e in outside - set(first) if len(e.strip()) > 1))
    encoder = Encoder(tokenizer)
    # Whoever writes a character that the tokenizer lacks makes the unknown token: no harm.
    ids = set(tokenizer.convert_tokens_to_ids([*first, *second])) - {tokenizer.unk_token_id}
    others = [each.swapcase() for each in (*first, *second) if each.swapcase() != each]
    ignore_case = _read(encoder, others, ids)
    for separator in SEPARATORS:
        if any(separator in control for control in (*first, *second)):
            continue
        rule = Controls(first, second, separator, ignore_case)
        if not _read(encoder, _attacks(rule), ids):
            return rule
    raise ModelError(
        "base: no separator keeps its tokenizer from reading control tokens in a user's text; "
        "choose a base with another tokenizer"
    )


def fixed_kwargs(
    template: str | Mapping[str, str] | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The template's arguments, ``enable_thinking`` among them where the template reads it.

    Left open it would be what each engine takes it for; training, every suite and serving are
    told the same: what the recipe says, or else no. The rows are not asked: a suite's would
    answer otherwise than those of the recipe that it judges.
    """
    if "enable_thinking" in given or not reads(template, "enable_thinking"):
        return dict(given)
    return {**given, "enable_thinking": False}


def thinks(message: Mapping[str, Any]) -> bool:
    """Whether a turn holds a thought that is not empty, told as Qwen3's template tells it."""
    if str(message.get("reasoning_content") or "").strip():
        return True
    content = str(message.get("content") or "")
    before, closed, _ = content.partition("</think>")
    if closed:
        return bool(before.rpartition("<think>")[2].strip())
    return content.lstrip().startswith("<think>")


def without_thought(message: Mapping[str, Any]) -> dict[str, Any]:
    """The turn with its answer alone, its thought taken out."""
    content = str(message.get("content") or "")
    if "</think>" in content:
        content = content.rpartition("</think>")[2].lstrip("\n")
    elif content.lstrip().startswith("<think>"):
        content = ""
    return {**message, "content": content, "reasoning_content": None}


def _attacks(rule: Controls) -> list[str]:
    """Every control string as the rule leaves it, in the company in which it may stand."""
    texts = []
    for control in (*rule.always, *rule.outside_assistant):
        given = {control, control.swapcase()} if rule.ignore_case else {control}
        for one in given:
            for text in (one, f"a{one}b", f" {one} ", f"\n{one}\n", one + one):
                texts.append(rule.neutralise(text))
            texts.append(rule.neutralise(rule.neutralise(one)))
    return texts


def _read(encoder: Encoder, texts: list[str], ids: set[int]) -> bool:
    """Whether one of the texts is read as a control token."""
    return any(ids.intersection(found) for found in encoder.whole(texts))
