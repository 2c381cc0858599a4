"""What became of a model's obedience: paired with the levels below, on the same prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
from statsmodels.stats.contingency_tables import mcnemar

from eval.forgetting import forgetting_of
from eval.results import correct_table
from eval.text.following import followers
from eval.text.stage import Generated
from tests.eval.text.stage_case import CONFIG, INSTRUCTIONS, context, make_base, make_suite


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Reports of two models, of which one may write a word more."""
    folder = tmp_path_factory.mktemp("following")
    base = make_base(folder / "base")
    inputs = {"root": base, "suite.rules": make_suite(folder / "d", base, "instructions",
                                                      INSTRUCTIONS)}  # fmt: skip
    made = []
    for role, tokens in (("model", 30), ("base", 1)):
        config = {**CONFIG, "suites": ["rules"], "role": role, "max_new_tokens": tokens}
        Generated().run(inputs, config, context(folder / role))
        made.append(folder / role / "out")
    return made


def test_forgetting_of_instructions_is_told_with_a_paired_interval(folders: list[Path]) -> None:
    results = followers(folders)
    assert [result.role for result in results] == ["model", "base"]
    (told,) = forgetting_of(results, ())
    ours, theirs = (correct_table([result], "rules")[0] for result in results)
    assert told["suite"] == "rules"
    assert (told["model"], told["was"]) == (ours.mean(), theirs.mean())
    assert told["change"]["estimate"] == pytest.approx(ours.mean() - theirs.mean())
    assert told["model"] < told["was"]
    # The interval says what McNemar's test says, which is not ours.
    table = [[((ours == a) & (theirs == b)).sum() for b in (1, 0)] for a in (1, 0)]
    assert told["forgotten"] is (True if mcnemar(table).pvalue < 0.05 else None)


def test_suites_of_open_answers_are_no_obedience(tmp_path: Path) -> None:
    (tmp_path / "generated.json").write_text('[{"kind": "text", "suite": "test"}]')
    assert followers([tmp_path]) == []
