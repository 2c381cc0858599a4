"""Texts of users and rows on their way to a terminal."""

from __future__ import annotations

import re

# A terminal acts on these: colours, titles, moved cursors, letters that run the other way.
_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """A text as a terminal may have it: what it would act on stands as its escape."""
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)
