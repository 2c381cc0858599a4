"""A comparison in words. Says no more than the intervals carry.

"Helps" and "hurts" need three paired seeds and an interval on one side of 0; with fewer
seeds a sentence is about these weights only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.core.arms import FORM_NAMES

if TYPE_CHECKING:
    from eval.compare import Comparison

ENOUGH_SEEDS = 3
"""From so many paired seeds on a sentence is about the training, and not about these weights."""
SHOWN = 0.05
"""A difference is shown where its p, allowing for all that were looked at, is below."""


def sentences_of(comparison: Comparison) -> list[str]:
    """All conclusions: texts, chance, the level between, the two forms, what is missing."""
    found = [_step(step, comparison) for step in comparison.steps]
    for head, figures in comparison.heads.items():
        found.append(_against_chance(head, figures["with_l1"] or figures["without_l1"], comparison))
        found.append(_level_between(head, figures, comparison))
        found.append(_unparseable(head, comparison))
    found.append(_forms(comparison.forms, comparison))
    # Domain and general text are told by the steps between the levels.
    told = {comparison.suites["domain"], comparison.suites["general"]}
    found += [row["words"] for row in comparison.forgetting if row["suite"] not in told]
    found.append(_contamination(comparison))
    return [sentence for sentence in found if sentence]


def spoken(figures: dict[str, Any], sign: str = "+") -> str:
    """An estimate with its interval: ``+0.210 [+0.150, +0.270]``; a missing end is `?`."""
    ends = ("?" if figures[end] is None else f"{figures[end]:{sign}.3f}" for end in ("low", "high"))
    return f"{figures['estimate']:{sign}.3f} [{', '.join(ends)}]"


def _side(figures: dict[str, Any], zero: float = 0.0) -> int:
    """1 where the whole interval lies above, -1 below, 0 where it holds ``zero``."""
    if figures["low"] is not None and figures["low"] > zero:
        return 1
    return -1 if figures["high"] is not None and figures["high"] < zero else 0


def _seeds(number: int, word: str = "paired seed") -> str:
    return f"{number} {word}{'s' if number != 1 else ''}"


def _step(step: dict[str, Any], comparison: Comparison) -> str:
    upper, lower, text = step["level"], step["against"], step["text"]
    # Each step up is told on domain text; forgetting adds up, so it is told against L0.
    told_before = upper == "L2" and lower == ("L0" if text == "domain" else "L1")
    if told_before and all(
        comparison.levels[level][f"{text}_loss"] is not None for level in ("L0", "L1")
    ):
        return ""
    losses = [comparison.levels[level][f"{text}_loss"] for level in (lower, upper)]
    figures = f"loss {losses[0]:.3f} to {losses[1]:.3f}, ratio {spoken(step, '')}"
    side = _side(step, 1.0)
    if not side:
        return (
            f"On {text} text {upper} and {lower} cannot be told apart: {figures}; "
            "the interval holds 1."
        )
    if side < 0:
        return f"{upper} reads {text} text better than {lower}: {figures}."
    if text == "general":
        return f"{upper} has forgotten some general text against {lower}: {figures}."
    return f"{upper} reads domain text worse than {lower}: {figures}."


def _against_chance(head: str, figures: dict[str, Any], comparison: Comparison) -> str:
    shown = spoken({**figures, "estimate": figures["accuracy"]}, "")
    over = f"{shown} over {_seeds(figures['seeds'], 'seed')}"
    chance = comparison.chance or 0.0
    verb = ("is below", "is not shown to be above", "is above")[_side(figures, chance) + 1]
    return f"The {head} form {verb} chance ({chance:.3f}): accuracy {over}."


def _level_between(head: str, figures: dict[str, Any], comparison: Comparison) -> str:
    difference = figures["difference"]
    if difference is None:
        if figures["with_l1"] is None:
            return ""
        if figures["without_l1"] is not None:
            return (
                f"Whether L1 helps the {head} form is not known: "
                "no seed was trained with it and without."
            )
        climbed = any(model["level"] == "L1" for model in comparison.models)
        return (
            f"Whether L1 helps the {head} form was not measured: there is no control."
            if climbed and any(model["level"] == "L2" for model in comparison.models)
            else ""
        )
    shown = f"{spoken(difference)} accuracy over {_seeds(difference['seeds'])}"
    side = _side(difference)
    drowned = _drowned(FORM_NAMES[head], f"{FORM_NAMES[head]} (control)", comparison)
    among = f"; {drowned}" if drowned else ""
    if difference["seeds"] < ENOUGH_SEEDS:
        verb = "is not shown to be better or worse with L1"
        if side:
            seems = "looks" if drowned else "is"
            verb = f"{seems} {'better' if side > 0 else 'worse'} with L1 than without"
        return (
            f"For these weights the {head} form {verb}: {shown}{among if side else ''}; "
            f"whether L1 helps needs {ENOUGH_SEEDS} seeds."
        )
    if not side:
        return f"L1 does not demonstrably help the {head} form: {shown}; the interval holds 0."
    if drowned:
        word = "better" if side > 0 else "worse"
        return f"The {head} form looks {word} with L1 than without: {shown}{among}."
    return f"L1 {'helps' if side > 0 else 'hurts'} the {head} form: {shown}."


def _unparseable(head: str, comparison: Comparison) -> str:
    shares = [
        model["unparseable"]
        for model in comparison.models
        if model["arm"] == FORM_NAMES[head]
        and model["role"] == "model"
        and model["unparseable"] is not None
    ]
    mean = sum(shares) / len(shares) if shares else 0.0
    if not mean:
        return ""
    return f"{mean:.1%} of the {head} form's answers were no label; they count as wrong."


def _forms(forms: dict[str, Any] | None, comparison: Comparison) -> str:
    if forms is None:
        return ""
    shown = f"{spoken(forms)} accuracy, generative less classifier, over {_seeds(forms['seeds'])}"
    side = _side(forms)
    the = "The" if forms["seeds"] >= ENOUGH_SEEDS else "For these weights the"
    if not side:
        return f"{the} two forms cannot be told apart: {shown}; the interval holds 0."
    better, worse = ("generative form", "classifier")[::side]
    drowned = _drowned(FORM_NAMES["generative"], FORM_NAMES["classifier"], comparison)
    if drowned:
        return f"{the} {better} looks better than the {worse}: {shown}; {drowned}."
    return f"{the} {better} beats the {worse}: {shown}."


def _drowned(a: str, b: str, comparison: Comparison) -> str:
    """That a difference is no longer shown where many are looked at; nothing where it stands."""
    for pair in comparison.pairs:
        if {pair["a"], pair["b"]} == {a, b} and pair["holm_p"] >= SHOWN:
            return not_shown(len(comparison.pairs))
    return ""


def not_shown(comparisons: int) -> str:
    """What takes back a difference that is seen by itself, and not by Holm's method."""
    return f"among {comparisons} comparisons that is not shown"


def _contamination(comparison: Comparison) -> str:
    rows = comparison.contamination
    if not rows:
        return ""
    verb = "row stands" if rows == 1 else "rows stand"
    known = {figures["suite"]: figures["known"] for figures in comparison.clean}
    counts = ", ".join(f"{items} of {suite}" for suite, items in known.items())
    beside = f" (figures without them stand beside: {counts})" if counts else ""
    return (
        f"{rows} training {verb} in an evaluation set: the figures on it are too good to be "
        f"trusted{beside}."
    )
