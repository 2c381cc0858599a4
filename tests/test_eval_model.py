"""`gradus eval MODEL` and `gradus compare` on what a store holds, and once with real trainings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import Result
from endpoint_case import Served, serving
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from eval.answered import Answered, Table, arm_figures, write_answered
from eval.calibration import calibration_of, temperature_of
from eval.record import Prediction, read_predictions
from eval.scored import scored
from eval.suite import Suite
from pipeline.compare_verb import _among_all
from pipeline.core.artifact import Artifact, Manifest
from pipeline.core.errors import DataError, UserError
from pipeline.core.recipe import LoadedRecipe
from pipeline.core.store import Store
from pipeline.eval_model import _of_artifacts, _tables, _wanted, evaluate_model
from pipeline.eval_plan import (
    Wishes,
    channel_suites_of,
    evaluations_of,
    offered_of,
    suites_of,
)
from pipeline.eval_rows import rows_node
from pipeline.ladder import make_plan
from pipeline.plan import Node, Plan
from tests.tiny_ladder import write_ladder

Gradus = Callable[..., Result]
SETTINGS = {"max_new_tokens": 24, "answer_after": None, "train_items": 500}


def put(
    store: Store,
    key: str,
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    files: Mapping[str, str] | None = None,
) -> Artifact:
    """An artifact as a stage would have made it."""
    draft = store.new_draft(key)
    for name, text in (files or {"x": ""}).items():
        (draft / name).write_text(text, encoding="utf-8")
    refs = {role: {"key": ref, "digest": ref} for role, ref in inputs.items()}
    kind: Any = "Report" if stage in ("evaluate", "compare") else "Model"
    run = {"node": f"demo/{stage}"}
    return store.commit(draft, Manifest(kind, key, "", stage, 1, config, {}, refs, {}, {}, run=run))


def answers(right: int, items: int = 40) -> str:
    rows = [
        Prediction(f"i{n:02d}", "yes", "yes" if n < right else None, None, "", 0.0, 1, 1)
        for n in range(items)
    ]
    return "".join(json.dumps(asdict(row)) + "\n" for row in rows)


@pytest.fixture
def made(store: Store) -> Store:
    """Two models of one recipe with three seeds each, and what they were asked."""
    put(store, "base", "fetch", {}, {})
    prepared = {"render": "sft", "sources": {"train": []}, "carve": {"carve": 0.1}}
    put(store, "rows", "prepare", prepared, {"tokenizer": "base"})
    put(store, "text", "prepare", {"render": "text", "sources": {}}, {"tokenizer": "base"})
    models, inputs = [], {}
    shares = {"demo": (30, 31, 33), "demo-x": (20, 22, 21)}
    for name, arm in (("demo", "generate"), ("demo-x", "classifier")):
        for seed, right in enumerate(shares[name], start=1):
            adapter, report = f"{name}-{seed}", f"{name}-eval-{seed}"
            put(store, adapter, "export", {}, {"root": "base"})
            put(
                store, report, "evaluate", {**SETTINGS, "arm": arm},
                {"root": "base", "adapter": adapter, "suite.test": "rows"}
                | ({"suite.general": "text"} if arm == "generate" and seed == 1 else {}),
                {
                    "predictions-test.jsonl": answers(right),
                    "kinds.json": '{"test": "label"}', "groups.json": "{}",
                },
            )  # fmt: skip
            inputs[f"model{len(models)}"] = report
            models.append({"name": name, "level": "L2", "arm": arm, "role": "model", "seed": seed})
    put(store, "report", "compare", {"models": models}, inputs)
    for name in ("demo", "demo-x"):
        keys = {"root": "base", "adapter": f"{name}-1", "report": "report"}
        store.write_json(
            f"models/{name}.json",
            {"name": name, "level": "L2", "recipe": "demo.yaml", "keys": keys, "gates": {}},
        )
    return store


def wanted(store: Store, name: str, **wishes: Any) -> tuple[list[Node], dict[str, Node]]:
    entry = store.model(name)
    assert entry is not None
    known = _of_artifacts(store, evaluations_of(store, entry))
    nodes = dict(known.nodes)
    return list(_wanted(name, known, Wishes(**wishes), nodes, store)), nodes


def test_a_model_is_asked_as_its_report_asked_it(made: Store) -> None:
    (node,), _ = wanted(made, "demo")
    assert node.config == {**SETTINGS, "arm": "generate"}
    assert dict(node.inputs) == {
        "root": "base", "adapter": "demo-1", "suite.test": "rows", "suite.general": "text",
    }  # fmt: skip


def test_what_is_made_needs_no_more_of_its_plan(made: Store) -> None:
    """The store tells a part of a model's plan; what runs is planned over it all the same."""
    (node,), nodes = wanted(made, "demo", limit=5)
    goal = Plan(cast(LoadedRecipe, None), {**nodes, node.id: node}, (), (node.id,))
    assert [one.id for one in goal.wanted(made)] == [node.id]
    assert goal.lone() == frozenset()


def test_what_changes_the_answers_changes_the_key(made: Store) -> None:
    keys = set()
    for wishes in ({}, {"limit": 5}, {"limit": 6}, {"suite": "test"}, {"arms": ("likelihood",)}):
        (node,), _ = wanted(made, "demo", **wishes)
        keys.add(node.key)
    assert len(keys) == 5


def test_a_writer_can_be_asked_in_every_way_of_writers_and_labels_ask_no_text(
    made: Store,
) -> None:
    nodes, _ = wanted(made, "demo", arms=("constrained", "likelihood"))
    assert [node.config["arm"] for node in nodes] == ["constrained", "likelihood"]
    assert all("suite.general" not in node.inputs for node in nodes)
    with pytest.raises(UserError, match="--arms generate: demo-x is asked in classifier"):
        wanted(made, "demo-x", arms=("generate",))


def test_an_unknown_suite_is_refused_with_those_there_are(made: Store) -> None:
    with pytest.raises(UserError, match=r"--suite nowhere: demo has no such suite.*test"):
        wanted(made, "demo", suite="nowhere")


def written(made: Store, adapter: str, *suites: str) -> None:
    """The report has written answers of a model too."""
    config = {"name": "demo", "suites": list(suites), "role": "model"}
    inputs = {f"suite.{name}": "rows" for name in suites}
    put(made, "written", "generated", config, {"root": "base", "adapter": adapter, **inputs})
    report = made.need("report")
    refs = dict(report.manifest.inputs) | {"generated0": {"key": "written", "digest": "w"}}
    place = report.path / "manifest.json"
    tree = json.loads(place.read_text())
    place.write_text(json.dumps({**tree, "inputs": refs}))


def asked_of(made: Store, monkeypatch: pytest.MonkeyPatch, name: str, **wishes: Any) -> list[str]:
    """The notes of an evaluation whose answers lie in the store already."""
    monkeypatch.setattr("pipeline.eval_model.execute", lambda *_, **__: None)
    by_arm = {"generate": "demo-eval-1", "classifier": "demo-x-eval-1"}
    need = Store.need

    def there(self: Store, key: str) -> Artifact:
        return need(self, key) if self.get(key) else need(self, by_arm[arms[name]])

    arms = {"demo": "generate", "demo-x": "classifier"}
    monkeypatch.setattr(Store, "need", there)
    tree, _ = evaluate_model(name, Wishes(**wishes), made)
    notes: list[str] = tree["notes"]
    return notes


def test_suites_that_are_left_out_are_told_with_their_reason(
    made: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written(made, "demo-1", "test", "instructions")
    notes = asked_of(made, monkeypatch, "demo", out=tmp_path / "one")
    assert notes == [
        "left out: suite instructions: is no question with an answer: programs check what is "
        "written; the whole report has it: gradus eval demo.yaml"
    ]
    notes = asked_of(made, monkeypatch, "demo", arms=("likelihood",), out=tmp_path / "two")
    assert notes[0] == "left out: suite general: is not asked in likelihood"
    assert len(notes) == 2
    # Who names a suite knows that it is one; and the other model has written nothing.
    assert asked_of(made, monkeypatch, "demo", suite="test", out=tmp_path / "three") == []
    assert asked_of(made, monkeypatch, "demo-x", out=tmp_path / "four") == []


def test_a_model_that_stands_in_anothers_report_alone_is_asked_as_there(
    made: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = made.model("demo")
    assert entry is not None
    keys = {**entry["keys"], "asked_for": entry["keys"]["report"]}
    del keys["report"]
    made.write_json("models/demo.json", {**entry, "keys": keys})
    assert asked_of(made, monkeypatch, "demo", out=tmp_path / "out") == []


def test_rows_of_a_file_are_prepared_as_the_models_own_and_offer_its_labels(
    made: Store, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "x", "label": "yes"}\n{"text": "y", "label": "no"}\n')
    (node,), nodes = wanted(made, "demo", data=path)
    prepare = nodes[node.inputs["suite.rows"]]
    assert prepare.stage == "prepare"
    assert prepare.config["render"] == "sft"
    assert prepare.config["sources"]["test"]["format"] == "classification"
    assert prepare.config["carve"] is None
    assert prepare.inputs == {"tokenizer": "base"}
    assert node.inputs["labels"] == "rows"
    assert "suite.test" not in node.inputs
    path.write_text(path.read_text() + '{"text": "z", "label": "no"}\n')
    again = wanted(made, "demo", data=path)[0][0]
    assert again.key != node.key


def test_a_model_without_an_evaluation_says_how_to_get_one(made: Store) -> None:
    entry = made.model("demo")
    assert entry is not None
    made.write_json("models/bare.json", {**entry, "name": "bare", "keys": {"root": "base"}})
    bare = made.model("bare")
    assert bare is not None
    with pytest.raises(UserError, match=r"gradus eval demo\.yaml"):
        evaluations_of(made, bare)


def test_what_an_evaluation_offered_is_read_in_the_store(store: Store) -> None:
    """The labels of train where the suite holds some of them, as those who answer are offered."""
    put(store, "train", "prepare", {}, {}, {"labels.json": '["a", "b", "c"]'})
    put(store, "few", "prepare", {}, {}, {"labels.json": '["a"]'})
    put(store, "bare", "prepare", {}, {})
    for inputs, config, expected in (
        ({"suite.test": "few", "data": "train"}, {}, ["a", "b", "c"]),
        ({"suite.test": "few"}, {}, ["a"]),
        ({"suite.test": "few", "labels": "train"}, {}, ["a", "b", "c"]),
        ({"suite.test": "few"}, {"labels": ["a", "z"]}, ["a", "z"]),
        ({"suite.test": "bare"}, {}, None),
    ):
        key = "-".join(["eval", *inputs, *inputs.values(), *config])
        made = put(store, key, "evaluate", {"arm": "generate", **config}, inputs)
        assert offered_of(store, made, "test") == expected


def test_compare_pairs_the_seeds_of_two_models(made: Store, gradus: Gradus) -> None:
    result = gradus("compare", "demo", "demo-x", "--json")
    assert result.exit_code == 0, result.output
    (pair,) = json.loads(result.stdout)["pairs"]
    assert (pair["a"], pair["b"]) == ("demo (generate)", "demo-x (classifier)")
    assert pair["seeds"] == 3
    assert pair["difference"]["covers"] == "seeds and items"
    assert pair["difference"]["estimate"] == pytest.approx((94 - 63) / 120)
    # The page and the sentence are those of the first seed, which is the one that is served.
    assert pair["right"]["only_a"] == 10


def test_several_comparisons_at_once_are_allowed_for(made: Store, gradus: Gradus) -> None:
    found = json.loads(gradus("compare", "demo", "demo-x", "--json").stdout)["pairs"]
    assert found[0]["holm_p"] == found[0]["p"]
    pairs = [
        {"p": 0.03, "words": "a is right more often than b"},
        {"p": 0.04, "words": "other"},
        {"p": 0.6, "words": "x"},
    ]
    _among_all(pairs)
    assert [pair["holm_p"] for pair in pairs] == pytest.approx([0.09, 0.09, 0.6])
    among = "among 3 comparisons that is not shown"
    assert pairs[0]["words"] == f"a looks right more often than b; {among}"
    assert pairs[2]["words"] == "x"


def test_a_folder_of_answers_keeps_what_items_share(tmp_path: Path, gradus: Gradus) -> None:
    groups = {f"i{n:02d}": f"document {n // 10}" for n in range(40)}
    for name, right in (("one", 30), ("other", 20)):
        (tmp_path / "rows.jsonl").write_text(answers(right), encoding="utf-8")
        rows = read_predictions(tmp_path / "rows.jsonl")
        table = Table("test", "generate", "label", rows, groups=groups)
        tree = write_answered(tmp_path / name, Answered(name, name, [table]))
        figure = tree["suites"]["test"]["arms"]["generate"]["figures"]["accuracy"]
        assert figure["covers"] == "clusters of items, for these weights"
    result = gradus("compare", str(tmp_path / "one"), str(tmp_path / "other"), "--json")
    (pair,) = json.loads(result.stdout)["pairs"]
    assert pair["clusters"] == 4


def test_confidence_is_that_of_the_report_raw_and_at_the_models_temperature(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(300, 3)) * 3
    # Right labels are drawn at a third of the sureness that is told.
    logs = log_softmax(logits, axis=1)
    golds = (logits / 3 + rng.gumbel(size=(300, 3))).argmax(axis=1)
    rows = [
        Prediction(
            f"i{n:03d}", "abc"[golds[n]], "abc"[int(logs[n].argmax())],
            dict(zip("abc", logs[n].tolist(), strict=True)), None, 0.0, 1, 1,
        )
        for n in range(300)
    ]  # fmt: skip
    told = temperature_of(rows[200:])
    assert told is not None
    table = Table("test", "classifier", "label", rows[:200], temperature=told["value"], bins=7)
    tree = write_answered(tmp_path, Answered("m", "m", [table]))
    found = tree["suites"]["test"]["arms"]["classifier"]["calibration"]
    report, _ = calibration_of([scored(rows[:200])], [scored(rows[200:])], 7)  # type: ignore[list-item]
    assert report is not None
    assert found == {name: pytest.approx(report[name]) for name in found}
    warm = log_softmax(logits[:200] / told["value"], axis=1)
    assert found["nll_after"] == pytest.approx(log_loss(golds[:200], np.exp(warm)))
    assert found["ece_after"] < found["ece"]
    cold = arm_figures(replace(table, temperature=None))["calibration"]
    assert (cold["ece"], cold["ece_after"], cold["temperature"]) == (found["ece"], None, None)


def test_temperatures_are_those_of_the_models_report(made: Store) -> None:
    """Rows of a file come without validation rows, and a limit leaves few of them."""
    fit = {"value": 2.0, "items": 90, "words": ""}
    report = made.need("demo-x-eval-1").path / "temperatures.json"
    report.write_text(json.dumps({"classifier": fit}))
    few = {"classifier": {**fit, "value": 9.0, "items": 2}, "text": None}
    files = {
        "predictions-rows.jsonl": answers(30), "kinds.json": '{"rows": "label"}',
        "temperatures.json": json.dumps(few),
    }  # fmt: skip
    made_now = put(made, "now", "evaluate", {"arm": "classifier"}, {}, files)
    entry = made.model("demo-x")
    assert entry is not None
    known = replace(_of_artifacts(made, evaluations_of(made, entry)), bins=7)
    (table,) = _tables(made_now, known, made)
    assert (table.temperature, table.bins) == (2.0, 7)
    report.unlink()
    (table,) = _tables(made_now, known, made)
    assert table.temperature == 9.0


def test_items_that_are_not_listed_are_counted(tmp_path: Path, gradus: Gradus) -> None:
    for name, right in (("one", 33), ("other", 8)):
        (tmp_path / "rows.jsonl").write_text(answers(right), encoding="utf-8")
        table = Table("test", "generate", "label", read_predictions(tmp_path / "rows.jsonl"))
        write_answered(tmp_path / name, Answered(name, name, [table]))
    sides = [str(tmp_path / name) for name in ("one", "other")]
    (pair,) = json.loads(gradus("compare", *sides, "--json").stdout)["pairs"]
    assert len(pair["apart"]) == 20
    assert "and 5 more items that one alone got right" in gradus("compare", *sides).stdout


def test_rows_of_a_file_are_written_by_the_template_that_the_recipe_brought(
    made: Store, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "where is my card", "label": "yes"}\n', encoding="utf-8")
    wishes = Wishes(data=rows)
    dataset = made.need("rows")
    node = Node("rows", "prepare", dataset.manifest.config, {"tokenizer": "base"}, key="rows")
    nodes = {"base": Node("base", "fetch", {}, {}, key="base"), "rows": node}
    plain = rows_node(node, wishes, nodes, made)
    assert set(plain.files) == {"test"}
    kept = dataset.path / "chat_template.jinja"
    kept.write_text("{{ messages }}", encoding="utf-8")
    own = rows_node(node, wishes, nodes, made)
    assert own.files["chat_template"] == kept
    assert own.key != plain.key


@pytest.mark.parametrize(
    ("objectives", "render", "prior"),
    [("[channel]", "channel", "channel"), ("[sft, channel]", "sft", "channel"),
     ("[sft]", "sft", None)],
)  # fmt: skip
def test_a_served_channel_is_asked_the_rows_of_its_recipe(
    store: Store, tmp_path: Path, objectives: str, render: str, prior: str | None
) -> None:
    ladder = write_ladder(tmp_path / "recipes")
    text = ladder.read_text().replace("[sft, classify]", objectives)
    ladder.write_text(text.replace("  control: l2-from-l0.yaml\n", ""))
    plan = make_plan(ladder, store)
    asked = plan.nodes[suites_of(plan, None)["test"]]
    assert asked.config["render"] == render
    counted = channel_suites_of(plan).get("test")
    assert (None if counted is None else plan.nodes[counted].config["render"]) == prior


def suite_of(*labels: str) -> Suite:
    rows = [
        {"example_id": str(n), "label": label, "labels": None} for n, label in enumerate(labels)
    ]
    return Suite(rows, "sft", sorted(set(labels)), Path())


def test_a_suite_is_narrowed_to_drawn_rows_and_widened_to_all_labels() -> None:
    """A file may be sorted by label: its first rows would be all of one."""
    whole = suite_of(*["a"] * 50, *["b"] * 50)
    suite = whole.narrowed("rows", ["a", "b", "c"], 40)
    asked = [int(row["example_id"]) for row in suite.rows]
    assert len(set(asked)) == 40
    assert asked == sorted(asked)
    assert 10 < sum(n < 50 for n in asked) < 30
    assert {row["example_id"] for row in whole.narrowed("rows", None, 9).rows} <= set(
        map(str, asked)
    )
    assert suite.labels == ["a", "b", "c"]
    assert suite_of("a").narrowed("rows", None, None).labels == ["a"]


def test_a_label_that_the_model_never_learned_names_the_row() -> None:
    with pytest.raises(DataError, match=r"suite rows: row 1: label 'b' is none of the 2 labels"):
        suite_of("a", "b").narrowed("rows", ["a", "c"], None)


@pytest.mark.long
def test_recipe_model_rows_and_served_recipe_end_to_end(gradus: Gradus, tmp_path: Path) -> None:
    """`make test-long`: a tiny recipe is evaluated, then its models, a file, and an endpoint."""
    ladder = write_ladder(tmp_path / "recipes")
    text = ladder.read_text().replace("base: l1.yaml", "base: l0.yaml")
    text = text.replace(", domain: {recipe: l1.yaml}", "")
    text = text.replace("  control: l2-from-l0.yaml\n", "")
    ladder.write_text(text.replace("evaluate:\n", "evaluate:\n  max_new_tokens: 31\n"))
    whole = gradus("eval", ladder, "--json")
    assert whole.exit_code == 0, whole.output
    assert json.loads(whole.stdout)["heads"]["classifier"]["without_l1"] is not None
    again = gradus("eval", ladder, "--json")
    assert json.loads(again.stdout)["ran"] == 0
    some = gradus(
        "eval", "tiny-task", "--arms", "generate,constrained,likelihood", "--suite", "test",
        "--limit", "5", "--json",
    )  # fmt: skip
    assert some.exit_code == 0, some.output
    arms = json.loads(some.stdout)["suites"]["test"]["arms"]
    assert list(arms) == ["generate", "constrained", "likelihood", "likelihood_mean"]
    assert {row["items"] for row in arms.values()} == {5}
    assert arms["likelihood"]["calibration"]["temperature"] is not None
    assert arms["constrained"]["unparseable"] == 0
    data = ladder.parent / "task-test.jsonl"
    rows = gradus("eval", "tiny-task-classifier", "--data", data, "--json")
    assert rows.exit_code == 0, rows.output
    assert json.loads(rows.stdout)["suites"]["rows"]["arms"]["classifier"]["items"] == 24
    strange = tmp_path / "strange.jsonl"
    strange.write_text(data.read_text() + '{"text": "a ship", "label": "elsewhere"}\n')
    refused = gradus("eval", "tiny-task", "--data", strange)
    assert refused.exit_code == 2
    assert "label 'elsewhere' is none of the 3 labels of the model" in refused.stderr
    assert gradus("compare", "tiny-task", "tiny-task-classifier").exit_code == 0
    with serving(Served()) as served:
        served.answer = lambda _text: "harbour"
        asked = gradus("eval", served.url, "--recipe", ladder, "--limit", "6", "--json")
    assert asked.exit_code == 0, asked.output
    found = json.loads(asked.stdout)["suites"]["test"]["arms"]
    assert found["likelihood"]["items"] == 6
    # Exact ids went out: the questions of the prepared rows, an answer behind each.
    sent = [body["prompt"] for body in served.seen if "prompt" in body]
    assert len(sent) == 1 + 6
    assert all(len(prompts) == 3 for prompts in sent[1:])
    assert {body["max_tokens"] for body in served.seen if "messages" in body} >= {31}
