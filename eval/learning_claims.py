"""A learning curve in words: what the textbooks' two claims came to, and what was held fixed.

No sentence about a pair says more than its p by Holm's method over all like it; with fewer than
three seeds it is about these weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.conclusions import ENOUGH_SEEDS
from pipeline.core.arms import arm_name

if TYPE_CHECKING:
    from eval.learning_curve import Figures

_LEVEL = 0.05
Tree = Mapping[str, Any]


def claims_of(figures: Figures, chance: float) -> list[str]:
    """All sentences: the budget, what each form needs, who wins where, what wrong labels cost."""
    found = [_budget(figures.budget)]
    found += [_reach(entry, chance) for entry in figures.reached]
    reached = {entry["arm"]: entry for entry in figures.reached}
    for pair, differences in _by_pair(figures.differences).items():
        needs = [n for n in figures.needs if (n["generative"], n["discriminative"]) == pair]
        if set(pair) <= set(reached):
            found.append(_fewer_rows([reached[arm] for arm in pair], needs))
        found.append(_crossing(pair, differences))
    found += list(_wrong_labels(figures.flips))
    return found


def _budget(budget: Tree) -> str:
    steps = budget.get("max_steps")
    rule = (
        f"every training made {steps:,} updates"
        if steps is not None
        else "epochs were divided by the share, so that every training read as many rows as that "
        "of all rows and made at least as many updates"
    )
    return (
        f"Along the learning curve the recipe's settings are the same and {rule}; a seed draws the "
        "rows, the same for all forms, and a larger share holds the smaller. Test and validation "
        "rows are the same everywhere."
    )


def _reach(entry: Tree, chance: float) -> str:
    name, full = arm_name(entry["arm"]), entry["full"]
    name = name[0].upper() + name[1:]
    if not entry["learned"]:
        return (
            f"{name}: with all rows it is not shown to be above chance ({chance:.3f}): accuracy "
            f"{_spoken(full)}; how many rows it needs cannot be said."
        )
    if entry["share"] == 1:
        return (
            f"{name}: 90 % of its accuracy with all rows ({_spoken(full)}) was reached with no "
            "smaller share."
        )
    already = "already with the smallest share," if entry["smallest"] else "with"
    return (
        f"{name}: 90 % of its accuracy with all rows ({_spoken(full)}) was reached {already} "
        f"{_share(entry)}: {_spoken(entry['accuracy'])}."
    )


def _fewer_rows(reached: Sequence[Tree], needs: Sequence[Tree]) -> str:
    """Does the discriminative form need fewer rows?"""
    generative, other = reached
    names = [arm_name(entry["arm"]) for entry in reached]
    claim = f"That the discriminative form needs fewer rows ({names[1]} against {names[0]})"
    if not (generative["learned"] and other["learned"]):
        return f"{claim} could not be tested: both must be shown to learn."
    shown = [n for n in needs if n["holm_p"] < _LEVEL]
    nearer = [n for n in shown if n["nearer"]["estimate"] > 0]
    further = [n for n in shown if n["nearer"]["estimate"] < 0]
    told = (
        f"by the estimates {names[1]} needs {_percent(other['share'])} of the rows and "
        f"{names[0]} {_percent(generative['share'])}"
    )
    weights = _these(min(generative["seeds"], other["seeds"]))
    if nearer and not further:
        verdict = f"is borne out{weights}: at {_shares(nearer)} of the rows it has more of its own"
        return f"{claim} {verdict} 90 %; {told}."
    if further and not nearer:
        verdict = (
            f"is not borne out{weights}: at {_shares(further)} of the rows {names[0]} has more of "
            "its own"
        )
        return f"{claim} {verdict} 90 %; {told}."
    if nearer and further:
        return (
            f"{claim} holds at {_shares(nearer)} of the rows and the reverse at "
            f"{_shares(further)}{weights}; {told}."
        )
    return f"{claim} is not shown{weights}: at no share can they be told apart; {told}."


def _crossing(pair: tuple[str, str], differences: Sequence[Tree]) -> str:
    """Does the generative side win with few rows, and lose with many?"""
    generative, other = map(arm_name, pair)
    claim = f"That the generative side wins with few rows (Ng and Jordan 2001), {generative} "
    claim += f"against {other},"
    told = "; ".join(
        f"{_percent(d['share'])} {_spoken(d['difference'], '+')}, p {d['holm_p']:.2g}"
        for d in differences
    )
    wins = [d for d in differences if d["holm_p"] < _LEVEL and d["difference"]["estimate"] > 0]
    loses = [d for d in differences if d["holm_p"] < _LEVEL and d["difference"]["estimate"] < 0]
    after = [d for d in loses if wins and d["share"] > wins[0]["share"]]
    # With all rows a learner that draws nothing has one seed, which is all there are.
    thinned = [d for d in differences if d["share"] < 1] or differences
    weights = _these(min(d["seeds"] for d in thinned))
    if wins and after:
        verdict = (
            f"is borne out{weights}: it wins at {_shares(wins)} of the rows and loses at "
            f"{_shares(after)}: they cross"
        )
    elif wins and wins[0]["share"] < 1 and not loses:
        verdict = (
            f"is borne out{weights} at {_shares(wins)} of the rows; that they cross is not shown"
        )
    elif loses and loses[0]["share"] < 1 and not wins:
        verdict = f"is not borne out{weights}: it loses at {_shares(loses)} of the rows"
    elif wins or loses:
        who = " and ".join(
            f"{word} at {_shares(ends)}"
            for word, ends in (("wins", wins), ("loses", loses))
            if ends
        )
        verdict = f"is not shown{weights}: it {who} of the rows"
    else:
        verdict = f"is not shown{weights}: at no share can they be told apart"
    return f"{claim} {verdict}. Differences of accuracy, p by Holm over all of them: {told}."


def _wrong_labels(flips: Sequence[Tree]) -> Iterator[str]:
    """What wrong labels cost each form; then whether one of a pair loses more."""
    for flipped in sorted({entry["flipped"] for entry in flips}):
        mine = [entry for entry in flips if entry["flipped"] == flipped]
        lost = ", ".join(
            f"{arm_name(entry['arm'])} {_spoken(entry['lost'], '+')}"
            for entry in mine
            if "against" not in entry
        )
        yield f"With {_percent(flipped)} of the training labels flipped, accuracy lost: {lost}."
        if paired := [entry for entry in mine if "against" in entry]:
            yield _more_hurt(paired)


def _more_hurt(paired: Sequence[Tree]) -> str:
    """Which of each pair loses more to the same wrong labels."""
    found, level = [], []
    for entry in paired:
        names, lost = (arm_name(entry["arm"]), arm_name(entry["against"])), entry["lost"]
        if entry["holm_p"] >= _LEVEL:
            level.append(f"{names[0]} and {names[1]}")
            continue
        more, less = names if lost["low"] > 0 else names[::-1]
        size = {"estimate": abs(lost["estimate"]), "low": min(abs(lost["low"]), abs(lost["high"])),
                "high": max(abs(lost["low"]), abs(lost["high"]))}  # fmt: skip
        found.append(f"{more} loses {_spoken(size)} more than {less}")
    if level:
        found.append(f"neither is shown to lose more of {', of '.join(level)}")
    weights = _these(min(entry["seeds"] for entry in paired))
    return f"At {_percent(paired[0]['flipped'])} flipped{weights}: {'; '.join(found)}."


def _by_pair(differences: Sequence[Tree]) -> dict[tuple[str, str], list[Tree]]:
    found: dict[tuple[str, str], list[Tree]] = {}
    for entry in differences:
        found.setdefault((entry["generative"], entry["discriminative"]), []).append(entry)
    return found


def _spoken(figures: Tree, sign: str = "") -> str:
    ends = ", ".join(f"{figures[end]:{sign}.3f}" for end in ("low", "high"))
    return f"{figures['estimate']:{sign}.3f} [{ends}]"


def _shares(entries: Sequence[Tree]) -> str:
    return ", ".join(_percent(entry["share"]) for entry in entries)


def _share(entry: Tree) -> str:
    return f"{_percent(entry['share'])} of the rows ({entry['rows']:,})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _these(seeds: int) -> str:
    return "" if seeds >= ENOUGH_SEEDS else " for these weights"
