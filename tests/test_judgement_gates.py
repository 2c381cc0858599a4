"""Gates and suites that no model of a recipe could be judged by: refused by its plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.task_figures import kinds_with
from pipeline.core.errors import RecipeError
from pipeline.core.store import Store
from pipeline.ladder import make_plan
from tests.tiny_ladder import objective


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("{suite: tst, metric: accuracy, against: chance, superior_by: 0}", "is no suite here"),
        ("{suite: test, metric: loss, at_most: 3}", "loss needs a suite of text"),
        ("{suite: general, metric: accuracy, at_least: 0.5}", "accuracy needs a suite of a task"),
        ("{suite: test, metric: accuracy, against: parent, superior_by: 0}", "control, chance"),
        ("{suite: test, metric: accuracy, at_most: 0.5}", "not_worse_by or at_least"),
        ("{suite: test, metric: entity_f1, at_least: 0.5}", "measured of objective tag, and"),
        ("{suite: test, metric: mae, at_most: 2}", "measured of objective regress, and this"),
        ("{suite: test, metric: mae, at_least: 2}", "mae takes at_most"),
        ("{suite: test, metric: macro_f1, at_most: 1}", "macro_f1 takes superior_by or not_worse"),
        ("{suite: test, metric: ece, at_least: 1}", "ece takes at_most"),
        ("{suite: test, metric: bits_per_byte, at_most: 1}", "bits_per_byte needs a suite of text"),
        ("{suite: test, metric: macro_f1, against: chance, superior_by: 0}", "of accuracy alone"),
    ],
)
def test_a_gate_that_could_never_be_judged_is_refused(
    ladder: Path, store: Store, gate: str, words: str
) -> None:
    text = ladder.read_text().replace("{suite: test, metric: contamination, at_most: 0}", gate)
    ladder.write_text(text)
    with pytest.raises(RecipeError, match=words) as caught:
        make_plan(ladder, store)
    assert "l2.yaml:" in str(caught.value)


def paired(ladder: Path, name: str, gate: str) -> None:
    """The L2 with rows in pairs, one objective and one gate."""
    pairs = '{"prompt": "the rain", "chosen": "weather", "rejected": "kitchen"}\n'
    for rows in ("task", "task-test"):
        ladder.with_name(f"{rows}.jsonl").write_text(pairs * 3)
    objective(ladder, name)
    text = ladder.read_text().replace("format: classification", "format: preference")
    ladder.write_text(text.replace("{suite: test, metric: contamination, at_most: 0}", gate))


def with_talk(ladder: Path, form: str = "messages") -> None:
    """One more suite, of what is written freely."""
    rows = {
        "messages": '{"messages": [{"role": "user", "content": "a"}, '
        '{"role": "assistant", "content": "b"}]}\n',
        "question_answer": '{"question": "a", "answer": "b"}\n',
        "preference": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
    }[form]
    ladder.with_name("talk.jsonl").write_text(rows * 3)
    talk = f"{{talk: {{path: talk.jsonl, format: {form}}}, general:"
    ladder.write_text(ladder.read_text().replace("{general:", talk, 1))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "micro_f1"])
def test_pairs_are_promised_by_what_is_measured_of_pairs(
    ladder: Path, store: Store, metric: str
) -> None:
    paired(ladder, "dpo", f"{{suite: test, metric: {metric}, at_least: 0.5}}")
    with pytest.raises(RecipeError) as caught:
        make_plan(ladder, store)
    told = f"{metric} is never measured on test, whose rows are of format preference: there it is"
    assert f"{told} preference_accuracy; name another metric" in str(caught.value)
    ladder.write_text(ladder.read_text().replace(metric, "preference_accuracy"))
    assert make_plan(ladder, store).nodes["tiny-task/compare"].config["gates"]


@pytest.mark.parametrize("name", ["sft", "hybrid"])
def test_a_preference_is_promised_of_dpo_alone(ladder: Path, store: Store, name: str) -> None:
    gate = "{suite: test, metric: preference_accuracy, at_least: 0.5}"
    objective(ladder, name)
    ladder.write_text(
        ladder.read_text().replace("{suite: test, metric: contamination, at_most: 0}", gate)
    )
    with pytest.raises(RecipeError, match="is measured of objective dpo, and this recipe trains"):
        make_plan(ladder, store)


def test_a_preference_is_promised_on_pairs_alone(ladder: Path, store: Store) -> None:
    paired(ladder, "dpo", "{suite: talk, metric: preference_accuracy, at_least: 0.5}")
    with_talk(ladder)
    with pytest.raises(RecipeError, match="preference_accuracy is never measured on talk, whose"):
        make_plan(ladder, store)
    ladder.write_text(ladder.read_text().replace("preference_accuracy", "accuracy"))
    make_plan(ladder, store)


@pytest.mark.parametrize("form", ["messages", "question_answer", "preference"])
@pytest.mark.parametrize("name", ["hybrid", "[sft, classify]"])
def test_a_head_is_asked_only_what_it_learned_to_read(
    ladder: Path, store: Store, name: str, form: str
) -> None:
    objective(ladder, name)
    with_talk(ladder, form)
    plan = make_plan(ladder, store)
    asked = {
        node.config["arm"]: {role for role in node.inputs if role.startswith("suite.")}
        for node in plan.nodes.values()
        if node.stage == "evaluate" and node.config["arm"] in {"generate", "classifier"}
    }
    assert asked["generate"] >= {"suite.test", "suite.talk"}
    assert asked["classifier"] == {"suite.test"}


def test_a_gate_on_a_suite_that_its_head_is_not_asked_is_refused(
    ladder: Path, store: Store
) -> None:
    objective(ladder, "hybrid")
    with_talk(ladder)
    gate = "{suite: talk, metric: accuracy, arm: ARM, at_least: 0}"
    ladder.write_text(
        ladder.read_text().replace("{suite: test, metric: contamination, at_most: 0}", gate)
    )
    text = ladder.read_text()
    ladder.write_text(text.replace("ARM", "classifier"))
    with pytest.raises(RecipeError, match="of format messages: nothing is measured there"):
        make_plan(ladder, store)
    ladder.write_text(text.replace("ARM", "generate"))
    make_plan(ladder, store)


def test_a_suite_that_no_model_can_be_asked_is_refused(ladder: Path, store: Store) -> None:
    objective(ladder, "classify")
    with_talk(ladder)
    with pytest.raises(RecipeError, match=r"evaluate\.suites\.talk: its rows are of format messag"):
        make_plan(ladder, store)


def test_a_loss_is_promised_of_models_that_write(ladder: Path, store: Store) -> None:
    objective(ladder, "classify")
    gate = "{suite: general, metric: loss, at_most: 9}"
    ladder.write_text(
        ladder.read_text().replace("{suite: test, metric: contamination, at_most: 0}", gate)
    )
    with pytest.raises(RecipeError, match="loss is measured of objective channel or cpt or"):
        make_plan(ladder, store)


@pytest.mark.parametrize("metric", ["macro_f1", "micro_f1"])
@pytest.mark.parametrize("name", ["sft", "classify", "hybrid"])
def test_f1_of_one_label_can_be_promised(
    ladder: Path, store: Store, name: str, metric: str
) -> None:
    """Each such gate is judged: the figure is there for the kind that the plan counts on."""
    objective(ladder, name)
    gate = f"{{suite: test, metric: {metric}, at_least: 0}}"
    ladder.write_text(
        ladder.read_text().replace("{suite: test, metric: contamination, at_most: 0}", gate)
    )
    make_plan(ladder, store)
    assert "label" in kinds_with(metric)
