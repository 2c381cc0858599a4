"""Where code stands in a text: cleaning prose must not eat code.

Markdown only (CommonMark 0.31, sections 4.5 and 6.1): fences of three backticks, an unclosed one
running to the end, and spans of single backticks within a line. Indented code cannot be told
from indented prose, so it counts as prose.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Not ``double'' backticks: in old newswire they are quotation marks.
CODE = r"```.*?(?:```|\Z)|(?<!`)`(?!`)[^`\n]{1,400}`(?!`)"
_CODE = re.compile(CODE, re.DOTALL)


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """The text with what stands outside code changed."""
    if "`" not in text:
        return change(text)
    pieces, end = [], 0
    for match in _CODE.finditer(text):
        pieces += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*pieces, change(text[end:])])


def prose(text: str) -> str:
    """The text without its code; a blank stands for each piece of it."""
    return _CODE.sub(" ", text) if "`" in text else text
