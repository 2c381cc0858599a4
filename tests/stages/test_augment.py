"""The stage that makes synthetic rows, against a stub of an endpoint (no model answers here)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.schema_data import Clean
from pipeline.data.executor import InProcess
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.journal import Answer, Journal
from pipeline.data.ledger import Account, Ledger
from pipeline.data.origins import source_chunks
from tests.stages.augment_case import (
    ROWS,
    Case,
    Reply,
    chat,
    refusal,
    reworded,
    stub,
)

# ---- what comes of it


def test_a_paraphrase_of_each_row_keeps_its_label(case: Case) -> None:
    with stub() as endpoint:
        facts = case.run(endpoint.url)
    rows = case.lines()
    assert [row["id"] for row in rows] == [f"synthetic/{n}/0" for n in range(8)]
    assert [row["label"] for row in rows] == [row["label"] for row in ROWS]
    assert all(r["text"].startswith(o["text"]) for r, o in zip(rows, ROWS, strict=True))
    assert all(row["text"].endswith("please") for row in rows)
    assert [row["made_from"] for row in rows] == [[[0, n]] for n in range(8)]
    assert {row["synthetic"] for row in rows} == {"paraphrase"}
    assert facts == {
        "read": 8, "asked": 8, "accepted": 8, "rejected": {}, "not_asked": {}, "model": "stub",
        "endpoint": endpoint.url,
        "sources": [{"split": "train", "origin": "synthetic: paraphrase by stub",
                     "licence": "not stated", "rows": 8}],
    }  # fmt: skip


def test_requests_carry_the_settings_and_a_seed_of_their_own(case: Case) -> None:
    with stub() as endpoint:
        case.run(endpoint.url, per_row=2)
    assert len({body.pop("seed") for body in endpoint.bodies}) == 16
    for body in endpoint.bodies:
        (message,) = body.pop("messages")
        assert message["role"] == "user"
        assert body == {"model": "stub", "temperature": 0.5, "max_tokens": 40}


def test_samples_are_made_for_each_label(case: Case) -> None:
    with stub() as endpoint:
        facts = case.run(endpoint.url, kind="sample", licence="CC0-1.0")
    rows = case.lines()
    assert [(row["label"], row["id"]) for row in rows] == [
        (label, f"synthetic/{label}/{n}") for label in ("card", "cash") for n in range(3)
    ]
    assert {len(row["made_from"]) for row in rows} == {2}
    assert facts["sources"][0]["origin"] == "synthetic: sample by stub"
    assert facts["sources"][0]["licence"] == "CC0-1.0"


def test_of_a_talk_the_last_turn_of_the_user_is_rewritten(tmp_path: Path) -> None:
    talk = [
        {"role": "user", "content": "Good morning to you"},
        {"role": "assistant", "content": "Good morning"},
        {"role": "user", "content": "My card is lost"},
        {"role": "assistant", "content": "I am sorry to hear it"},
    ]
    case = Case(tmp_path, [{"messages": talk}])
    case.source = {"format": "messages", "seed": 0}
    with stub() as endpoint:
        case.run(endpoint.url)
    (row,) = case.lines()
    assert [*row["messages"][:2], row["messages"][3]] == [*talk[:2], talk[3]]
    assert row["messages"][2]["content"].startswith("My card is lost, ")


def test_the_recipes_prompt_is_neither_sent_nor_rewritten(case: Case) -> None:
    case.source = {**case.source, "prompt": "Which class? {text}\nClass:"}
    with stub() as endpoint:
        case.run(endpoint.url)
        assert not any("Which class?" in str(body) for body in endpoint.bodies)
        row = case.lines()[0]
        assert row["text"] == f"Which class? {row['source_text']}\nClass:"
        case.run(endpoint.url, kind="sample")
    row = case.lines()[0]
    assert row["text"] == f"Which class? {row['source_text']}\nClass:"


def test_a_row_goes_out_as_cleaning_leaves_it(tmp_path: Path) -> None:
    case = Case(tmp_path, [{"text": "Fish &amp; chips, where are they?", "label": "food"}])
    case.clean = Clean(html=True).model_dump()
    with stub() as endpoint:
        case.run(endpoint.url)
    assert "Fish & chips, where" in endpoint.bodies[0]["messages"][0]["content"]


def test_what_training_does_not_take_is_not_asked_about(tmp_path: Path) -> None:
    case = Case(tmp_path, [*ROWS, ROWS[0], {"text": "word " * 41, "label": "card"}])
    with stub() as endpoint:
        facts = case.run(endpoint.url)
        assert len(endpoint.bodies) == 8
        assert (facts["asked"], facts["not_asked"]) == (8, {"longer than max_new_tokens": 1})
        assert case.lines("rejected.jsonl") == [
            {"id": "9", "reason": "not asked: longer than max_new_tokens"}
        ]
        case.source = {**case.source, "fraction": 0.5}
        assert case.run(endpoint.url)["asked"] <= 5


def test_rows_read_back_as_one_more_source_of_prepare(case: Case) -> None:
    with stub() as endpoint:
        case.run(endpoint.url)
    chunks = source_chunks({"made": True}, None, case.out, "data.train")
    account = Account("train", Ledger(case.work / "q"), Ledger(case.work / "d"))
    plan = SourcePlan("data.train", "classification", {}, None)
    shelf = gather([(plan, chunks)], case.work / "back.arrow", InProcess(), account, 0)
    account.quarantine.close()
    account.dropped.close()
    assert shelf.names(range(8)) == [f"synthetic/{n}/0" for n in range(8)]
    assert shelf.labels == ["card", "cash"]


# ---- the same rows whatever happens on the way


def test_rows_do_not_depend_on_the_concurrency(case: Case) -> None:
    def late(body: dict[str, Any], number: int) -> Reply:
        # The later request is answered first.
        time.sleep(0.03 * (3 - number % 4))
        return chat("I want it now please") if body["seed"] % 3 == 0 else reworded(body)

    found = []
    for concurrency in (1, 4):
        with stub(late) as endpoint:
            facts = case.run(endpoint.url, per_row=3, options={"concurrency": concurrency})
        assert endpoint.most_at_once == concurrency
        files = [(case.out / name).read_bytes() for name in ("rows.jsonl", "rejected.jsonl")]
        found.append((files, {k: v for k, v in facts.items() if k != "endpoint"}))
        (case.work / "answers.jsonl").unlink()
    assert found[0] == found[1]
    assert found[0][1]["rejected"]["made before"] > 0


def test_figures_add_up(case: Case) -> None:
    answers: list[Reply] = [
        chat(""), chat("I'm sorry, but I can't help with that"), chat("Where is my new card"),
        chat("Where? " * 50), chat("Wo ist", "length"), chat(None), (200, {}, b"<html>"),
        (200, {}, b'{"choices": []}'), (200, {}, b"[" * 5000), refusal(400, "too long: 99 tokens"),
        chat("Where would the new one be"),
    ]  # fmt: skip
    with stub(lambda _body, number: answers[min(number, 10)]) as endpoint:
        facts = case.run(endpoint.url, per_row=2)
    assert facts["rejected"] == {
        "empty": 1, "refused by the model": 1, "stands in train": 1, "too long": 1,
        "cut off at max_new_tokens": 1, "the answer holds no text": 1, "the answer is no JSON": 2,
        "the answer holds no choice": 1, "the endpoint refuses the request": 1, "made before": 5,
    }  # fmt: skip
    assert facts["asked"] == 16 == facts["accepted"] + sum(facts["rejected"].values())
    rejected = case.lines("rejected.jsonl")
    assert len(rejected) == 15
    assert any("400: too long: 99 tokens" in entry["reason"] for entry in rejected)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_passes_is_tried_again(case: Case, status: int) -> None:
    def first_refused(body: dict[str, Any], number: int) -> Reply:
        return refusal(status) if number in (0, 5) else reworded(body)

    with stub(first_refused) as endpoint:
        assert case.run(endpoint.url)["accepted"] == 8
    assert len(endpoint.bodies) == 10


def test_answers_that_were_paid_for_are_not_asked_for_again(case: Case) -> None:
    def until(body: dict[str, Any], number: int) -> Reply:
        return reworded(body) if number < 5 else refusal(500, "out of memory")

    with stub() as endpoint:
        case.run(endpoint.url)
        whole = (case.out / "rows.jsonl").read_bytes()
        journal = case.work / "answers.jsonl"
        journal.unlink()
        endpoint.reply, endpoint.bodies = until, []
        message = case.refused(endpoint.url)
        assert "answers 500 after 2 tries (500: out of memory)" in message
        assert "run again to go on" in message
        # As a kill in the middle of a write leaves it.
        kept = journal.read_bytes()
        journal.write_bytes(kept[:-20])
        endpoint.reply, endpoint.bodies = (lambda body, _n: reworded(body)), []
        facts = case.run(endpoint.url)
        assert len(endpoint.bodies) == 4
    assert facts["asked"] == 8
    assert (case.out / "rows.jsonl").read_bytes() == whole
    assert journal.read_bytes().startswith(kept)


def test_a_killed_run_goes_on_where_it_was(case: Case) -> None:
    enough = threading.Event()

    def slow(body: dict[str, Any], number: int) -> Reply:
        if number == 4:
            enough.set()
            time.sleep(1)
        return reworded(body)

    with stub(slow) as endpoint:
        context = case.context()
        code = (
            "import json, sys; from pathlib import Path;"
            "from pipeline.core.stage import StageContext;"
            "from pipeline.stages.augment import Augment;"
            "c, out, work, file = sys.argv[1:];"
            "Augment().run({}, json.loads(c), StageContext(Path(out), Path(work),"
            " {'concurrency': 1}, {'train0': Path(file)}, lambda told: None))"
        )
        arguments = [json.dumps(case.config(endpoint.url)), context.out, context.work, case.file]
        with subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)]) as process:
            assert enough.wait(60)
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        answered = len((case.work / "answers.jsonl").read_text().splitlines())
        endpoint.bodies = []
        assert case.run(endpoint.url)["accepted"] == 8
    assert answered == 4
    assert len(endpoint.bodies) == 4


def test_a_journal_that_is_damaged_costs_only_what_it_lost(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    with Journal(path) as journal:
        journal.add("a", Answer("one\nline", "stop"))
        journal.add("b", Answer("zwei ü", None))
    path.write_bytes(path.read_bytes() + b'[1]\n"x"\n{"request": "c"}\n\xff\n{"request": "d", "te')
    with Journal(path) as journal:
        assert journal.get("a") == Answer("one\nline", "stop")
        assert journal.get("c") is None
        journal.add("d", Answer("four", "stop"))
        assert journal.get("b") == Answer("zwei ü", None)
        assert journal.get("d") == Answer("four", "stop")
    with Journal(path) as journal:
        assert journal.get("d") == Answer("four", "stop")
