"""Figures of the page against closed forms: cost, origins, scale, explanation, losses, energy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eval.record import Prediction
from eval.risks.asked import Asked
from eval.risks.cost import answering_lines, training_lines
from eval.risks.explanation import TOLERANCE, Explainer, explanation_lines
from eval.risks.losses import row_losses
from eval.risks.origins import made_of, origin_lines, trained_on
from eval.risks.scale import scale_lines
from pipeline.core.artifact import Artifact, Manifest, write_manifest
from pipeline.core.energy import EnergyMeter
from pipeline.core.stage import StageContext
from pipeline.data.arrow import read_rows
from pipeline.modeling.heads import load_classifier
from pipeline.modeling.loading import load_model


def answer(tokens: int, right: bool, latency_s: float = 0.5) -> Prediction:
    return Prediction("x", "a", "a" if right else "b", None, None, latency_s, tokens, 0)


def put(store: Path, key: str, stage: str, inputs: Mapping[str, str], **facts: Any) -> Artifact:
    """An artifact of a store, with nothing but its manifest."""
    folder = store / key
    folder.mkdir()
    refs = {role: {"key": other, "digest": ""} for role, other in inputs.items()}
    manifest = Manifest("Model", key, "", stage, 1, {}, {}, refs, {}, {}, facts)
    write_manifest(folder, manifest)
    return Artifact(folder, manifest)


def source(name: str, rows: int, licence: str | None = None) -> dict[str, Any]:
    return {"split": "train", "name": name, "read": rows, "licence": licence}


@pytest.fixture
def family(tmp_path: Path) -> Artifact:
    """An adapter over one over a fetched base; a third Dataset was only compared with."""
    put(tmp_path, "base", "fetch", {}, origin="org/base@1")
    put(tmp_path, "seen", "prepare", {}, sources=[source("compared.jsonl", 9)])
    put(tmp_path, "data0", "prepare", {"ancestor": "seen"}, sources=[source("a.jsonl", 7, "CC0")])
    below = [source("b.jsonl", 5), {**source("t.jsonl", 4), "split": "test"}]
    put(tmp_path, "data1", "prepare", {"ancestor": "data0"}, sources=below)
    put(tmp_path, "train0", "train", {"root": "base", "data": "data0"}, train_seconds=1800.0,
        energy_j=3.6e6)  # fmt: skip
    put(tmp_path, "train1", "train", {"root": "base", "parent": "train0", "data": "data1"},
        train_seconds=3600.0)  # fmt: skip
    return put(tmp_path, "export", "export", {"own": "train1", "root": "base", "data": "data1"})


def test_sources_are_those_of_the_trainings_down_to_the_l0(family: Artifact) -> None:
    below = made_of([family])
    data = trained_on(below)
    assert [artifact.key for artifact in data] == ["data1", "data0"]
    licences, unknown, base = origin_lines(below, data)
    assert licences.shown == "CC0: a.jsonl (n = 7 rows)"
    assert unknown.shown == "5 of 12: b.jsonl"
    assert unknown.value == pytest.approx(5 / 12)
    assert base.what == "licence of the base org/base@1"
    assert not base.measured
    card = next(a for a in below if a.key == "base").path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# license: other\n")
    assert origin_lines(below, data)[2].shown == "mit"


def test_training_hours_are_summed_and_silent_energy_is_no_zero(family: Artifact) -> None:
    hours, energy = training_lines(made_of([family]))
    assert hours.value == pytest.approx(1.5)
    assert "of them 1 h for its last training" in hours.shown
    assert energy.why is not None
    assert energy.why.startswith("1 of 2 trainings ran where the machine does not tell")


def test_answers_cost_their_seconds_at_the_price_of_an_hour() -> None:
    answers = {"test": [answer(5, True, 0.36)] * 4}
    seconds, energy, cost = answering_lines(answers, 8.0, 10.0, "")
    assert seconds.value == pytest.approx(360)
    assert energy.value == pytest.approx(2000)
    assert cost.value == pytest.approx(1.0)
    _, energy, cost = answering_lines(answers, None, None, "")
    assert energy.why is not None
    assert energy.why.startswith("this machine does not tell")
    assert cost.why == "evaluate.risks.price_per_hour is not given"
    assert {line.why for line in answering_lines({}, 8.0, 10.0, "nobody asks")} == {"nobody asks"}


def test_each_item_stands_in_one_length_bin() -> None:
    answers = [answer(length, length < 60) for length in range(10, 110)]
    lines = scale_lines("test", answers, range(10, 110))
    counts = [line.n or 0 for line in lines]
    assert sum(counts) == 100
    assert all(24 <= count <= 26 for count in counts)
    assert lines[0].value == 1.0
    assert lines[-1].value == 0.0
    assert (
        scale_lines("test", [answer(7, True)] * 3, [7] * 3)[0].why
        == "all 3 items are 7 tokens long"
    )


def write_counter(folder: Path, joules: float, highest: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (folder / "max_energy_range_uj").write_text(f"{int(highest * 1e6)}\n")


def test_energy_is_the_difference_of_the_counters_across_their_end(tmp_path: Path) -> None:
    write_counter(tmp_path / "intel-rapl:0", 10, 100)
    write_counter(tmp_path / "intel-rapl:1", 95, 100)
    # A part of a package, which its package counts already.
    write_counter(tmp_path / "intel-rapl:0:0", 1, 100)
    with EnergyMeter(tmp_path) as meter:
        write_counter(tmp_path / "intel-rapl:0", 30, 100)
        write_counter(tmp_path / "intel-rapl:1", 5, 100)
        write_counter(tmp_path / "intel-rapl:0:0", 50, 100)
    packages = {name: joules for name, joules in meter.joules.items() if "rapl" in name}
    assert packages == pytest.approx({"intel-rapl:0": 20.0, "intel-rapl:1": 10.0})


def test_a_machine_without_counters_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.core.energy._gpus", list)
    with EnergyMeter(tmp_path / "absent") as meter:
        pass
    assert meter.total is None


def test_choices_are_scored_as_transformers_counts_its_loss(
    made: Mapping[str, Artifact], context: Callable[..., StageContext]
) -> None:
    root = made["tiny-l0/scratch"]
    config = {"arm": "text", "max_new_tokens": 4, "answer_after": None}
    asked = Asked({"root": root}, config, context())
    tokenizer = asked.tokenizer
    voice = asked.voice(made["tiny-task/prepare.sft"].path)
    assert voice is not None
    questions, choices = ["rain or sun?", "a or b?"], [["rain", "the sun"], ["a", "rain"]]
    for question, mine, scores in zip(questions, choices, voice.score(questions, choices),
                                      strict=True):  # fmt: skip
        for choice, score in zip(mine, scores, strict=True):
            turn = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(
                turn, add_generation_prompt=True, return_dict=False
            )
            whole = tokenizer.apply_chat_template(
                [*turn, {"role": "assistant", "content": choice}], return_dict=False
            )
            # What the template writes behind the end of the turn is no part of the answer.
            end = whole.index(tokenizer.convert_tokens_to_ids("<|im_end|>"), len(prompt)) + 1
            labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) : end]])
            loss = asked.model(torch.tensor([whole[:end]]), labels=labels).loss
            assert score == pytest.approx(-float(loss.detach()) * (end - len(prompt)), rel=1e-5)


def test_samples_follow_their_seed_and_are_as_long_as_asked(
    made: Mapping[str, Artifact], context: Callable[..., StageContext]
) -> None:
    config = {"arm": "text", "max_new_tokens": 4, "answer_after": None}
    asked = Asked({"root": made["tiny-l0/scratch"]}, config, context())
    before = torch.random.get_rng_state()
    one, two, other = (asked.sample([[5, 6], [7]], 60, seed) for seed in (1, 1, 2))
    assert one == two != other
    assert [len(ids) for ids in one] == [60, 60]
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_rows_loss_is_the_cross_entropy_of_its_label(
    made: Mapping[str, Artifact], headed: Artifact
) -> None:
    rows = read_rows(made["tiny-task/prepare.classify"].path / "test.arrow")[:5]
    model = load_model(headed.path).eval()
    found = row_losses(model, rows, "classify", head=headed.path, batch_size=3, pad_id=0)
    classifier = load_classifier(model, headed.path).eval()
    for row, loss in zip(rows, found, strict=True):
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            logits = classifier(ids, torch.ones_like(ids))
        number = classifier.config.labels.index(row["label"])
        expected = nn.functional.cross_entropy(logits, torch.tensor([number]))
        assert loss == pytest.approx(float(expected), abs=1e-5)


def test_attributions_sum_to_the_logit_less_the_baselines(
    made: Mapping[str, Artifact], headed: Artifact
) -> None:
    rows = read_rows(made["tiny-task/prepare.classify"].path / "test.arrow")[:3]
    classifier = load_classifier(load_model(headed.path), headed.path)
    explainer = Explainer(classifier, pad_id=0)
    for row in rows:
        ids = row["input_ids"]
        found = explainer.explain(ids)
        mask = torch.ones((1, len(ids)), dtype=torch.long)
        with torch.no_grad():
            logits = classifier(torch.tensor([ids]), mask)[0]
            empty = classifier(torch.zeros((1, len(ids)), dtype=torch.long), mask)[0]
        assert found.target == int(logits.argmax())
        expected = float(logits[found.target] - empty[found.target])
        assert found.difference == pytest.approx(expected, abs=1e-4)
        assert sum(found.values) == pytest.approx(expected, rel=TOLERANCE, abs=0.1 * TOLERANCE)
        assert explainer.without(ids, range(len(ids)), found.target) == pytest.approx(
            float(empty[found.target]), abs=1e-4
        )


def test_a_missed_completeness_is_no_explanation(
    made: Mapping[str, Artifact], headed: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_rows(made["tiny-task/prepare.classify"].path / "test.arrow")[:2]
    classifier = load_classifier(load_model(headed.path), headed.path)
    monkeypatch.setattr(Explainer, "_values", lambda *_a: (0.0,))
    (line,) = explanation_lines(classifier, rows, None, pad_id=0, seed=0)
    assert line.why is not None
    assert line.why.startswith("completeness missed by 100.0% (2 of 2 items are over 5%")
    config = replace(classifier.config, kind="multi")
    classifier.config = config
    (line,) = explanation_lines(classifier, rows, None, pad_id=0, seed=0)
    assert line.why is not None
    assert line.why.startswith("the head gives several labels")


def test_an_audit_is_shown_of_its_own_model_and_a_file_that_is_none_is_refused(
    made: Mapping[str, Artifact], page: Callable[..., Any], tmp_path: Path
) -> None:
    from pipeline.core.errors import DataError

    path = tmp_path / "audit.json"
    path.write_text(json.dumps({"name": "x"}))
    data = made["tiny-task/prepare.sft"]
    line = {"topic": "privacy", "what": "exposure of held-out canaries", "shown": "1.4 bits",
            "how": "drawn", "value": 1.4, "n": 4}  # fmt: skip
    for name, told in (
        ("tiny", ["1.4 bits"]),
        ("x", ["not measured: audit.json is an audit of x"]),
    ):
        path.write_text(json.dumps({"models": [{"name": name, "lines": [line]}]}))
        lines = page(made["tiny-l0/scratch"], data, "text", audit=path)
        assert [one["shown"] for one in lines if one["what"].startswith("exposure")] == told
    path.write_text(json.dumps({"name": "x"}))
    with pytest.raises(DataError, match=r"evaluate.risks.audit: .*audit.json: no audit \(KeyError"):
        page(made["tiny-l0/scratch"], data, "text", audit=path)
