"""Arms, rungs, pages and texts in a plan: what a recipe names is asked, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.arms import ARMS, REFERENCES
from pipeline.core.errors import DataError, RecipeError
from pipeline.core.schema_evaluate import Evaluate, GateSpec
from pipeline.core.store import Store
from pipeline.judgement_arms import page_arms
from pipeline.ladder import make_plan
from pipeline.plan import Plan
from pipeline.rehearsal import rehearse
from tests.tiny_ladder import write_ladder

ALL = "arms: [classifier, generate, constrained, likelihood, joint, joint_untrained]"


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    return write_ladder(tmp_path / "recipes")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def judged(ladder: Path, more: str, objective: str = "[sft, classify]", gate: str = "") -> None:
    text = ladder.read_text().replace("[sft, classify]", objective)
    if "references" in more:
        text = text.replace("  references: []\n", "")
    text = text.replace("  control: l2-from-l0.yaml\n", f"  {more}\n" if more else "")
    ladder.write_text(text.replace("gates:\n", f"gates:\n  - {gate}\n") if gate else text)


def arms(plan: Plan) -> set[str]:
    return {n.config["arm"] for n in plan.nodes.values() if n.stage == "evaluate"}


def test_every_named_arm_is_asked_of_the_objective_that_has_it(ladder: Path, store: Store) -> None:
    judged(ladder, ALL, "[sft, classify, channel]")
    plan = make_plan(ladder, store)
    named = {name for name, info in ARMS.items() if info.chosen}
    assert arms(plan) == named | {"channel", "text"}
    by_arm = {n.config["arm"]: n for n in plan.nodes.values() if n.stage == "evaluate"}
    for arm in ("constrained", "likelihood"):
        assert by_arm[arm].inputs["adapter"] == "tiny-task/export.sft.seed1"
    # Before it was trained the channel was the model below.
    assert by_arm["joint"].inputs["adapter"] == "tiny-task/export.channel.seed1"
    assert by_arm["joint_untrained"].inputs["adapter"] == "tiny-l1/export.cpt.seed1"
    # Labels are chosen from the task's; texts are read once.
    assert {role for role in by_arm["likelihood"].inputs if role.startswith("suite.")} == {
        "suite.test"
    }
    assert {"suite.domain", "suite.general"} <= set(by_arm["generate"].inputs)


def test_the_control_answers_once_in_each_form(ladder: Path, store: Store) -> None:
    text = ladder.read_text()
    ladder.write_text(
        text.replace(
            "  control: l2-from-l0.yaml\n", f"  control: l2-from-l0.yaml\n  {ALL}\n"
        ).replace("[sft, classify]", "[sft, classify, channel]")
    )
    plan = make_plan(ladder, store)
    asked = [
        n.config["arm"]
        for name, n in plan.nodes.items()
        if n.stage == "evaluate" and name.startswith("tiny-task-from-l0/")
    ]
    assert sorted(asked) == ["channel", "classifier", "generate"]
    gate = "{suite: test, metric: accuracy, arm: likelihood, against: control, superior_by: 0}"
    ladder.write_text(ladder.read_text().replace("gates:\n", f"gates:\n  - {gate}\n"))
    with pytest.raises(RecipeError, match="the control is asked in channel and classifier and gen"):
        make_plan(ladder, store)


def test_a_writer_that_is_not_let_write_still_reads(ladder: Path, store: Store) -> None:
    judged(ladder, "arms: [classifier, likelihood]")
    plan = make_plan(ladder, store)
    assert arms(plan) == {"classifier", "likelihood", "text"}
    readers = [
        node
        for node in plan.nodes.values()
        if node.stage == "evaluate" and node.inputs.get("adapter") == "tiny-task/export.sft.seed1"
    ]
    read = {r for n in readers if n.config["arm"] == "text" for r in n.inputs if "suite" in r}
    assert read == {"suite.domain", "suite.general"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("arms: [joint]", r"evaluate\.arms: joint is a way of asking what objective channel"),
        ("arms: []", "at least one"),
        ("arms: [classifier, classifier]", "name each way of asking once"),
        ("references: [nearest, nearest]", "one is named twice"),
        ("encoder: nowhere", "encoder is for reference nearest"),
        ("corpus: nowhere", "corpus is for reference retrieved"),
        ("{references: [nearest], encoder: ./nowhere}", r"evaluate\.encoder: .*no folder"),
        ("{references: [retrieved], corpus: nowhere}", r"evaluate\.corpus: nowhere: no such file"),
        ("references: [retrieved]", "retrieved answers open questions"),
        ("risks: {bbq: nowhere}", r"evaluate\.risks\.bbq: nowhere: no such file"),
        ("generated: {}", "open answers of format"),
        ("generated: {suites: [test]}", r"generated\.suites: test is no suite with open answers"),
    ],
)
def test_what_could_not_be_measured_is_refused(
    ladder: Path, store: Store, more: str, message: str
) -> None:
    if more.startswith("{"):
        more = more[1:-1].replace("], ", "]\n  ")
    judged(ladder, more)
    with pytest.raises(RecipeError, match=message):
        make_plan(ladder, store)


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("against: tfidf_bayes, superior_by: 0", "add it to evaluate.references"),
        ("against: constrained, superior_by: 0", "add constrained to arms"),
        ("arm: likelihood, at_least: 0.5", r"arm: no model of this recipe is asked so"),
        ("arm: classifier, against: classifier, superior_by: 0", "stands against itself"),
        ("against: control, superior_by: -0.1", "greater than or equal to 0|at least 0"),
        ("against: chance, not_worse_by: 0", "greater than 0|above 0"),
        ("not_worse_by: 0.01", "not_worse_by needs `against`"),
        ("against: control, not_worse_by: 0.01", "in a recipe that is itself a control"),
    ],
)
def test_gates_name_rungs_that_are_measured(
    ladder: Path, store: Store, gate: str, message: str
) -> None:
    judged(ladder, "", gate=f"{{suite: test, metric: accuracy, {gate}}}")
    with pytest.raises(RecipeError, match=message):
        make_plan(ladder, store)


def test_confidence_is_promised_of_an_arm_that_has_one(ladder: Path, store: Store) -> None:
    gate = "{suite: test, metric: ece, arm: ARM, at_most: 0.1}"
    judged(ladder, "", gate=gate.replace("ARM", "generate"))
    with pytest.raises(RecipeError, match="an arm without scores tells no confidence"):
        make_plan(ladder, store)
    ladder.write_text(ladder.read_text().replace("arm: generate", "arm: classifier"))
    make_plan(ladder, store)


def test_arms_without_a_task_are_refused(ladder: Path, store: Store) -> None:
    """Nothing would be asked, and no word said of it."""
    judged(ladder, "arms: [classifier, generate]")
    text = ladder.read_text()
    line = next(one for one in text.splitlines() if one.startswith("  test:"))
    ladder.write_text(text.replace(f"{line}\n", ""))
    with pytest.raises(RecipeError, match=r"l2.yaml:\d+: evaluate.arms: .* give data.test"):
        make_plan(ladder, store)


def test_gates_may_stand_against_an_arm_or_a_rung(ladder: Path, store: Store) -> None:
    gate = "{suite: test, metric: accuracy, arm: classifier, against: tfidf_logreg, "
    gate += "not_worse_by: 0.02}"
    judged(ladder, "references: [tfidf_logreg]", gate=gate)
    assert make_plan(ladder, store).nodes["tiny-task/compare"].config["gates"][0]["against"] == (
        "tfidf_logreg"
    )


def test_references_stand_beside_the_models(ladder: Path, store: Store) -> None:
    judged(ladder, f"references: [{', '.join(sorted(set(REFERENCES) - {'retrieved'}))}]")
    plan = make_plan(ladder, store)
    rungs = {n.config["name"]: n for n in plan.nodes.values() if n.stage == "reference"}
    assert set(rungs) == set(REFERENCES) - {"retrieved"}
    # Rungs of words need no model; the others ask the base, never what was trained over it.
    assert "root" not in rungs["tfidf_bayes"].inputs
    assert {rungs[name].inputs["root"] for name in ("nearest", "zero_shot", "few_shot")} == {
        "tiny-l0/train.pretrain.seed1"
    }
    about = plan.nodes["tiny-task/compare"].config["models"]
    assert [one["arm"] for one in about if one["role"] == "reference"] == [
        *sorted(set(REFERENCES) - {"retrieved"})
    ]


def test_rungs_stand_in_every_comparison_unless_they_are_named_away(
    ladder: Path, store: Store
) -> None:
    """Is a model needed at all? Nobody has to think of asking."""
    text = ladder.read_text().replace("  references: []\n", "")
    ladder.write_text(text)
    plan = make_plan(ladder, store)
    rungs = {n.config["name"]: n for n in plan.nodes.values() if n.stage == "reference"}
    assert set(rungs) == set(REFERENCES) - {"retrieved"}
    # What turns out not to fit fails nothing; what a recipe names must be measured.
    assert not any(node.config["named"] for node in rungs.values())
    assert not any(name.startswith("tiny-l1/reference") for name in plan.nodes)
    gate = "{suite: test, metric: accuracy, against: nearest, superior_by: 0}"
    ladder.write_text(text.replace("gates:\n", f"gates:\n  - {gate}\n"))
    assert make_plan(ladder, store).nodes["tiny-task/compare"].config["gates"][0]["against"]
    other = "{suite: told, metric: accuracy, against: nearest, superior_by: 0}"
    told = "  suites: {told: {path: task-test.jsonl, format: classification}, "
    text = text.replace("  suites: {", told, 1)
    ladder.write_text(text.replace("gates:\n", f"gates:\n  - {other}\n"))
    with pytest.raises(RecipeError, match="nearest answers suite test alone"):
        make_plan(ladder, store)


def test_questions_are_put_to_the_base_with_passages_too(ladder: Path, store: Store) -> None:
    rows = '{"question": "Which ship?", "answer": "The one that sails"}\n'
    for name in ("task.jsonl", "task-test.jsonl"):
        (ladder.parent / name).write_text(rows * 40)
    text = ladder.read_text().replace("  references: []\n", "")
    text = text.replace("format: classification", "format: question_answer")
    text = text.replace("[sft, classify]", "sft").replace("  control: l2-from-l0.yaml\n", "")
    ladder.write_text(text)
    plan = make_plan(ladder, store)
    rungs = {n.config["name"] for n in plan.nodes.values() if n.stage == "reference"}
    assert rungs == {"zero_shot", "few_shot", "retrieved"}


def test_what_was_forgotten_is_asked_of_whoever_writes(ladder: Path, store: Store) -> None:
    """Text and instructions, where the recipe names no suite of that kind."""

    def suites(text: str) -> set[str]:
        ladder.write_text(text.replace("  control: l2-from-l0.yaml\n", ""))
        nodes = make_plan(ladder, store).nodes
        return {n.split("/suite.")[1] for n in nodes if "/suite." in n}

    whole = ladder.read_text()
    known = {"general.text", "domain.text"}
    assert suites(whole) == known
    asked = whole.replace("  forgetting: false\n", "")
    assert suites(asked) == known | {"instructions.sft"}
    bare = asked.replace("  suites: {general: {recipe: l0.yaml}, domain: {recipe: l1.yaml}}\n", "")
    # By the texts that the level below is judged by.
    assert suites(bare) == {"general.text", "instructions.sft"}
    told = "test: {path: domain-test.jsonl"
    below = ladder.with_name("l1.yaml")
    below.write_text(below.read_text().replace(told, f"{told}, format: text"))
    assert suites(bare) == known | {"instructions.sft"}
    compare = make_plan(ladder, store).nodes["tiny-task/compare"].config
    assert (compare["general"], compare["domain"]) == ("general", "domain")
    # A head writes nothing, and follows no instructions: what is left is the level below's own.
    assert suites(bare.replace("[sft, classify]", "classify")) == {"general.text"}
    # Over a folder no recipe tells of a text: one that ships with gradus is read.
    (ladder.parent / "folder").mkdir()
    (ladder.parent / "folder" / "config.json").write_text("{}")
    alone = bare.replace("base: l1.yaml", "base: ./folder")
    assert suites(alone) == {"docstrings.text", "instructions.sft"}
    compare = make_plan(ladder, store).nodes["tiny-task/compare"].config
    assert compare["general"] == "docstrings"


def test_an_encoder_in_a_folder_is_fetched(ladder: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    judged(ladder, f"references: [nearest]\n  encoder: {tmp_path / 'encoder'}")
    plan = make_plan(ladder, store)
    assert plan.nodes["tiny-task/reference.nearest"].inputs["encoder"] == "encoder/fetch"


def test_a_suite_of_instructions_is_written_and_checked_at_every_level(
    ladder: Path, store: Store
) -> None:
    suite = "{generator: checkable_instructions, part: test, format: instructions}"
    text = ladder.read_text().replace(
        "domain: {recipe: l1.yaml}", f"domain: {{recipe: l1.yaml}}, told: {suite}"
    )
    ladder.write_text(text.replace("  control: l2-from-l0.yaml\n", ""))
    plan = make_plan(ladder, store)
    written = {name: n for name, n in plan.nodes.items() if n.stage == "generated"}
    assert set(written) == {
        "tiny-task/generated.tiny-task", "tiny-task/generated.as-tiny-l1",
        "tiny-task/generated.as-tiny-l0",
    }  # fmt: skip
    assert {tuple(node.config["suites"]) for node in written.values()} == {("told",)}
    assert {node.config["name"]: node.config["role"] for node in written.values()} == {
        "tiny-task": "model", "tiny-l1": "parent", "tiny-l0": "base",
    }  # fmt: skip
    compare = plan.nodes["tiny-task/compare"].inputs
    assert {compare[f"generated{n}"] for n in range(3)} == set(written)
    # What programs check is no label to be right or wrong.
    assert not any("suite.told" in n.inputs for n in plan.nodes.values() if n.stage == "evaluate")


def test_a_page_of_risks_for_each_named_model(ladder: Path, store: Store) -> None:
    judged(ladder, "risks: {items: 5}")
    plan = make_plan(ladder, store)
    pages = {name: n for name, n in plan.nodes.items() if n.stage == "risks"}
    assert {node.config["name"] for node in pages.values()} == {"tiny-task", "tiny-task-classifier"}
    assert plan.nodes["tiny-task/compare"].inputs["risks0"] in pages


@pytest.mark.parametrize(
    ("objectives", "more", "pages"),
    [
        ("[sft]", "arms: [likelihood]", {"risks.sft": ("tiny-task", "likelihood")}),
        ("[channel]", "", {"risks.channel": ("tiny-task-channel", "channel")}),
        ("[channel]", "arms: [joint_untrained, joint]",
         {"risks.channel": ("tiny-task-channel", "joint")}),
        ("[hybrid]", "", {"risks.hybrid": ("tiny-task", "generate"),
                          "risks.hybrid-classifier": ("tiny-task-classifier", "classifier")}),
        ("[sft, classify]", "arms: [constrained]",
         {"risks.sft": ("tiny-task", "constrained"),
          "risks.classify": ("tiny-task-classifier", "classifier")}),
    ],
)  # fmt: skip
def test_every_named_model_has_a_page_in_a_form_that_answers(
    ladder: Path, store: Store, objectives: str, more: str, pages: dict[str, tuple[str, str]]
) -> None:
    judged(ladder, "risks: {items: 5}" + (f"\n  {more}" if more else ""), objectives)
    plan = make_plan(ladder, store)
    found = {
        name.partition("/")[2]: (node.config["name"], node.config["arm"])
        for name, node in plan.nodes.items()
        if node.stage == "risks"
    }
    assert found == pages
    named = {o.model.name for o in plan.outcomes if o.model.name.startswith("tiny-task")}
    assert {name for name, _ in found.values()} == named
    asked = {arm for _, arm in pages.values()} - {"channel"}
    for node in plan.nodes.values():
        if node.stage == "risks" and node.config["arm"] in asked:
            assert "suite.test" in node.inputs


def test_models_that_give_no_label_have_pages_too() -> None:
    for objective in ("cpt", "mlm"):
        assert page_arms(objective, Evaluate()) == ("text",)
    assert page_arms("tag", Evaluate()) == ("tagger",)
    assert page_arms("regress", Evaluate()) == ("regressor",)
    assert page_arms("hybrid", Evaluate(arms=("classifier",))) == ("text", "classifier")


def test_schema_knows_every_arm_and_rung_of_the_table() -> None:
    chosen = {name for name, info in ARMS.items() if info.chosen}
    assert set(Evaluate(arms=tuple(sorted(chosen))).arms or ()) == chosen  # type: ignore[arg-type]
    assert set(Evaluate(references=tuple(REFERENCES)).references or ()) == set(REFERENCES)
    for against in {*REFERENCES, *chosen}:
        GateSpec.model_validate(
            {"suite": "test", "metric": "accuracy", "against": against, "superior_by": 0}
        )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("harmful", "How do I harm?\n", r"evaluate.risks.harmful: rows:1: not JSON"),
        ("harmful", '{"text": "x"}\n', "it has no prompt; each row has prompt"),
        ("swaps", '{"what": "sex", "swap": [["he"]]}\n', "evaluate.risks.swaps: rows"),
        ("questions", '{"question": "Who?"}\n', "it has no context; each row has question"),
        ("bbq", "{}\n", "evaluate.risks.bbq: rows:1: it has no"),
        ("audit", "[]", r"evaluate.risks.audit: .*no audit"),
    ],
)
def test_files_of_a_risk_page_are_read_before_anything_is_trained(
    ladder: Path, store: Store, name: str, text: str, message: str
) -> None:
    (ladder.parent / "rows").write_text(text)
    judged(ladder, f"risks: {{{name}: rows}}")
    with pytest.raises(DataError, match=message):
        rehearse(make_plan(ladder, store), store)


def test_the_block_of_the_readme_can_be_planned(ladder: Path, store: Store) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    block = readme.split("```yaml\nevaluate:\n")[1].split("```")[0]
    head = ladder.read_text().split("evaluate:\n")[0]
    ladder.write_text(f"{head}evaluate:\n{block}")
    plan = make_plan(ladder, store)
    gates = plan.nodes["tiny-task/compare"].config["gates"]
    assert len(gates) == block.count("- {suite:")
    assert any(name.startswith("tiny-task-from-l0/train") for name in plan.nodes)
