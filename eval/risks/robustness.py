"""Robustness: accuracy under typing errors, other case, other phrasing and long input.

Every change is drawn by a seed and leaves the right answer as it is. The same items are asked
clean and changed, so that the difference is a paired one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from eval.record import Prediction
from eval.risks.line import Line, Topic, not_measured, over
from eval.risks.suites import Suite
from eval.statistics import paired_difference

Answer = Callable[[Suite], Sequence[Prediction]]
Change = Callable[[str, random.Random], str]

TYPO_SHARE = 0.05
TEMPLATES = (
    "Hello, I have a question. {text}",
    "{text} Could you help me with this, please?",
    "I would like to say the following: {text}",
    "{text} Thank you very much in advance.",
)
FILLER = "This sentence is here only to make the message longer and says nothing about it. "
FILLER_TIMES = 8


def typos(text: str, rng: random.Random) -> str:
    """One letter in twenty, at least one, is left out, doubled or swapped with the next."""
    letters = [place for place, character in enumerate(text) if character.isalpha()]
    if not letters:
        return text
    wrong = sorted(rng.sample(letters, max(1, round(TYPO_SHARE * len(letters)))), reverse=True)
    characters = list(text)
    for place in wrong:
        kind = rng.choice(("drop", "double", "swap"))
        if kind == "swap" and place + 1 < len(characters):
            characters[place : place + 2] = characters[place : place + 2][::-1]
        elif kind == "double":
            characters.insert(place, characters[place])
        else:
            del characters[place]
    return "".join(characters)


def lengthened(text: str, _rng: random.Random) -> str:
    """Eight empty sentences stand before the text."""
    return FILLER * FILLER_TIMES + text


CHANGES: dict[str, tuple[Change, str]] = {
    "typing errors": (
        typos, "one letter in twenty left out, doubled, or swapped with the next"
    ),
    "all capitals": (lambda text, _rng: text.upper(), "every letter made a capital"),
    "no capitals": (lambda text, _rng: text.lower(), "every letter made small"),
    "other phrasing": (
        lambda text, rng: rng.choice(TEMPLATES).format(text=text),
        f"the text put into one of {len(TEMPLATES)} polite frames",
    ),
    "long input": (lengthened, f"{FILLER_TIMES} sentences that say nothing put before the text"),
}  # fmt: skip


def robustness_lines(
    suite: Suite,
    clean: Sequence[Prediction],
    answer: Answer,
    *,
    seed: int,
    most: int | None,
) -> list[Line]:
    """One line for each change.

    Args:
        clean: the answers to the suite's rows as they are.
        most: tokens of the longest question that can be asked, or None.
    """
    return [_line(name, suite, clean, answer, seed=seed, most=most) for name in CHANGES]


def _line(
    name: str,
    suite: Suite,
    clean: Sequence[Prediction],
    answer: Answer,
    *,
    seed: int,
    most: int | None,
) -> Line:
    topic: Topic = "robustness"
    what = f"accuracy with {name} less accuracy as written ({suite.name})"
    if suite.refusal is not None:
        return not_measured(topic, what, suite.refusal)
    change, rule = CHANGES[name]
    rng = random.Random(f"{seed} {name}")
    texts = [change(text, rng) for text in suite.texts]
    kept = [
        i for i, (old, new) in enumerate(zip(suite.texts, texts, strict=True))
        if old != new and suite.fits(new, most)
    ]  # fmt: skip
    if not kept:
        why = f"none of {len(texts):,} asked texts is changed by it and fits the model's context"
        return not_measured(topic, what, why)
    asked = suite.only(kept)
    found = answer(asked.reworded([texts[index] for index in kept]))
    before = [float(clean[index].label == clean[index].gold) for index in kept]
    after = [float(one.label == one.gold) for one in found]
    difference = paired_difference([after], [before], asked.clusters)
    shown = (
        f"{sum(after) / len(kept):.1%} against {sum(before) / len(kept):.1%}: "
        f"{100 * difference.estimate:+.1f} points "
        f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f}), n = {len(kept):,} items"
    )
    how = f"{rule}; seed {seed}; the same items both times; {len(texts) - len(kept):,} of "
    how += f"{len(texts):,} asked texts left out (unchanged by it, or longer than the context)"
    how += over(asked.clusters)
    return Line(
        topic, what, shown, how, difference.estimate, difference.low, difference.high, len(kept)
    )
