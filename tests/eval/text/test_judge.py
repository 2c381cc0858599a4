"""A judge in pairs: verdicts are read strictly, and a biased judge is seen as such."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from endpoint_case import Served, dropped, serving, status
from sklearn.metrics import cohen_kappa_score

from eval.endpoint.client import Patience
from eval.text.judge import PROMPT, Duel, JudgeModel, judge, kappa, verdict
from pipeline.core.errors import EngineError, UserError

QUICK = Patience(timeout_s=5.0, retries=2, pause_s=0.01)
# Ours is better, worse, equal.
DUELS = [Duel("how?", "right", "wrong"), Duel("when?", "wrong", "right"), Duel("who?", "so", "so")]
_ANSWERS = re.compile(r"\[Answer A\]\n(.*)\n\n\[Answer B\]\n(.*)\n\nCompare")


def fair(prompt: str) -> str:
    found = _ANSWERS.search(prompt)
    assert found is not None
    a, b = found.groups()
    return "Let me see.\n" + ("[[C]]" if a == b else "[[A]]" if a == "right" else "[[B]]")


def each(answer: str) -> object:
    return lambda prompts: [answer for _ in prompts]


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    one.answer = fair
    with serving(one):
        yield one


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("A is better.\n[[A]]", "a"),
        ("[[B]]", "b"),
        ("Equal.\n\n[[C]] \n", "tie"),
        ("[[A]] is my verdict", None),
        ("The verdict: [[A]]", None),
        ("Not [[B]].\n[[A]]", None),
        ("[[a]]", None),
        ("[A]", None),
        ("", None),
        (None, None),
    ],
)
def test_a_verdict_is_one_mark_on_the_last_line(text: str | None, read: str | None) -> None:
    assert verdict(text) == read


def test_a_fair_judge_says_the_same_in_both_orders() -> None:
    found = judge(DUELS, lambda prompts: [fair(prompt) for prompt in prompts])
    assert (found["wins"], found["ties"], found["losses"]) == (1, 1, 1)
    assert found["win_rate"]["estimate"] == 0.5
    assert found["win_rate"]["low"] < 0.5 < found["win_rate"]["high"]
    assert (found["consistency"], found["kappa"], found["first_place"]) == (1, 1, 0.5)
    assert found["contradicted"] == found["unusable"] == 0
    assert found["prompt"] == PROMPT


def test_a_judge_that_always_takes_the_first_place_is_seen_as_such() -> None:
    found = judge(DUELS, lambda prompts: ["[[A]]" for _ in prompts])
    assert (found["wins"], found["ties"], found["losses"]) == (0, 3, 0)
    assert found["contradicted"] == 3
    assert (found["consistency"], found["first_place"]) == (0, 1)
    assert found["win_rate"]["estimate"] == 0.5
    # One order says win each time, the other loss: they agree as seldom as chance would.
    assert found["kappa"] == 0


def test_a_judge_that_says_no_verdict_leaves_nothing_to_count() -> None:
    found = judge(DUELS, lambda prompts: ["well" for _ in prompts])
    assert (found["items"], found["unusable"]) == (0, 3)
    assert found["win_rate"] is found["kappa"] is found["consistency"] is None


def test_ten_wins_of_ten_are_no_certainty() -> None:
    found = judge(DUELS[:1] * 10, lambda prompts: [fair(prompt) for prompt in prompts])
    assert found["win_rate"]["estimate"] == 1
    assert found["win_rate"]["low"] < 1


def test_kappa_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    for agreement in (0.2, 0.9):
        one = rng.choice(["win", "tie", "loss"], size=80, p=[0.5, 0.2, 0.3])
        other = np.where(rng.random(80) < agreement, one, rng.permutation(one))
        wanted = cohen_kappa_score(one, other)
        assert kappa(list(one), list(other)) == pytest.approx(wanted)
    assert kappa([], []) is None
    assert kappa(["win"] * 5, ["win"] * 5) is None


def asked(served: Served, path: Path, duels: Sequence[Duel] = DUELS) -> object:
    judging = JudgeModel(served.url, "demo", path / "judge.jsonl", patience=QUICK)
    return judge(duels, judging)["win_rate"]["estimate"]


def test_an_endpoint_is_asked_in_both_orders_and_tried_again(
    served: Served, tmp_path: Path
) -> None:
    served.script = [status(429), dropped, status(503)]
    assert asked(served, tmp_path) == 0.5
    assert len(served.asked) == 6 - 1  # The equal pair is one and the same prompt.
    assert served.seen[0]["temperature"] == 0


def test_what_was_answered_is_not_paid_for_again(served: Served, tmp_path: Path) -> None:
    asked(served, tmp_path)
    before = served.asked.total()
    assert asked(served, tmp_path) == 0.5
    assert served.asked.total() == before


def test_a_prompt_that_is_refused_counts_as_unusable(served: Served, tmp_path: Path) -> None:
    served.script = [status(400, "too long")]
    judging = JudgeModel(served.url, "demo", tmp_path / "j.jsonl", concurrency=1, patience=QUICK)
    assert judge(DUELS[:2], judging)["unusable"] == 1


def test_an_endpoint_that_refuses_everything_or_is_away_is_one_clear_line(
    served: Served, tmp_path: Path
) -> None:
    served.script = [status(400)] * 40
    with pytest.raises(EngineError, match="the judge 'demo' refuses every prompt; name another"):
        asked(served, tmp_path, DUELS * 5)
    served.script = [status(500)] * 40
    with pytest.raises(EngineError, match=r"judge: answers 500 .* after 3 tries"):
        asked(served, tmp_path)
    served.models = ["other"]
    with pytest.raises(UserError, match="has no model 'demo'; it has: other"):
        asked(served, tmp_path)
