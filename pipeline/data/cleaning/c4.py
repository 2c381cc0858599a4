"""C4's heuristics for web pages; they are for documents only.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.2, as in the Journal of Machine Learning Research (its first version asked
for five sentences and three words). Not here: the list of bad words (not ours to ship), the
language (``clean.language``) and repeated spans (``clean.near_duplicates``). Of the released
code, a line that ends in an ellipsis goes too.
"""

from __future__ import annotations

import re

from pipeline.data.cleaning.words import words

FEWEST_SENTENCES = 3
FEWEST_WORDS_PER_LINE = 5
POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_CITATION = re.compile(r"\[(?:\d{1,3}|edit|citation needed)\]", re.IGNORECASE)
# The paper's four, typographic quotation marks, and the Chinese ones.
_TERMINAL = (".", "!", "?", '"', "”", "’", "'", "。", "！", "？", "」", "』")
_ELLIPSES = ("...", "…")
_SENTENCE = re.compile(r"""[.!?]+["”'’)\]]*(?=\s|$)|[。！？]+[”」』）]*""")


def clean_page(text: str) -> tuple[str, str | None]:
    """The page without citation markers and without lines that are no sentences, or that speak
    of JavaScript or of policies; and why the page goes whole, None where it stays."""
    if "{" in text:
        return text, "a curly bracket"
    if "lorem ipsum" in text.lower():
        return text, "lorem ipsum"
    lines = (_CITATION.sub("", text) if "[" in text else text).split("\n")
    kept = [line for line in lines if _is_kept(line)]
    # A quotation mark may end a line without a full stop.
    count = sum(max(1, len(_SENTENCE.findall(line))) for line in kept if line.strip())
    few = f"{count} sentences, fewer than {FEWEST_SENTENCES}"
    return "\n".join(kept), few if count < FEWEST_SENTENCES else None


def _is_kept(line: str) -> bool:
    stripped = line.strip()
    # Empty lines stay: they part paragraphs, which Gopher's heuristics look at.
    if not stripped:
        return True
    if not stripped.endswith(_TERMINAL) or stripped.endswith(_ELLIPSES):
        return False
    lower = stripped.lower()
    if "javascript" in lower or any(policy in lower for policy in POLICIES):
        return False
    return len(words(stripped)) >= FEWEST_WORDS_PER_LINE
