"""A served model in every form, its figures worked out by hand; what is kept when it fails."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from endpoint_case import (
    END,
    ROLES,
    START,
    Served,
    dropped,
    logprob,
    logprobs_of,
    plain,
    serving,
    status,
    write_rows,
)

from eval.endpoint.asking import Answers, ask_suite
from eval.endpoint.client import Endpoint, Patience
from eval.endpoint.items import Asked, Item, asked_of_file
from pipeline.core.errors import DataError, EngineError, IntegrityError, UserError

QUICK = Patience(timeout_s=5.0, retries=1, pause_s=0.01)
LABELS = ("card", "card_arrival", "卡片到达")


@pytest.fixture
def served() -> Iterator[Served]:
    with serving(Served()) as one:
        yield one


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "rows.jsonl", LABELS)


def asked_of(rows: Path, labels: Sequence[str] | None = None) -> Asked:
    return asked_of_file(rows, suite="rows", labels=labels)


def ask(
    served: Served, asked: Asked, arms: Sequence[str], folder: Path, concurrency: int = 4
) -> dict[str, Answers]:
    folder.mkdir(exist_ok=True)

    async def run() -> dict[str, Answers]:
        async with Endpoint(
            served.url, model="demo", patience=QUICK, concurrency=concurrency
        ) as endpoint:
            await endpoint.choose_model()
            return await ask_suite(
                endpoint, asked, arms, folder, max_new_tokens=24, on_progress=lambda *_: None
            )

    return asyncio.run(run())


def labels_of(answers: Answers) -> list[str | None]:
    assert answers.predictions is not None, answers.reason
    return [prediction.label for prediction in answers.predictions]


def answer_ids(text: str) -> list[int]:
    """Characters of an answer and the end of its turn."""
    return [*map(ord, text), END]


def summed(question: str, answer: str) -> float:
    """By hand: after ``assistant``, every character given the one before, and the end."""
    ids = [ROLES["assistant"], *answer_ids(answer)]
    return sum(logprob(a, b) for a, b in pairwise(ids))


def softmax_log(values: Sequence[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in values))
    return [value - total for value in values]


def test_a_label_that_is_a_prefix_of_another_is_not_taken_for_it(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    found = ask(served, asked_of(rows), ["generate", "constrained"], tmp_path / "out")
    for arm in ("generate", "constrained"):
        assert labels_of(found[arm]) == [*LABELS, *LABELS]
    answers = found["generate"].predictions
    assert answers is not None
    assert [a.example_id for a in answers] == ["0", "1", "2", "3", "4", "5"]
    assert [a.output_tokens for a in answers[:3]] == [5, 13, 5]
    assert all(a.latency_s > 0 and a.scores is None for a in answers)


@pytest.mark.parametrize("written", ["card.", "The card", "CARD", "", "card card"])
def test_what_is_not_exactly_a_label_is_unparseable(
    served: Served, rows: Path, tmp_path: Path, written: str
) -> None:
    served.answer = lambda _text: written
    found = ask(served, asked_of(rows), ["generate"], tmp_path / "out")
    assert labels_of(found["generate"]) == [None] * 6
    assert found["generate"].predictions[0].raw_text == written  # type: ignore[index]


def test_half_of_a_surrogate_pair_is_an_answer_like_any_other(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    served.answer = lambda _text: "card\ud800"
    found = ask(served, asked_of(rows), ["generate"], tmp_path / "out")["generate"].predictions
    assert found is not None
    assert {(row.raw_text, row.label) for row in found} == {("card?", None)}


@pytest.mark.parametrize("finish", ["length", "model_length", "content_filter"])
def test_an_answer_that_was_cut_is_no_label(
    served: Served, rows: Path, tmp_path: Path, finish: str
) -> None:
    served.script = [_ending(served, finish)] * 6
    found = ask(served, asked_of(rows), ["generate"], tmp_path / "out")
    assert labels_of(found["generate"]) == [None] * 6


@pytest.mark.parametrize("finish", ["eos_token", "end_turn", None])
def test_another_word_for_the_end_is_no_cut(
    served: Served, rows: Path, tmp_path: Path, finish: str | None
) -> None:
    """TGI says eos_token, some say nothing."""
    served.script = [_ending(served, finish)] * 6
    found = ask(served, asked_of(rows), ["generate"], tmp_path / "out")
    assert labels_of(found["generate"]) == [*LABELS, *LABELS]


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_an_end_without_any_text_is_no_label(
    served: Served, rows: Path, tmp_path: Path, finish: str
) -> None:
    served.script = [_ending(served, finish, {"content": None})] * 6
    found = ask(served, asked_of(rows), ["generate"], tmp_path / "out")
    assert labels_of(found["generate"]) == [None] * 6


def _ending(served: Served, finish: str | None, message: Any = None) -> Any:
    def reply(_request: Any, body: dict[str, Any]) -> Any:
        from aiohttp import web

        whole = served.chat(body)
        whole["choices"][0]["finish_reason"] = finish
        whole["choices"][0]["message"] |= message or {}
        return web.json_response(whole)

    return reply


def test_an_ignored_constraint_is_seen_although_every_answer_is_a_label(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    served.constrains = False
    found = ask(served, asked_of(rows), ["constrained"], tmp_path / "out")
    assert found["constrained"].predictions is None
    assert "ignores structured_outputs" in str(found["constrained"].reason)
    assert sum(served.asked.values()) == 1


def test_a_refused_constraint_is_told_with_the_reason(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    served.script = [status(400, "unknown field structured_outputs")]
    found = ask(served, asked_of(rows), ["constrained", "generate"], tmp_path / "out")
    assert "unknown field" in str(found["constrained"].reason)
    assert labels_of(found["generate"]) == [*LABELS, *LABELS]


def test_likelihood_is_the_sum_over_the_label_and_its_end(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    asked = asked_of(rows)
    assert asked.labels is not None
    found = ask(served, asked, ["likelihood"], tmp_path / "out")
    sums = [summed("", label) for label in asked.labels]
    means = [one / len(answer_ids(label)) for one, label in zip(sums, asked.labels, strict=True)]
    for arm, values in (("likelihood", sums), ("likelihood_mean", means)):
        answers = found[arm].predictions
        assert answers is not None
        for answer in answers:
            assert answer.scores is not None
            assert [answer.scores[label] for label in asked.labels] == pytest.approx(
                softmax_log(values), abs=1e-9
            )
            assert answer.label == max(zip(values, asked.labels, strict=True))[1]


def test_joint_is_text_given_label_times_prior_and_sums_to_the_evidence(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    prior = {"card": 8, "card_arrival": 1, "卡片到达": 1}
    asked = Asked("rows", "x", asked_of(rows).items, tuple(sorted(LABELS)), prior=prior)
    found = ask(served, asked, ["joint"], tmp_path / "out")["joint"].predictions
    assert found is not None
    for item, answer in zip(asked.items, found, strict=True):
        logs = [
            summed(label, item.text) + math.log((prior[label] + 1) / 13) for label in asked.labels
        ]
        total = math.log(sum(math.exp(value - max(logs)) for value in logs)) + max(logs)
        assert answer.evidence == pytest.approx(total)
        assert answer.label == "card"  # The text's tokens look one back: only the prior differs.
    asks = [body["messages"][0] for body in served.seen if len(body["messages"]) == 2]
    assert {message["content"] for message in asks} == set(LABELS)
    assert all(message["role"] == "user" for message in asks)


def test_a_channel_is_asked_in_joint_alone(served: Served, rows: Path, tmp_path: Path) -> None:
    items = tuple(replace(item, messages=()) for item in asked_of(rows).items)
    asked = replace(asked_of(rows), items=items, channel=True)
    found = ask(served, asked, ["generate", "constrained", "likelihood", "joint"], tmp_path / "out")
    assert labels_of(found.pop("joint"))
    assert {one.predictions for one in found.values()} == {None}
    assert {"is asked in joint alone" in str(one.reason) for one in found.values()} == {True}


def test_without_prompt_log_probabilities_an_arm_is_not_available(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    served.scores = False
    found = ask(served, asked_of(rows), ["likelihood", "joint"], tmp_path / "out")
    for arm in ("likelihood", "likelihood_mean", "joint"):
        assert found[arm].predictions is None
        assert "no prompt log-probabilities" in str(found[arm].reason)


@pytest.mark.parametrize(
    ("echo", "words"),
    [
        ("null", "leaves log-probabilities out"), ("one", "1 choices for 2 prompts"),
        ("500", "answers 500 (prompt must be str), after 2 tries"),
    ],
)  # fmt: skip
def test_a_probe_that_fails_costs_its_own_arm_alone(
    served: Served, rows: Path, tmp_path: Path, echo: str, words: str
) -> None:
    """Most servers answer 200 to echo and logprobs and leave them out."""
    served.echo, served.scores = echo, False
    asked = asked_of(rows)
    items = tuple(_with_ids(item) for item in asked.items)
    asked = Asked("rows", "x", items, tuple(sorted(LABELS)), renderer=_Renderer())
    found = ask(served, asked, ["generate", "likelihood"], tmp_path / "out")
    assert labels_of(found["generate"]) == [*LABELS, *LABELS]
    assert found["likelihood"].predictions is None
    assert words in str(found["likelihood"].reason)
    assert "run again" not in str(found["likelihood"].reason)


def test_a_probe_by_ids_that_fails_leaves_the_way_by_messages(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    by_messages = ask(served, asked_of(rows), ["likelihood"], tmp_path / "one")["likelihood"]
    served.echo = "null"
    items = tuple(_with_ids(item) for item in asked_of(rows).items)
    asked = Asked("rows", "x", items, tuple(sorted(LABELS)), renderer=_Renderer())
    found = ask(served, asked, ["likelihood"], tmp_path / "other")["likelihood"]
    assert by_messages.predictions is not None
    assert found.predictions is not None
    for one, other in zip(found.predictions, by_messages.predictions, strict=True):
        assert one.scores == pytest.approx(other.scores)


@pytest.mark.parametrize("arm", ["constrained", "likelihood", "joint"])
@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (status(503, "down"), EngineError, r"answers 503 \(down\).*run again to go on"),
        (dropped, EngineError, "cannot be reached.*run again to go on"),
        (status(429, "slowly"), EngineError, r"answers 429 \(slowly\)"),
        (plain("<html>"), EngineError, "no JSON"),
        (status(401), UserError, "refuses the key"), (status(403), UserError, "refuses the key"),
        (status(404, "no such model"), UserError, "not there"),
    ],
    ids=["503", "dropped", "429", "html", "401", "403", "404"],
)  # fmt: skip
def test_an_endpoint_that_goes_away_before_a_probe_ends_the_run_and_its_answers_are_kept(
    served: Served, rows: Path, tmp_path: Path, arm: str,
    reply: Any, kind: type[Exception], words: str,
) -> None:  # fmt: skip
    served.script = [lambda r, b: _right(served, b)] * 6 + [reply] * 40
    with pytest.raises(kind, match=words):
        ask(served, asked_of(rows), ["generate", arm], tmp_path / "out")
    served.script = []
    found = ask(served, asked_of(rows), ["generate", arm], tmp_path / "out")
    assert (found["generate"].earlier, found[arm].earlier) == (6, 0)
    assert found[arm].predictions is not None


@pytest.mark.parametrize("arm", ["constrained", "likelihood", "joint"])
@pytest.mark.parametrize("reply", [status(500, "boom"), status(501, "boom"), status(403, "boom")])
def test_a_form_that_alone_fails_is_closed_alone(
    served: Served, rows: Path, tmp_path: Path, arm: str, reply: Any
) -> None:
    """Some answer 500 to what they do not know, some 403 where they give no log-probabilities."""

    def picky(request: Any, body: dict[str, Any]) -> Any:
        special = {"structured_outputs", "prompt_logprobs"} & set(body)
        return reply(request, body) if special else _right(served, body)

    served.script = [picky] * 40
    found = ask(served, asked_of(rows), ["generate", arm], tmp_path / "out")
    assert labels_of(found["generate"]) == [*LABELS, *LABELS]
    assert found[arm].predictions is None
    assert "boom" in str(found[arm].reason)
    assert "check the URL" not in str(found[arm].reason)


@pytest.mark.parametrize("reply", [dropped, status(429, "slowly")], ids=["dropped", "429"])
def test_what_passes_does_not_close_a_form(
    served: Served, rows: Path, tmp_path: Path, reply: Any
) -> None:
    """An endpoint that answers plain requests again a moment later might answer this one too."""
    served.script = [reply] * (QUICK.retries + 1)
    with pytest.raises(EngineError, match="run again to go on"):
        ask(served, asked_of(rows), ["constrained"], tmp_path / "out")


def test_scores_that_are_no_numbers_name_the_row(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    def broken(_request: Any, body: dict[str, Any]) -> Any:
        from aiohttp import web

        whole = served.chat(body)
        if body.get("prompt_logprobs") is not None:
            token = str(whole["prompt_token_ids"][-1])
            whole["prompt_logprobs"][-1] = {token: {"logprob": math.nan}}
        return web.Response(text=json.dumps(whole), content_type="application/json")

    asked = asked_of(rows)
    whole = 3  # The probe: a question and two answers.
    served.script = [lambda r, b: _right(served, b)] * whole + [broken] * 99
    with pytest.raises(EngineError, match=r"suite rows, row \d: answers nonsense \(a log-prob"):
        ask(served, asked, ["likelihood"], tmp_path / "out")


def _right(served: Served, body: dict[str, Any]) -> Any:
    from aiohttp import web

    return web.json_response(served.chat(body))


def test_exact_ids_are_scored_where_the_endpoint_echoes_them(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    """The recipe's ids go out as they are, and only the answer's own are counted."""
    asked = Asked(
        "rows", "x", tuple(_with_ids(item) for item in asked_of(rows).items),
        tuple(sorted(LABELS)), renderer=_Renderer(),
    )  # fmt: skip
    found = ask(served, asked, ["likelihood"], tmp_path / "out")["likelihood"].predictions
    assert found is not None
    sent = [body for body in served.seen if "prompt" in body]
    assert len(sent) == 1 + len(asked.items)
    for item, answer in zip(asked.items, found, strict=True):
        assert item.prompt_ids is not None
        sums = []
        for label in asked.labels:
            ids = [*item.prompt_ids, 99, *answer_ids(label)]
            own = logprobs_of(ids)[len(item.prompt_ids) + 1 :]
            sums.append(sum(value for value in own if value is not None))
        assert answer.scores is not None
        assert [answer.scores[label] for label in asked.labels] == pytest.approx(softmax_log(sums))


@pytest.mark.parametrize("by_ids", [False, True], ids=["messages", "ids"])
@pytest.mark.parametrize("adapters", [False, True])
def test_an_engine_with_adapters_scores_one_prompt_at_a_time(
    served: Served, rows: Path, tmp_path: Path, by_ids: bool, adapters: bool
) -> None:
    """vLLM dies of two in one batch (vllm-project/vllm issue 16668)."""
    served.adapters = ["demo-l2"] if adapters else []
    served.delay_s = 0.01
    asked = asked_of(rows)
    if by_ids:
        items = tuple(_with_ids(item) for item in asked.items)
        asked = Asked("rows", "x", items, tuple(sorted(LABELS)), renderer=_Renderer())
    found = ask(served, asked, ["likelihood"], tmp_path / "out")["likelihood"].predictions
    assert found is not None
    assert (served.most_scoring == 1) == adapters
    alone = found[0].scores
    served.adapters = []
    again = ask(served, asked, ["likelihood"], tmp_path / "again")["likelihood"].predictions
    assert again is not None
    assert again[0].scores == pytest.approx(alone)


def _with_ids(item: Item) -> Item:
    ids = (START, ROLES["user"], *map(ord, item.text), START, ROLES["assistant"])
    return Item(item.example_id, item.gold, item.messages, item.text, ids)


class _Renderer:
    """Renders as the recipe would: before an answer 99, which is not its own, behind its end a
    line break, which is learned and never written."""

    def conversation(self, messages: Sequence[Any], *, loss_on: str) -> list[Any]:
        from pipeline.data.rendering import Rendered

        assert loss_on == "last"
        answer = answer_ids(messages[-1]["content"])
        return [Rendered([7, 99, *answer, 3], [0, 0, *[1] * len(answer), 1], prompt=1)]


def test_finished_items_are_kept_when_the_endpoint_goes_away(
    served: Served, rows: Path, tmp_path: Path
) -> None:
    asked, folder = asked_of(rows), tmp_path / "out"
    right = [lambda r, b: _right(served, b)] * 4
    served.script = [*right, *[dropped] * 9]
    with pytest.raises(EngineError, match="run again to go on"):
        ask(served, asked, ["generate"], folder, concurrency=1)
    served.script = []
    found = ask(served, asked, ["generate"], folder, concurrency=1)
    assert labels_of(found["generate"]) == [*LABELS, *LABELS]
    counts = [served.asked[item.text] for item in asked.items]
    # All four once more, to see that the answers still hold.
    assert counts[:4] == [2, 2, 2, 2]
    assert (found["generate"].earlier, found["generate"].since[:2]) == (4, "20")
    assert found["generate"].cost is not None
    assert found["generate"].cost.items == 6


@pytest.mark.parametrize("arm", ["generate", "constrained"])
@pytest.mark.parametrize("otherwise", [set(range(1, 20, 2)), {7}], ids=["half", "one"])
def test_another_model_that_agrees_on_the_first_item_is_found(
    served: Served, tmp_path: Path, arm: str, otherwise: set[int]
) -> None:
    """Of two labels, two models agree on one item about as often as they are right."""
    asked = asked_of(write_rows(tmp_path / "rows.jsonl", ["card", "pin"], 40))
    folder, probe = tmp_path / "out", int(arm == "constrained")
    served.script = [lambda r, b: _right(served, b)] * (probe + 20) + [dropped] * 9
    with pytest.raises(EngineError, match="run again to go on"):
        ask(served, asked, [arm], folder, concurrency=1)
    served.script = []
    wrong = {asked.items[place].text for place in otherwise}
    right = {"card": "pin", "pin": "card"}
    served.answer = lambda text: right[text.split()[-1]] if text in wrong else text.split()[-1]
    words = rf"answered otherwise than .*{len(otherwise)} of 20 asked again differ"
    with pytest.raises(IntegrityError, match=words):
        ask(served, asked, [arm], folder)


def test_of_a_long_earlier_run_twenty_are_asked_again_and_of_scores_one(
    served: Served, tmp_path: Path
) -> None:
    asked = asked_of(write_rows(tmp_path / "rows.jsonl", ["card", "pin"], 40))
    again = {}
    for arm in ("generate", "likelihood"):
        ask(served, asked, [arm], tmp_path / "out")
        before = served.asked.copy()
        ask(served, asked, [arm], tmp_path / "out")
        served.asked.subtract(before)
        again[arm] = [place for place, item in enumerate(asked.items) if served.asked[item.text]]
    # Drawn: a file may be sorted.
    assert len(again["generate"]) == 20
    assert again["generate"] != list(range(20))
    # Beside the first, which the probe asks.
    assert len(set(again["likelihood"]) - {0}) == 1


@pytest.mark.parametrize("what", ["labels", "model", "tokens", "rows"])
def test_another_question_is_asked_anew(
    served: Served, rows: Path, tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "out"
    ask(served, asked_of(rows), ["generate"], folder)
    asked = asked_of(rows, [*LABELS, "more"]) if what == "labels" else asked_of(rows)
    if what == "rows":
        rows.write_text(rows.read_text().replace("says", "tells"))
        asked = asked_of(rows)
    before = sum(served.asked.values())

    async def run() -> None:
        model = "other" if what == "model" else "demo"
        async with Endpoint(served.url, model=model, patience=QUICK) as endpoint:
            await ask_suite(
                endpoint, asked, ["generate"], folder,
                max_new_tokens=25 if what == "tokens" else 24, on_progress=lambda *_: None,
            )  # fmt: skip

    asyncio.run(run())
    assert sum(served.asked.values()) == before + 6


@pytest.mark.parametrize(
    ("wished", "of_recipe", "most"), [(None, None, 24), (None, 512, 512), (7, 512, 7)]
)
def test_a_free_answer_is_as_long_as_the_wish_or_the_recipe_says(
    served: Served, rows: Path, tmp_path: Path, wished: int | None, of_recipe: int | None, most: int
) -> None:
    asked = replace(asked_of(rows), max_new_tokens=of_recipe)

    async def run() -> None:
        async with Endpoint(served.url, model="demo", patience=QUICK) as endpoint:
            await ask_suite(
                endpoint, asked, ["generate"], tmp_path,
                max_new_tokens=wished, on_progress=lambda *_: None,
            )  # fmt: skip

    asyncio.run(run())
    assert {body["max_tokens"] for body in served.seen} == {most}


@pytest.mark.parametrize("arm", ["likelihood", "constrained", "joint"])
def test_an_arm_is_not_asked_anew_for_a_setting_that_it_does_not_read(
    served: Served, rows: Path, tmp_path: Path, arm: str
) -> None:
    asked = asked_of(rows)
    ask(served, asked, [arm], tmp_path / "out")
    asked = replace(asked, answer_after="####", prior={"card": 3} if arm != "joint" else None)

    async def run() -> dict[str, Answers]:
        async with Endpoint(served.url, model="demo", patience=QUICK) as endpoint:
            return await ask_suite(
                endpoint, asked, [arm], tmp_path / "out",
                max_new_tokens=20, on_progress=lambda *_: None,
            )  # fmt: skip

    assert asyncio.run(run())[arm].earlier == 6


def test_a_row_beyond_the_context_is_named(served: Served, rows: Path, tmp_path: Path) -> None:
    served.script = [
        lambda r, b: _right(served, b), status(400, "maximum context length is 16 tokens"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"suite rows: row 1: .*maximum context.*shorten the row"):
        ask(served, asked_of(rows), ["generate"], tmp_path / "out", concurrency=1)


def test_the_key_is_in_no_file(served: Served, rows: Path, tmp_path: Path) -> None:
    served.key = "s3cret-key"
    served.answer = lambda _text: "your key is s3cret-key"
    folder = tmp_path / "out"
    folder.mkdir()

    async def run() -> None:
        async with Endpoint(served.url, model="demo", api_key="s3cret-key") as endpoint:
            await ask_suite(
                endpoint, asked_of(rows), ["generate"], folder,
                max_new_tokens=24, on_progress=lambda *_: None,
            )  # fmt: skip

    asyncio.run(run())
    written = [path.read_text() for path in folder.iterdir()]
    assert written
    assert all("s3cret-key" not in text for text in written)


def test_a_placeholder_for_a_key_may_be_a_label(served: Served, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", ["none", "some"], 2)
    folder = tmp_path / "out"
    folder.mkdir()

    async def run() -> dict[str, Answers]:
        async with Endpoint(served.url, model="demo", api_key="none") as endpoint:
            return await ask_suite(
                endpoint, asked_of(rows), ["generate"], folder,
                max_new_tokens=24, on_progress=lambda *_: None,
            )  # fmt: skip

    assert labels_of(asyncio.run(run())["generate"]) == ["none", "some"]


def test_open_answers_are_compared_as_squad_does(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "open.jsonl"
    path.write_text(json.dumps({"question": "Who?", "answer": "The Bank of Spain"}) + "\n")
    served.answer = lambda _text: "bank of spain."
    asked = asked_of_file(path, suite="rows")
    found = ask(served, asked, ["generate", "likelihood"], tmp_path / "out")
    answers = found["generate"].predictions
    assert answers is not None
    assert answers[0].label == answers[0].gold == "bank of spain"
    assert "open answers" in str(found["likelihood"].reason)
