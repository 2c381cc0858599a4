"""Short texts with known near copies, made from real sets by seeded edits."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

SETS = ("banking77", "ag_news", "thucnews_titles")
DATA = Path(__file__).resolve().parents[2] / "shared/data"
# A text and its copies, at most.
FAMILY = 6


def made_texts(rows: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """``rows`` texts in a seeded order, and for each which text it was made from.

    Half of the texts that are taken from the sets have one to FAMILY - 1 edited copies.

    Returns:
        The texts; and the number of the family that each belongs to.
    """
    rng = random.Random(seed)
    originals = _originals()
    rng.shuffle(originals)
    made: list[tuple[str, int]] = []
    for family, text in enumerate(_endless(originals, rng)):
        made.append((text, family))
        copies = rng.randrange(1, FAMILY) if rng.random() < 0.5 else 0
        made.extend((edited(text, rng), family) for _ in range(copies))
        if len(made) >= rows:
            break
    del made[rows:]
    rng.shuffle(made)
    return [text for text, _ in made], [family for _, family in made]


def edited(text: str, rng: random.Random) -> str:
    """The text after one to four edits of words, characters, case or punctuation."""
    for _ in range(rng.randrange(1, 5)):
        text = rng.choice(_EDITS)(text, rng)
    return text


def _endless(originals: Sequence[str], rng: random.Random) -> Iterator[str]:
    """The originals, then new ones: the beginning of one with the end of another."""
    yield from originals
    while True:
        one, two = rng.choice(originals), rng.choice(originals)
        yield one[: rng.randrange(len(one) + 1)] + " " + two[rng.randrange(len(two) + 1) :]


def _originals() -> list[str]:
    found = []
    for name in SETS:
        for part in ("train", "test"):
            path = DATA / name / f"{part}.jsonl"
            if path.is_file():
                lines = path.read_text(encoding="utf-8").splitlines()
                found.extend(json.loads(line)["text"] for line in lines)
    return sorted(set(found or _generated()))


def _generated() -> list[str]:
    """Where the real sets are missing: the project's own rows."""
    from pipeline.data.generators import GENERATORS, generate

    return [
        str(row.get("text") or row.get("prompt") or row.get("question") or "")
        for name, info in GENERATORS.items()
        for part in info.parts
        for row in generate(name, part, 0)
    ]


def _dropped_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    del words[rng.randrange(len(words))]
    return " ".join(words) or text


def _inserted_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    words.insert(rng.randrange(len(words) + 1), rng.choice(words))
    return " ".join(words)


def _replaced_character(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice("aeioust") + text[place + 1 :]


def _dropped_character(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + text[place + 1 :] or text


def _cased(text: str, rng: random.Random) -> str:
    return rng.choice((text.upper(), text.lower(), text.title()))


def _punctuated(text: str, rng: random.Random) -> str:
    return rng.choice(('"{}"', "{}!", "- {} ...", "({})")).format(text)


_EDITS = (
    _dropped_word, _inserted_word, _replaced_character, _dropped_character, _cased, _punctuated,
)  # fmt: skip
