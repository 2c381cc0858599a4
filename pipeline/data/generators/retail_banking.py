"""A synthetic English retail bank: a knowledge base, and customers who want something.

The knowledge base ties the many words of a matter to one another and to its name. The
training rows of the task use a part of those words, the test rows mostly others, in
templates and phrases that stand in nothing a model was trained on: what a model gains
from the knowledge base shows there.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from pipeline.core.errors import DataError
from pipeline.data.generators.banking_accounts import ACCOUNT_MATTERS
from pipeline.data.generators.banking_cards import CARD_MATTERS
from pipeline.data.generators.banking_costs import COST_MATTERS
from pipeline.data.generators.banking_matter import Matter, lines
from pipeline.data.generators.banking_payments import PAYMENT_MATTERS
from pipeline.data.generators.banking_phrases import (
    INTENTS_TEST,
    INTENTS_TRAIN,
    KNOWLEDGE,
    KNOWLEDGE_TEST,
    LOG,
    Kind,
)

MATTERS: tuple[Matter, ...] = CARD_MATTERS + COST_MATTERS + PAYMENT_MATTERS + ACCOUNT_MATTERS

# Documents of each kind for each matter; logs are counted over all matters.
_KNOWLEDGE_COUNTS = {"article": 9, "faq": 6, "glossary": 5, "note": 8, "digest": 4}
_LOGS = 300
_KNOWLEDGE_TEST_COUNTS = {"lesson": 4, "letter": 3}
# Fewest and most templates that a phrase is put into: chance decides between them, so that
# classes are near balance without being in it.
_TEMPLATES_PER_PHRASE = {"intents_train": (5, 8), "intents_test": (4, 6)}

_SLOT = re.compile(r"\{(\w+)\}")
# How far apart the two halves of a template may stand and still be the template.
_LONGEST_FILLER = 200
_SECOND_PERSON = (
    (re.compile(r"\bI was\b"), "you were"),
    (re.compile(r"\bI am\b"), "you are"),
    (re.compile(r"\bI\b"), "you"),
    (re.compile(r"\b(me|myself)\b"), "you"),
    (re.compile(r"\bmine\b"), "yours"),
    (re.compile(r"\bmy\b"), "your"),
)


def generate(part: str, seed: int) -> list[dict[str, object]]:
    """The rows of one part.

    Args:
        part: ``knowledge`` and ``knowledge_test`` give ``{"id", "text"}``;
            ``intents_train`` and ``intents_test`` give ``{"id", "text", "label", "group"}``,
            where ``group`` is the phrase, so that a split by group shares no phrase.
        seed: Chooses among the sentences, documents and templates.

    Raises:
        DataError: No such part.
    """
    rng = random.Random(f"retail_banking/{part}/{seed}")
    if part == "knowledge":
        return _documents(part, KNOWLEDGE, _KNOWLEDGE_COUNTS, rng) + _logs(rng)
    if part == "knowledge_test":
        return _documents(part, KNOWLEDGE_TEST, _KNOWLEDGE_TEST_COUNTS, rng)
    if part in _TEMPLATES_PER_PHRASE:
        return _intents(part, rng)
    raise _no_such_part(part)


def templates(part: str) -> list[str]:
    """Every template of a part, with its slots in braces.

    Raises:
        DataError: No such part.
    """
    if part == "intents_train":
        return list(INTENTS_TRAIN)
    if part == "intents_test":
        return list(INTENTS_TEST)
    if part == "knowledge":
        kinds = [*KNOWLEDGE.values(), LOG]
    elif part == "knowledge_test":
        kinds = list(KNOWLEDGE_TEST.values())
    else:
        raise _no_such_part(part)
    return [text for kind in kinds for text in (*kind.headings, *kind.sentences, *kind.endings)]


def phrases(part: str) -> list[str]:
    """Every filler of a part's templates that says what somebody wants, knows or should do.

    Raises:
        DataError: No such part.
    """
    fields = {
        "knowledge": ("event", "cause", "remedy"),
        "knowledge_test": ("held_event", "held_fact"),
        "intents_train": ("train",),
        "intents_test": ("test",),
    }.get(part)
    if fields is None:
        raise _no_such_part(part)
    return [text for matter in MATTERS for field in fields for text in _pools(matter)[field]]


def find_overlap(
    phrases: Iterable[str], templates: Iterable[str], texts: Iterable[str]
) -> list[str]:
    """Names each phrase and each template that occurs in one of the texts.

    All is compared after NFKC, casefold, and with nothing but letters and digits left. A
    template occurs where its fixed pieces follow each other with a filler's room between.

    Returns:
        Those found, phrases first, in the order given.

    Raises:
        DataError: A phrase or template without a letter of its own, which would be
            "found" anywhere.
    """
    # One line for each text, so that nothing matches across two of them.
    everything = "\n".join(_plain(text) for text in texts)
    found = [phrase for phrase in phrases if _plain_or_error(phrase) in everything]
    for template in templates:
        _plain_or_error(_SLOT.sub("", template))
        pieces = [plain for piece in _SLOT.split(template)[::2] if (plain := _plain(piece))]
        if re.search(f".{{0,{_LONGEST_FILLER}}}?".join(pieces), everything):
            found.append(template)
    return found


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _plain_or_error(text: str) -> str:
    plain = _plain(text)
    if not plain:
        raise DataError(f"overlap check: {text!r} has no letters to look for; leave it out")
    return plain


def _no_such_part(part: str) -> DataError:
    known = "knowledge, knowledge_test, intents_train, intents_test"
    return DataError(f"retail_banking: part {part!r} does not exist; use one of {known}")


@lru_cache(maxsize=len(MATTERS))
def _pools(matter: Matter) -> dict[str, tuple[str, ...]]:
    """The fillers of each slot."""
    events = tuple(lines(matter.events))
    return {
        "title": (matter.title,),
        "name": tuple(lines(matter.names)),
        "term": tuple(lines(matter.terms)),
        "event": events,
        "yours": tuple(_in_second_person(event) for event in events),
        "cause": tuple(lines(matter.causes)),
        "remedy": tuple(lines(matter.remedies)),
        "held_event": tuple(lines(matter.held_events)),
        "held_fact": tuple(lines(matter.held_facts)),
        "train": (*lines(matter.train), *_term_phrases(matter)),
        "test": tuple(lines(matter.test)),
    }


def _term_phrases(matter: Matter) -> list[str]:
    """Customers who only drop a word: the odd ones of the matter's terms, so not all of them."""
    return [f"it is about the {term}" for term in lines(matter.terms)[::2]]


def _in_second_person(text: str) -> str:
    for pattern, replacement in _SECOND_PERSON:
        text = pattern.sub(replacement, text)
    return text


class _Writer:
    """Fills templates with the texts of one matter, none twice before all were used."""

    def __init__(self, matter: Matter, rng: random.Random) -> None:
        self._pools = _pools(matter)
        self._decks: dict[str, list[str]] = {}
        self._rng = rng

    def write(self, template: str) -> str:
        return _SLOT.sub(lambda slot: self._draw(slot[1]), template)

    def _draw(self, slot: str) -> str:
        name = slot.lower()
        deck = self._decks.setdefault(name, [])
        if not deck:
            deck.extend(self._rng.sample(self._pools[name], len(self._pools[name])))
        text = deck.pop()
        return _capital(text) if slot[0].isupper() else text


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _chosen(kind: Kind, rng: random.Random) -> list[str]:
    """Sentence templates for one document, as few of them twice as can be."""
    count = rng.randint(*kind.count)
    rounds = -(-count // len(kind.sentences))
    order = [
        text for _ in range(rounds) for text in rng.sample(kind.sentences, len(kind.sentences))
    ]
    return order[:count]


def _documents(
    part: str, kinds: dict[str, Kind], counts: dict[str, int], rng: random.Random
) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for matter in MATTERS:
        for name, kind in kinds.items():
            for number in range(counts[name]):
                writer = _Writer(matter, rng)
                heading = writer.write(rng.choice(kind.headings))
                body = [writer.write(text) for text in _chosen(kind, rng)]
                ending = writer.write(rng.choice(kind.endings))
                text = f"{heading}\n{kind.joint.join([*body, ending])}"
                rows.append({"id": f"{part}/{matter.label}/{name}/{number:02d}", "text": text})
    return rows


def _logs(rng: random.Random) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(_LOGS):
        chosen = _chosen(LOG, rng)
        matters = rng.sample(MATTERS, len(chosen))
        body = [
            _Writer(matter, rng).write(text) for matter, text in zip(matters, chosen, strict=True)
        ]
        text = "\n".join([rng.choice(LOG.headings), *body, rng.choice(LOG.endings)])
        rows.append({"id": f"knowledge/log/{number:03d}", "text": text})
    return rows


def _intents(part: str, rng: random.Random) -> list[dict[str, object]]:
    frames = templates(part)
    rows: list[dict[str, object]] = []
    for matter in MATTERS:
        for number, phrase in enumerate(_pools(matter)[part.removeprefix("intents_")]):
            group = f"{part}/{matter.label}/{number}"
            count = rng.randint(*_TEMPLATES_PER_PHRASE[part])
            for at in sorted(rng.sample(range(len(frames)), count)):
                text = _capital(frames[at].format(phrase=phrase))
                rows.append(
                    {"id": f"{group}/{at}", "text": text, "label": matter.label, "group": group}
                )
    rng.shuffle(rows)
    return rows
