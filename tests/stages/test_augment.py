"""The stage that makes synthetic rows, against a stub of an endpoint (no model answers here)."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import DataError
from pipeline.core.schema_data import Clean
from pipeline.core.stage import StageContext
from pipeline.data.endpoint import endpoint_problem
from pipeline.data.executor import InProcess
from pipeline.data.gathering import SourcePlan, gather
from pipeline.data.journal import Answer, Journal
from pipeline.data.ledger import Account, Ledger
from pipeline.data.origins import source_chunks
from pipeline.stages.augment import Augment
from tests.silent_server import closed_port, silent_server

KEY = "sk-stub-0123456789abcdef"
ROWS = [
    {"text": f"{start} {what}", "label": label}
    for label, what in (("card", "my new card"), ("cash", "the cash from the machine"))
    for start in ("Where is", "I am waiting for", "When can I have", "Who has taken")
]
Reply = tuple[int, dict[str, str], bytes]


def chat(text: Any, finish: str = "stop") -> Reply:
    """An answer as an OpenAI-compatible server writes it."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    return 200, {}, json.dumps({"id": "x", "object": "chat.completion", "created": 0,
                                "model": "stub", "choices": [choice]}).encode()  # fmt: skip


def refusal(status: int, message: str = "no") -> Reply:
    """An error as such a server writes it; it asks for a short pause."""
    return status, {"retry-after-ms": "1"}, json.dumps({"error": {"message": message}}).encode()


def reworded(body: dict[str, Any]) -> Reply:
    """A text that depends on the request alone, wrapped as models wrap theirs."""
    shown = re.findall(r"<text>\n(.*?)\n</text>", body["messages"][0]["content"], re.DOTALL)
    word = "".join(chr(ord("a") + int(digit)) for digit in str(body["seed"]))
    return chat(f'Here is the new text: "{shown[0] if shown else "This"}, {word} please"')


class Quiet(ThreadingHTTPServer):
    """Says nothing of a client that goes away in the middle."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: what a client saw is what tests look at."""


class StubEndpoint:
    """Takes requests, keeps them, and answers by ``reply``; ``n`` counts from 0."""

    def __init__(self, reply: Callable[[dict[str, Any], int], Reply]) -> None:
        self.reply = reply
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body in one write: two would wait for each other's acknowledgement.
            wbufsize = 1 << 16

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, content = stub.answer(self.path, self.headers, body)
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"

    def answer(self, path: str, headers: Message, body: dict[str, Any]) -> Reply:
        assert path == "/v1/chat/completions"
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.reply(body, number)
        finally:
            with self._lock:
                self._at_once -= 1


@contextmanager
def stub(
    reply: Callable[[dict[str, Any], int], Reply] = lambda body, _n: reworded(body),
) -> Iterator[StubEndpoint]:
    """A stub that listens until the block ends."""
    endpoint = StubEndpoint(reply)
    thread = threading.Thread(target=endpoint.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        endpoint.server.server_close()
        thread.join()


class Case:
    """A folder with rows, and the stage run over them."""

    def __init__(self, folder: Path, rows: list[dict[str, Any]] | None = None) -> None:
        self.folder = folder
        self.file = folder / "train.jsonl"
        self.write(rows or ROWS)
        self.source: dict[str, Any] = {"format": "classification", "seed": 0, "suffix": ".jsonl"}
        self.clean: dict[str, Any] | None = None
        self.out = folder / "out0"
        self.work = folder / "work"
        self.runs = 0

    def write(self, rows: list[dict[str, Any]]) -> None:
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def config(self, url: str, **more: Any) -> dict[str, Any]:
        settings = {
            "kind": "paraphrase", "endpoint": url, "model": "stub", "per_row": 1, "per_label": 3,
            "examples": 2, "temperature": 0.5, "max_new_tokens": 40, "seed": 3, "licence": None,
        }  # fmt: skip
        return {
            "sources": [self.source], "augment": {**settings, **more}, "clean": self.clean,
            "max_quarantined": 0,
        }  # fmt: skip

    def context(self, **options: Any) -> StageContext:
        self.runs += 1
        self.out = self.folder / f"out{self.runs}"
        self.out.mkdir()
        self.work.mkdir(exist_ok=True)
        options = {"concurrency": 1, "retries": 1, "timeout_s": 5, **options}
        return StageContext(self.out, self.work, options, {"train0": self.file}, lambda _told: None)

    def run(self, url: str, *, options: dict[str, Any] | None = None, **more: Any) -> Any:
        return Augment().run({}, self.config(url, **more), self.context(**(options or {})))

    def refused(self, url: str, *, options: dict[str, Any] | None = None, **more: Any) -> str:
        """The one line with which the stage stops."""
        with pytest.raises(DataError) as caught:
            self.run(url, options=options, **more)
        message = str(caught.value)
        assert message.startswith("data.augment")
        assert "\n" not in message
        return message

    def lines(self, name: str = "rows.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text("utf-8").splitlines()]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


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


# ---- an endpoint that is away, or is none


def test_an_endpoint_that_is_away_is_named_with_a_remedy(case: Case) -> None:
    url = f"{closed_port()}/v1"
    message = case.refused(url, options={"retries": 0})
    assert f"{url}: cannot be reached in 1 tries" in message
    assert "start it, or mend augment.endpoint" in message


def test_an_endpoint_that_hangs_is_given_up(case: Case) -> None:
    began = time.monotonic()
    with silent_server() as url:
        message = case.refused(f"{url}/v1", options={"timeout_s": 0.2, "retries": 1})
    assert "does not answer within 0.2 s in 2 tries" in message
    assert time.monotonic() - began < 10


def test_an_answer_that_never_ends_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.endpoint._LONGEST_PAUSE_S", 0.0)
    with silent_server(0.05) as url:
        message = case.refused(f"{url}/v1", options={"timeout_s": 0.5, "retries": 0})
    assert "does not answer" in message


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the key is refused (401: no); set augment.api_key_env"),
        (403, "the key is refused (403: no)"),
        (404, "has no model 'stub', or no /chat/completions (404: no); check augment.model"),
        (402, "answers 402 (402: no); wait"),
        (429, "answers 429 after 2 tries (429: no); wait"),
    ],
)
def test_a_refusal_stops_the_stage_with_one_line(case: Case, status: int, told: str) -> None:
    with stub(lambda _body, _n: refusal(status)) as endpoint:
        assert told in case.refused(endpoint.url)
    assert len(endpoint.bodies) == (2 if status == 429 else 1)


def test_what_answers_only_rubbish_is_given_up_early(tmp_path: Path) -> None:
    case = Case(tmp_path, [{"text": f"Text {n}", "label": "a"} for n in range(60)])
    with stub(lambda _body, _n: (200, {"Content-Type": "text/html"}, b"<html>")) as endpoint:
        message = case.refused(endpoint.url)
    assert "none of the first 20 requests came to a text (the answer is no JSON)" in message
    assert len(endpoint.bodies) <= 24


def test_no_row_at_all_is_an_error_that_says_why(case: Case) -> None:
    with stub(lambda _body, _n: chat("As an AI language model, I rest")) as endpoint:
        message = case.refused(endpoint.url)
    assert "no synthetic row came of 8 requests" in message
    assert "(8: refused by the model)" in message


def test_kinds_that_do_not_fit_the_rows_are_refused(case: Case) -> None:
    case.source = {**case.source, "format": "text"}
    with stub() as endpoint:
        assert "no training row has one" in case.refused(endpoint.url, kind="sample")
        case.source = {**case.source, "prompt": "{text} {label}"}
        assert "cannot fill {label}" in case.refused(endpoint.url, kind="sample")
    assert not endpoint.bodies


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/v1", "example.org/v1", "http://", "http://[::1/v1", "http://a:x/v1", "",
        "https://user:secret-word@example.org/v1", "https://secret-word@example.org/v1",
        "https://example.org/v1?key=secret-word", "https://example.org/v1#secret-word",
    ],
)  # fmt: skip
def test_a_url_that_cannot_be_an_endpoint_is_refused_and_not_repeated(case: Case, url: str) -> None:
    assert endpoint_problem(url) is not None
    assert "secret-word" not in case.refused(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://api.example.org/v1/"])
def test_an_address_is_an_endpoint(url: str) -> None:
    assert endpoint_problem(url) is None


# ---- the key


def test_the_key_is_sent_and_stands_nowhere(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)
    options = {"api_key_env": "STUB_KEY"}

    def telling(body: dict[str, Any], number: int) -> Reply:
        return chat(f"{number} your key is {KEY}") if number else reworded(body)

    with stub(telling) as endpoint:
        case.run(endpoint.url, options=options)
        assert {h["authorization"] for h in endpoint.headers} == {f"Bearer {KEY}"}
        (case.work / "answers.jsonl").rename(case.work / "earlier.jsonl")
        endpoint.reply = lambda _body, _n: refusal(401, f"Incorrect API key provided: {KEY}")
        message = case.refused(endpoint.url, options=options)
    assert "Incorrect API key provided: ***" in message
    written = [path for path in case.folder.rglob("*") if path.is_file()]
    assert len(written) > 4
    assert not [path for path in written if KEY.encode() in path.read_bytes()]


def test_another_services_key_and_names_are_not_sent(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, KEY)
    with stub() as endpoint:
        case.run(endpoint.url)
    assert KEY not in str(endpoint.headers)


@pytest.mark.parametrize("value", [None, " "])
def test_a_key_that_is_not_set_is_told_before_anything_is_asked(
    case: Case, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("STUB_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("STUB_KEY", value)
    with stub() as endpoint:
        message = case.refused(endpoint.url, options={"api_key_env": "STUB_KEY"})
    assert "STUB_KEY is not set in the environment; export STUB_KEY=KEY" in message
    assert not endpoint.bodies


def test_a_key_that_no_header_can_hold_is_told(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "schlüssel\nzwei")
    with stub() as endpoint:
        message = case.refused(endpoint.url, options={"api_key_env": "STUB_KEY"})
    assert "schlüssel" not in message
