"""`gradus eval URL` from the command line, against a stand-in on a real socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from endpoint_case import Served, dropped, logprob, plain, serving, status, write_rows

from eval.answered import Table, arm_figures, read_answered
from eval.journal import held
from eval.record import Prediction, read_predictions
from pipeline.core.store import Store
from pipeline.eval_view import print_answered
from tests.silent_server import closed_port

ROOT = Path(__file__).resolve().parents[1]
LABELS = ("card", "card_arrival", "pin")
Gradus = Callable[..., Result]
Refusal = Callable[..., str]


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as one:
        yield one


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", LABELS, 12)


def test_answers_and_figures_lie_in_a_folder_and_in_a_table(
    gradus: Gradus, served: Served, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "answers"
    served.answer = lambda text: "pin" if text.startswith("row 0 ") else text.split()[-1]
    result = gradus("eval", served.url, "--data", rows, "--out", out)
    assert result.exit_code == 0, result.output
    tree = json.loads((out / "metrics.json").read_text())
    arms = tree["suites"]["rows"]["arms"]
    assert list(arms) == ["generate", "constrained", "likelihood", "likelihood_mean"]
    accuracy = arms["generate"]["figures"]["accuracy"]
    assert accuracy["estimate"] == pytest.approx(11 / 12)
    assert accuracy["low"] < 11 / 12 < accuracy["high"]
    assert arms["generate"]["calibration"] is None
    assert arms["likelihood"]["calibration"]["bins"] == 15
    assert arms["generate"]["items_per_s"] > 0
    answers = read_predictions(out / "predictions-rows@generate.jsonl")
    assert [(a.example_id, a.label) for a in answers[:2]] == [("0", "pin"), ("1", "card_arrival")]
    for words in ("0.917 [", "unparseable", "ECE", "waiting p50 s", "items/s", str(out)):
        assert words in result.stdout
    assert "batch" not in result.stdout
    assert arms["generate"]["latency_is"] == "waiting"


def test_seconds_of_a_batch_over_its_items_are_not_called_waiting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [Prediction(str(n), "a", "a", None, None, 0.002, 5, 0) for n in range(4)]
    told = arm_figures(Table("rows", "classifier", "label", rows, device="cpu"))
    assert told["latency_is"] == "share of a batch"
    tree = {"suites": {"rows": {"kind": "label", "arms": {"classifier": told}}}, "notes": []}
    print_answered(tree, "folder")
    printed = capsys.readouterr().out
    assert "batch share p50 s" in printed
    assert "waiting p50 s" not in printed


def test_rows_of_one_document_count_as_one(gradus: Gradus, served: Served, tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "out"
    rows = [{"text": f"row {n} says {label}", "label": label, "doc_id": f"d{n // 4}"}
            for n, label in enumerate(["card", "pin"] * 6)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    served.answer = lambda text: text.split()[-1] if int(text.split()[1]) < 8 else "none"
    result = gradus("eval", served.url, "--data", path, "--arms", "generate", "--out", out)
    assert result.exit_code == 0, result.output
    (table,) = read_answered(out).tables
    assert sorted(set(table.groups.values())) == ["d0", "d1", "d2"]
    tree = json.loads((out / "metrics.json").read_text())
    covers = tree["suites"]["rows"]["arms"]["generate"]["figures"]["accuracy"]["covers"]
    assert covers == "clusters of items, for these weights"


def test_json_is_one_object_with_the_folder(gradus: Gradus, served: Served, rows: Path) -> None:
    result = gradus("eval", served.url, "--data", rows, "--arms", "generate", "--json")
    tree = json.loads(result.stdout)
    assert tree["name"] == "demo"
    assert Path(tree["folder"], "metrics.json").is_file()
    assert read_answered(Path(tree["folder"])).target == served.url


def test_limit_takes_drawn_items_of_every_label(
    gradus: Gradus, served: Served, tmp_path: Path
) -> None:
    """A file may be sorted by label: its first rows would be all of one."""
    path, out = tmp_path / "sorted.jsonl", tmp_path / "o"
    rows = [{"text": f"row {n} says {label}", "label": label}
            for n, label in enumerate(["card"] * 20 + ["pin"] * 20)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["eval", served.url, "--data", path, "--arms", "generate", "--out", out]
    assert gradus(*command, "--limit", "20").exit_code == 0
    answers = read_predictions(out / "predictions-rows@generate.jsonl")
    assert len(answers) == 20 == sum(served.asked.values())
    assert {answer.gold for answer in answers} == {"card", "pin"}


def test_what_was_asked_to_its_end_is_asked_anew(
    gradus: Gradus, served: Served, rows: Path, tmp_path: Path
) -> None:
    """A server may have other weights under the same name and address."""
    command = ["eval", served.url, "--data", rows, "--arms", "generate", "--json"]
    first = json.loads(gradus(*command).stdout)
    served.answer = lambda _text: "nothing"
    again = json.loads(gradus(*command).stdout)
    assert again["folder"] == first["folder"]
    figures = [t["suites"]["rows"]["arms"]["generate"]["figures"] for t in (first, again)]
    assert [one["accuracy"]["estimate"] for one in figures] == [1.0, 0.0]
    assert set(served.asked.values()) == {2}
    assert again["notes"] == []


def half_asked(gradus: Gradus, served: Served, command: list[Any]) -> None:
    """Four of twelve rows are answered when the endpoint goes away."""
    served.script = [lambda _request, body: web.json_response(served.chat(body))] * 4
    served.script += [dropped] * 9
    result = gradus(*command, "--concurrency", "1", "--retries", "1")
    assert result.exit_code == 1
    assert "kept: run again to go on" in result.stderr
    served.script = []
    served.asked.clear()


def test_going_on_says_how_many_answers_are_from_an_earlier_run(
    gradus: Gradus, served: Served, rows: Path
) -> None:
    command = ["eval", served.url, "--data", rows, "--arms", "generate"]
    half_asked(gradus, served, command)
    result = gradus(*command)
    assert result.exit_code == 0, result.output
    today = time.strftime("%Y-%m-%d")
    assert f"rows, generate: 4 of 12 answers are from an earlier run, of {today}" in result.stdout
    # The eight that were left, and four to see that the answers still hold.
    assert set(served.asked.values()) == {1}
    assert len(served.asked) == 12


@pytest.mark.parametrize("arm", ["generate", "likelihood"])
def test_answers_of_two_models_are_never_in_one_table_without_a_word(
    gradus: Gradus, served: Served, rows: Path, monkeypatch: pytest.MonkeyPatch, arm: str
) -> None:
    command = ["eval", served.url, "--data", rows, "--arms", "generate," + arm, "--json"]
    if arm == "generate":
        half_asked(gradus, served, command)
        served.answer = lambda _text: "nothing"
        told = "'card' then, 'nothing' now"
    else:
        # 12 free answers, the probe's four requests, four an item.
        right = [lambda _request, body: web.json_response(served.chat(body))] * (12 + 4 + 2 * 4)
        served.script = [*right, *[dropped] * 9]
        assert gradus(*command, "--concurrency", "1", "--retries", "1").exit_code == 1
        served.script = []
        monkeypatch.setattr("endpoint_case.logprob", lambda a, b: logprob(a, b) * (1 + b % 2))
        told = "nats from that of then"
    result = gradus(*command)
    assert result.exit_code == 1
    assert f"suite rows, {arm}: row " in result.stderr
    assert "is answered otherwise than in the run of " in result.stderr
    assert told in result.stderr
    assert "--earlier drop" in result.stderr
    kept = json.loads(gradus(*command, "--earlier", "keep").stdout)
    assert any(f"rows, {arm}: " in note and "earlier run" in note for note in kept["notes"])


def test_earlier_answers_are_dropped_by_a_word(gradus: Gradus, served: Served, rows: Path) -> None:
    command = ["eval", served.url, "--data", rows, "--arms", "generate", "--json"]
    half_asked(gradus, served, command)
    served.answer = lambda _text: "nothing"
    tree = json.loads(gradus(*command, "--earlier", "drop").stdout)
    assert tree["suites"]["rows"]["arms"]["generate"]["figures"]["accuracy"]["estimate"] == 0.0
    assert tree["notes"] == []
    assert sum(served.asked.values()) == 12


def test_another_setting_and_back_throws_no_answer_away(
    gradus: Gradus, served: Served, rows: Path
) -> None:
    command = ["eval", served.url, "--data", rows, "--arms", "generate"]
    half_asked(gradus, served, command)
    assert gradus(*command, "--max-new-tokens", "25").exit_code == 0
    served.asked.clear()
    assert "4 of 12 answers are from an earlier run" in gradus(*command).stdout
    assert sum(served.asked.values()) == 12


def test_two_evaluations_never_write_into_one_folder(
    gradus: Gradus, served: Served, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out"):
        result = gradus("eval", served.url, "--data", rows, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "another `gradus eval` writes its answers here" in result.stderr
    assert not served.seen


def test_a_channel_model_is_asked_for_its_texts_and_an_unknown_prior_is_said(
    gradus: Gradus, served: Served, rows: Path
) -> None:
    result = gradus("eval", served.url, "--data", rows, "--arms", "joint", "--json")
    tree = json.loads(result.stdout)
    assert tree["suites"]["rows"]["arms"]["joint"]["items"] == 12
    assert tree["notes"] == [
        "rows, joint: no training rows tell how common each label is; all count alike"
    ]
    answers = read_predictions(Path(tree["folder"]) / "predictions-rows@joint.jsonl")
    assert all(answer.evidence is not None for answer in answers)


def test_killed_in_the_middle_it_goes_on_where_it_stood(served: Served, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", LABELS, 40)
    out = tmp_path / "answers"
    command = [
        sys.executable, "-m", "pipeline.cli", "eval", served.url, "--data", str(rows),
        "--arms", "generate", "--concurrency", "2", "--out", str(out),
    ]  # fmt: skip
    env = {**os.environ, "GRADUS_STORE": str(tmp_path / "store")}
    served.delay_s = 0.05
    first = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while sum(served.asked.values()) < 15 and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (path,) = out.glob("journal-rows@generate-*.jsonl")
    journal = path.read_text().splitlines()[1:]
    finished = [
        row["example_id"]
        for line in journal
        if line.endswith("}")
        for row in json.loads(line)["predictions"]
    ]
    assert 10 <= len(finished) < 40
    served.delay_s = 0.0
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    asked = {str(number): served.asked[text] for number, text in enumerate(texts)}
    # Twenty of them once more, to see that the answers still hold.
    again = min(20, len(finished))
    assert sorted(asked[name] for name in finished) == sorted(
        [1] * (len(finished) - again) + [2] * again
    )
    assert all(count >= 1 for count in asked.values())
    # Those under way when it was killed were lost: two at once, no more.
    assert sum(asked.values()) <= 40 + 2 + again
    assert f"{len(finished)} of 40 answers are from an earlier run" in done.stdout
    assert not list(out.glob("journal-*"))
    answers = read_predictions(out / "predictions-rows@generate.jsonl")
    assert [answer.label for answer in answers] == [text.split()[-1] for text in texts]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (dropped, "cannot be reached"), (status(429, "too many"), "answers 429 (too many)"),
        (status(500, "boom"), "answers 500 (boom)"), (plain("{nonsense"), "no JSON"),
        (plain("<html></html>"), "no JSON, it begins '<html>"),
        (plain('{"choices": []}'), "no choice"),
    ],
    ids=["dropped", "429", "500", "nonsense", "html", "empty choices"],
)  # fmt: skip
def test_an_endpoint_that_fails_ends_in_one_line(
    gradus: Gradus, served: Served, rows: Path, reply: Any, words: str
) -> None:
    served.script = [reply] * 40
    result = gradus("eval", served.url, "--data", rows, "--arms", "generate", "--retries", "1")
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("gradus: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "after 2 tries" in lines[0]
    assert "kept: run again to go on" in lines[0]


@pytest.mark.parametrize(("given", "tries"), [((), 3), (("--retries", "5"), 6)])
def test_the_number_of_tries_that_was_given_counts(
    gradus: Gradus, rows: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], tries: int
) -> None:
    monkeypatch.setattr("eval.endpoint.client._LONGEST_PAUSE_S", 0.001)
    result = gradus("eval", closed_port(), "--data", rows, *given)
    assert result.exit_code == 1
    assert f"after {tries} tries" in result.stderr


def test_a_slow_endpoint_ends_in_one_line(gradus: Gradus, served: Served, rows: Path) -> None:
    served.delay_s = 2.0
    result = gradus(
        "eval", served.url, "--data", rows, "--arms", "generate", "--retries", "0",
        "--timeout", "0.3",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "no answer within 0.3 s, after 1 tries" in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--arms", "classifier"], "an endpoint is asked in generate"),
        (["--model", "other"], "has no model 'other'; it has: demo"),
        (["--labels", "LABELS"], "label 'pin' is none of the 2 labels"),
        (["--suite", "test"], "leave it out beside --data"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    refusal: Refusal, served: Served, rows: Path, tmp_path: Path, more: list[str], words: str
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("card\ncard_arrival\n")
    given = [str(labels) if word == "LABELS" else word for word in more]
    assert words in refusal("eval", served.url, "--data", rows, *given)
    assert not served.seen


@pytest.mark.parametrize("target", ["localhost:8000", "127.0.0.1:8000/v1", "api.example.com/v1"])
def test_an_address_without_a_scheme_is_told_from_a_model(
    refusal: Refusal, rows: Path, target: str
) -> None:
    assert f"write http://{target}" in refusal("eval", target, "--data", rows)


def test_answers_need_a_folder(refusal: Refusal, served: Served, rows: Path) -> None:
    said = refusal("eval", served.url, "--data", rows, "--out", rows)
    assert "is a file and no folder; name another folder" in said
    assert not served.seen


@pytest.mark.parametrize("words", [["eval"], ["compare"], ["lineage"]])
def test_a_near_name_is_offered_for_an_unknown_model(
    refusal: Refusal, tmp_path: Path, words: list[str]
) -> None:
    entry = {"name": "banking-intents", "level": "L2", "recipe": "r.yaml", "keys": {}}
    Store(tmp_path / "store").write_json("models/banking-intents.json", entry)
    other = ["banking-intents"] if words == ["compare"] else []
    told = refusal(*words, "bankin-intents", *other)
    assert ", did you mean banking-intents? (known: banking-intents)" in told


def test_an_unknown_model_lists_those_of_the_store(refusal: Refusal) -> None:
    assert "no such model" in refusal("eval", "nobody")
    assert "see `gradus models`" in refusal("eval", "nobody")


def test_a_url_needs_rows_and_a_model_no_url_options(refusal: Refusal, served: Served) -> None:
    assert "--data FILE, or --recipe RECIPE" in refusal("eval", served.url)
    assert "--system: has a meaning for a URL only" in refusal("eval", "nobody", "--system", "x")


def test_an_empty_file_is_refused_before_anything_is_asked(
    refusal: Refusal, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "none.jsonl").write_text("")
    assert "holds no row" in refusal("eval", served.url, "--data", tmp_path / "none.jsonl")
    assert not served.seen


def test_the_key_goes_from_the_environment_to_no_file(
    gradus: Gradus, served: Served, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADUS_API_KEY", "s3cret-key")
    served.key = "s3cret-key"
    result = gradus("eval", served.url, "--data", rows, "--arms", "generate")
    assert result.exit_code == 0, result.output
    assert "s3cret-key" not in result.output
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert files
    assert not any(b"s3cret-key" in path.read_bytes() for path in files)


@pytest.fixture
def two(gradus: Gradus, served: Served, tmp_path: Path) -> tuple[Path, Path]:
    """Answers of two models to 30 rows: the second is wrong on seven more."""
    rows = write_rows(tmp_path / "rows.jsonl", LABELS, 30)
    folders = tmp_path / "one", tmp_path / "other"
    for folder, wrong in zip(folders, (1, 8), strict=True):
        served.answer = lambda text, wrong=wrong: (  # type: ignore[misc]
            "none" if int(text.split()[1]) < wrong else text.split()[-1]
        )
        result = gradus("eval", served.url, "--data", rows, "--arms", "generate", "--out", folder)
        assert result.exit_code == 0, result.output
    return folders


def test_compare_tells_the_paired_difference_and_who_is_right_where(
    gradus: Gradus, two: tuple[Path, Path]
) -> None:
    result = gradus("compare", *two, "--json")
    assert result.exit_code == 0, result.output
    (pair,) = json.loads(result.stdout)["pairs"]
    assert pair["difference"]["estimate"] == pytest.approx(7 / 30)
    assert pair["difference"]["low"] > 0
    assert pair["right"] == {"both": 22, "only_a": 7, "only_b": 0, "neither": 1}
    assert pair["mcnemar_p"] == pytest.approx(2 * 0.5**7)
    assert [row["example_id"] for row in pair["apart"]] == [str(n) for n in range(1, 8)]
    assert "is right more often than" in pair["words"]
    assert "for these weights" in pair["words"]
    text = gradus("compare", *two).stdout
    assert "McNemar p = 0.0156" in text
    assert "difference +0.233 [" in text


def test_compare_refuses_other_items_and_names_the_suite(
    gradus: Gradus, served: Served, two: tuple[Path, Path], tmp_path: Path
) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "fewer"
    gradus("eval", served.url, "--data", rows, "--arms", "generate", "--limit", "9", "--out", out)
    result = gradus("compare", two[0], out)
    assert result.exit_code == 1
    assert "suite rows: " in result.stderr
    assert "was asked 30 items (no --limit) and" in result.stderr
    assert "9 (--limit 9), and they are not the same" in result.stderr
    command = f"run `gradus eval {served.url}` without --limit, its other options as before"
    assert command in result.stderr
    assert command in gradus("compare", out, two[0]).stderr
    other = tmp_path / "few"
    gradus("eval", served.url, "--data", rows, "--arms", "generate", "--limit", "6", "--out", other)
    result = gradus("compare", other, out)
    assert "6 items (--limit 6)" in result.stderr
    assert f"run `gradus eval {served.url} --limit 9`, its other options as" in result.stderr
    # A folder of before does not tell its limit.
    tree = json.loads((out / "metrics.json").read_text())
    del tree["limit"]
    (out / "metrics.json").write_text(json.dumps(tree))
    assert "the same --limit" in gradus("compare", other, out).stderr


def test_compare_refuses_other_labels_and_names_one(
    gradus: Gradus, served: Served, two: tuple[Path, Path], tmp_path: Path
) -> None:
    labels, out = tmp_path / "labels.txt", tmp_path / "more"
    labels.write_text("\n".join([*LABELS, "transfer"]))
    command = ["eval", served.url, "--data", tmp_path / "rows.jsonl", "--labels", labels]
    assert gradus(*command, "--arms", "generate", "--out", out).exit_code == 0
    told = json.loads((out / "metrics.json").read_text())["suites"]["rows"]["arms"]["generate"]
    assert told["labels"] == [*LABELS, "transfer"]
    result = gradus("compare", two[0], out)
    assert result.exit_code == 1
    assert "among 3 labels and demo (generate) among 4 ('transfer' was" in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ONE@likelihood", "OTHER"], "was not asked so; it has generate"),
        (["ONE", "OTHER", "--suite", "test"], "not asked of both"),
        (["ONE@", "OTHER"], "no arm behind the @"),
        (["ONE", "nobody"], "no such model"),
        (["ONE", "EMPTY"], "is no folder of `gradus eval`"),
    ],
)
def test_compare_refuses_what_cannot_be_compared(
    refusal: Refusal, two: tuple[Path, Path], tmp_path: Path, words: list[str], told: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"ONE": two[0], "OTHER": two[1], "EMPTY": tmp_path / "empty"}
    given = []
    for word in words:
        for name, place in places.items():
            word = word.replace(name, str(place))
        given.append(word)
    assert told in refusal("compare", *given)
