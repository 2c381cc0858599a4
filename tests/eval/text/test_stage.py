"""Stage `generated`: always three sides, of texts that a real tiny model wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint_case import Served, serving

from eval.record import read_predictions
from eval.text import stage as stage_module
from eval.text.diversity import diversity
from eval.text.instructions import instruction_figures
from eval.text.quality import quality
from eval.text.stage import Generated
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, UserError
from pipeline.core.stage import STAGES
from pipeline.data.arrow import read_rows
from tests.eval.text.stage_case import (
    CONFIG,
    INSTRUCTIONS,
    QUESTIONS,
    context,
    make_base,
    make_suite,
    records,
)

Inputs = dict[str, Artifact]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("generated")
    base = make_base(folder / "base")
    return {
        "root": base,
        "suite.test": make_suite(folder / "open", base, "question_answer", QUESTIONS),
        "suite.rules": make_suite(folder / "rules", base, "instructions", INSTRUCTIONS),
    }


def run(inputs: Inputs, folder: Path, batch_size: int = 8, **config: Any) -> list[dict[str, Any]]:
    Generated().run(inputs, {**CONFIG, **config}, context(folder, batch_size=batch_size))
    return records(folder)


def texts(folder: Path, suite: str = "test") -> list[str]:
    return [p.raw_text or "" for p in read_predictions(folder / "out" / f"answers-{suite}.jsonl")]


def test_the_three_sides_are_those_of_the_texts_that_were_written(
    inputs: Inputs, tmp_path: Path
) -> None:
    (told,) = run(inputs, tmp_path)
    written = texts(tmp_path)
    rows = read_rows(inputs["suite.test"].path / "test.arrow")
    golds = [row["label"] for row in rows]
    assert (told["items"], told["temperature"], told["kind"]) == (len(rows), 0.7, "text")
    assert told["quality"] == quality(written, golds)
    assert told["diversity"] == diversity(written, golds)
    assert told["speed"]["measured"] is False
    assert told["speed"]["why"] == "no endpoint was named: give evaluate.generated.endpoint"
    assert told["speed"]["offline"]["tokens_per_s"] > 0
    assert "no engine" in told["speed"]["offline"]["what"]
    assert told["two_sample"]["accuracy"]["estimate"] > 0.8
    assert told["judge"] is None
    assert 0 < told["cut"] <= 1


def test_texts_are_the_same_in_any_batch_and_others_with_another_seed(
    inputs: Inputs, tmp_path: Path
) -> None:
    found = []
    for name, batch_size, seed in (("a", 3, 0), ("b", 16, 0), ("c", 16, 1)):
        run(inputs, tmp_path / name, batch_size, seed=seed)
        found.append(texts(tmp_path / name))
    assert found[0] == found[1] != found[2]


def test_items_are_drawn_and_their_number_is_told(inputs: Inputs, tmp_path: Path) -> None:
    (told,) = run(inputs, tmp_path, samples=5, temperature=0.0)
    assert told["items"] == len(texts(tmp_path)) == 5
    assert told["two_sample"] == {"why": "5 items; 20 are needed"}


def test_instructions_are_answered_greedily_and_checked(inputs: Inputs, tmp_path: Path) -> None:
    (told,) = run(inputs, tmp_path, suites=["rules"])
    rows = read_rows(inputs["suite.rules"].path / "test.arrow")
    answers = read_predictions(tmp_path / "out" / "answers-rules.jsonl")
    assert (told["kind"], told["temperature"]) == ("instructions", 0)
    assert told["quality"] == instruction_figures(rows, answers)
    assert told["quality"]["instructions"] == 2 * len(INSTRUCTIONS)
    assert told["diversity"]["texts"] == len(INSTRUCTIONS)
    assert told["judge"] is told["two_sample"] is None


def test_texts_that_were_written_before_a_kill_are_not_written_again(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_arguments: Any, **_more: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "quality", killed)
        with pytest.raises(KeyboardInterrupt):
            run(inputs, tmp_path)
    written = texts(tmp_path)
    monkeypatch.setattr("eval.arms.generate.GenerativePredictor.predict", killed)
    run(inputs, tmp_path)
    assert texts(tmp_path) == written
    with pytest.raises(KeyboardInterrupt):
        run(inputs, tmp_path, temperature=0.5)  # Other texts are wanted.


def test_a_judge_and_an_endpoint_stand_in_the_record(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    monkeypatch.setattr(
        stage_module, "speed", lambda url, questions, **more: {"url": url, "of": len(questions)}
    )
    with serving(Served()) as served:
        served.key = "secret"
        served.answer = lambda text: "[[A]]"
        judge = {"url": served.url, "model": "demo", "key_env": "JUDGE_KEY"}
        (told,) = run(inputs, tmp_path, samples=4, judge=judge, endpoint=served.url)
    assert told["judge"]["first_place"] == 1
    assert told["judge"]["against"] == "the references"
    assert told["judge"]["contradicted"] == 4
    assert told["speed"]["measured"] is True
    assert told["speed"]["of"] == 4
    assert "secret" not in (tmp_path / "out" / "generated.json").read_text()


def test_an_endpoint_that_serves_another_model_measures_nothing(
    inputs: Inputs, tmp_path: Path
) -> None:
    with serving(Served()) as served:
        served.models = ["other"]
        (told,) = run(inputs, tmp_path, samples=4, endpoint=served.url)
    assert told["speed"]["measured"] is False
    assert "has no model 'demo'; it has: other" in told["speed"]["why"]


def test_a_missing_key_is_told_before_anything_is_written(inputs: Inputs, tmp_path: Path) -> None:
    judge = {"url": "http://127.0.0.1:9/v1", "model": "demo", "key_env": "NO_SUCH_KEY"}
    with pytest.raises(UserError, match="the environment has no NO_SUCH_KEY"):
        run(inputs, tmp_path, samples=4, judge=judge)
    with pytest.raises(UserError, match="the environment has no NO_SUCH_KEY"):
        run(inputs, tmp_path, samples=4, endpoint=judge["url"], endpoint_key_env="NO_SUCH_KEY")
    assert not list((tmp_path / "work").iterdir())


def test_suites_of_classes_are_refused(inputs: Inputs, tmp_path: Path) -> None:
    rows = [{"text": f"boat {i}", "label": "ab"[i % 2]} for i in range(4)]
    classes = make_suite(tmp_path / "data", inputs["root"], "classification", rows)
    with pytest.raises(DataError, match="suite test holds classes; name suites with open answers"):
        run({**inputs, "suite.test": classes}, tmp_path)


def test_the_stage_stands_in_the_table() -> None:
    assert isinstance(STAGES["generated"].load(), Generated)


def test_the_record_is_plain_json(inputs: Inputs, tmp_path: Path) -> None:
    run(inputs, tmp_path, samples=3, suites=["test", "rules"])
    told = (tmp_path / "out" / "generated.json").read_text()
    assert "NaN" not in told
    assert [one["suite"] for one in json.loads(told)] == ["test", "rules"]
