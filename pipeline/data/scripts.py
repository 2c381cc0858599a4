"""Scripts in which no blank stands between words."""

from __future__ import annotations

# Thai and Lao, Myanmar, Khmer, Han with its radicals, Kana.
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007),
    (0x3021, 0x3029), (0x3031, 0x3035), (0x3041, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F), (0x20000, 0x3347F),
)  # fmt: skip
"""First and last code point of each range."""


def sets_no_spaces(character: str) -> bool:
    """Whether a letter is of such a script."""
    code = ord(character)
    return any(first <= code <= last for first, last in UNSPACED)
