"""The grammar of an engine's choice among labels, written plainly: the oracle of both sides."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any


def greedy_label(
    model: Any,
    tokenizer: Any,
    prompt: Sequence[int],
    named: Sequence[str],
    stop: int = 2,
    room: int | None = None,
) -> str:
    """The likeliest token at each step, of all whose bytes go on towards a label, or its end.

    Args:
        room: tokens of an answer at most: only such follow after which one can still be ended.
    """
    import torch

    labels = [label.encode() for label in named]
    parts = {token: tokenizer.decode([token]) for token in range(3, len(tokenizer))}
    # A byte that is no character by itself is left to the tokenizer's own table.
    table = {token: text.encode() for token, text in parts.items() if "\ufffd" not in text}
    table |= {
        token: bytes([byte])
        for byte in range(256)
        for token in tokenizer.convert_tokens_to_ids([byte_characters()[byte]])
    }
    pieces = {*table.values()} - {b""}

    @functools.cache
    def ends(written: bytes, left: int) -> bool:
        if written in labels or left < 2:
            return written in labels and left > 0
        nexts = {written + piece for piece in pieces}
        return any(ends(n, left - 1) for n in nexts if any(t.startswith(n) for t in labels))

    written, ids = b"", list(prompt)
    for step in range(room or 64):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        allowed = [
            token
            for token, piece in table.items()
            if piece and any(label.startswith(written + piece) for label in labels)
        ]
        if room is not None:
            left = room - step - 1
            allowed = [token for token in allowed if ends(written + table[token], left)]
        allowed += [stop] if written in labels else []
        token = max(allowed, key=lambda one: float(logits[one]))
        if token == stop:
            return written.decode()
        written, ids = written + table[token], [*ids, token]
        if written in labels and not any(
            label != written and label.startswith(written) for label in labels
        ):
            return written.decode()
    raise AssertionError("no label was ever reached")


def byte_characters() -> dict[int, str]:
    """GPT-2's table of a visible character for each byte."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    found: dict[int, str] = bytes_to_unicode()
    return found
