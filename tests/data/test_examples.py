"""Rows of a shelf to examples: what cannot be rendered is quarantined, and what is the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.loaded import prompt_ids
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.examples import Batch, RenderPlan, RenderStep
from pipeline.data.rendering import Renderer
from pipeline.data.shelf import ShelfWriter
from pipeline.modeling.loading import load_tokenizer
from pipeline.stages.scratch import CHAT_TEMPLATE
from tests.data.preparing import TEXTS, adds_up, entries, names, prepare
from tests.data.rendering_cases import tiny

# Qwen3's way: an answer opens with a thought; not asked for one, serving puts an empty one.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{{ '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% if enable_thinking is false %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
THOUGHT = {"reasoning_content": "because"}
PICKY = "{% if 'gull' in messages[0].content %}{{ raise_exception('no gulls') }}{% endif %}"


def talk(question: str, answer: str, **more: Any) -> dict[str, Any]:
    turn = {"role": "assistant", "content": answer, **more}
    return {"messages": [{"role": "user", "content": question}, turn]}


def test_a_row_that_the_template_refuses_is_quarantined_by_its_name(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [talk(text, "aye") for text in TEXTS[:4]]
    rows[2] = {"id": "bad", **talk("a gull", "aye")}
    made, facts = prepare(
        tmp_path, root, {"train": rows}, source={"format": "messages"}, render="sft",
        chat_template=PICKY + CHAT_TEMPLATE, max_quarantined=1,
    )  # fmt: skip
    assert names(made, "train") == ["0", "1", "3"]
    assert adds_up(facts)
    (entry,) = entries(made, "quarantined")
    assert (entry["id"], entry["text"]) == ("bad", "a gull")
    assert entry["reason"] == "the chat template refuses it: no gulls"


def test_more_rows_that_cannot_be_rendered_than_may_be_quarantined_stop_the_run(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [talk(text, "aye", train=n == 0) for n, text in enumerate(TEXTS)]
    with pytest.raises(DataError, match=r"row 1: all assistant turns .*15 of 16 rows.*, 3 allowed"):
        prepare(
            tmp_path, root, {"train": rows}, source={"format": "messages"}, render="sft",
            loss_on="flag", max_quarantined=0.2,
        )  # fmt: skip


def test_a_question_that_the_template_refuses_is_quarantined(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate([*TEXTS[:4], "a gull"])]
    made, facts = prepare(
        tmp_path, root, {"test": rows}, render="classify", chat_template=PICKY + CHAT_TEMPLATE,
        max_quarantined=1,
    )  # fmt: skip
    assert names(made, "test") == ["0", "1", "2", "3"]
    assert [entry["id"] for entry in entries(made, "quarantined")] == ["4"]
    assert adds_up(facts)


@pytest.mark.parametrize(
    ("loss_on", "flag"), [("flag", "train"), ("assistant", "train"), ("last", "weight")]
)
def test_turns_that_say_train_false_leave_nothing_to_learn(
    root: Artifact, tmp_path: Path, loss_on: str, flag: str
) -> None:
    said = (False, True) if flag == "train" else (0, 1)
    rows = [talk(text, "aye", **{flag: said[n > 0]}) for n, text in enumerate(TEXTS[:3])]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, source={"format": "messages"}, render="sft",
        loss_on=loss_on, max_quarantined=1,
    )  # fmt: skip
    assert names(made, "train") == ["1", "2"]
    assert entries(made, "quarantined")[0]["reason"].endswith("nothing is left to learn")


def test_what_is_judged_does_not_go_by_what_is_learned(root: Artifact, tmp_path: Path) -> None:
    flagged = [talk(text, "aye", train=False) for text in TEXTS[:3]]
    plain = [talk(text, "aye") for text in TEXTS[:3]]
    first, second = (
        read_rows(
            prepare(tmp_path / name, root, {"test": rows}, source={"format": "messages"},
                    render="sft")[0].path / "test.arrow"
        )
        for name, rows in (("f", flagged), ("p", plain))
    )  # fmt: skip
    assert first == second


@pytest.mark.parametrize("thinking", [None, False, True])
def test_a_test_row_is_asked_as_serving_asks_it_whatever_the_suite_holds(
    root: Artifact, tmp_path: Path, thinking: bool | None
) -> None:
    kwargs = {} if thinking is None else {"enable_thinking": thinking}
    train = [talk(text, "aye", **(THOUGHT if thinking else {})) for text in TEXTS[:2]]
    test = [talk("a gull", "aye", **THOUGHT), talk("a crow", "<think>hm</think>\n\naye"),
            talk("a tern", "aye")]  # fmt: skip
    given: dict[str, Any] = {
        "source": {"format": "messages"}, "render": "sft", "chat_template": THINKING,
        "chat_template_kwargs": kwargs,
    }  # fmt: skip
    made = [
        prepare(tmp_path / name, root, splits, **given)[0]
        for name, splits in (("own", {"train": train, "test": test}), ("suite", {"test": test}))
    ]
    told = [json.loads((one.path / "render.json").read_text()) for one in made]
    assert [one["chat_template_kwargs"] for one in told] == [
        {"enable_thinking": bool(thinking)}
    ] * 2
    tokenizer = load_tokenizer(root.path)
    tokenizer.chat_template = THINKING
    for one in made:
        rows = read_rows(one.path / "test.arrow")
        for row, asked in zip(rows, test, strict=True):
            served = tokenizer.apply_chat_template(
                asked["messages"][:1], add_generation_prompt=True, return_dict=True,
                enable_thinking=bool(thinking),
            )  # fmt: skip
            assert prompt_ids(row) == served["input_ids"]
    for row in read_rows(made[0].path / "train.arrow"):
        assert 0 < row["prompt"] <= row["supervised"].index(1)


def test_training_rows_that_think_ask_the_recipe_to_say_so(root: Artifact, tmp_path: Path) -> None:
    rows = [talk(text, "aye", **(THOUGHT if n == 2 else {})) for n, text in enumerate(TEXTS)]
    given: dict[str, Any] = {"source": {"format": "messages"}, "render": "sft"}
    with pytest.raises(
        DataError, match=r"row 2 holds thinking.*chat_template_kwargs: \{enable_thinking: true\}"
    ):
        prepare(tmp_path / "q", root, {"train": rows}, chat_template=THINKING, **given)
    # A template that does not ask, and a row that does not reach training.
    prepare(tmp_path / "c", root, {"train": rows}, **given)
    judged = [talk(TEXTS[2], "aye"), *birds()]
    made, _ = prepare(
        tmp_path / "d", root, {"train": rows, "test": judged}, chat_template=THINKING, **given
    )
    assert "2" not in names(made, "train")
    told = json.loads((made.path / "render.json").read_text())
    assert told["chat_template_kwargs"] == {"enable_thinking": False}


def birds() -> list[dict[str, Any]]:
    return [talk(f"{n} gulls above the pier", "aye") for n in ("five", "six", "seven", "eight")]


@pytest.mark.parametrize("render", ["sft", "classify"])
def test_a_label_cannot_answer_what_is_answered(
    root: Artifact, tmp_path: Path, render: str
) -> None:
    rows = [{**talk(text, "aye"), "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    with pytest.raises(DataError, match=r"row 0: format classification .* ends with the assistant"):
        prepare(tmp_path, root, {"train": rows}, render=render)


def test_a_document_that_is_cut_is_whole_in_its_windows_and_noted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long, short = "one ship " * 40, "one ship"
    writer = ShelfWriter(tmp_path / "shelf.arrow")
    cells = [[json.dumps({"text": text}) for text in (long, short)], *[["", ""]] * 4]
    at = np.arange(2, dtype=np.int64)
    writer.write(cells, [None] * 2, {"ordinal": at, "source": at, "id_hash": at.astype(np.uint64)})
    shelf = writer.close()
    tokenizer = tiny()
    monkeypatch.setattr(RenderStep, "renderer", Renderer(tokenizer, causal=True))
    zero = np.zeros(2, np.int64)
    for policy in ("error", "drop"):
        step = RenderStep(RenderPlan("text", "all", 32, policy, None), "train")
        cut, whole = step(Batch(shelf.path, 0, 0, zero, at, zero, zero))
        assert (cut.note, whole.note) == ("documents cut into windows", None)
        assert (cut.lost, cut.entry) == (None, None)
        joined = [number for row in cut.rows for number in row["input_ids"]]
        assert joined == [*tokenizer(long)["input_ids"], tokenizer.eos_token_id]


def test_a_label_answers_a_conversation_that_ends_with_the_question(
    root: Artifact, tmp_path: Path
) -> None:
    rows = [{"messages": talk(text, "x")["messages"][:1], "label": "ab"[n % 2]}
            for n, text in enumerate(TEXTS)]  # fmt: skip
    plain = [{"text": text, "label": "ab"[n % 2]} for n, text in enumerate(TEXTS)]
    made = [
        prepare(tmp_path / name, root, {"train": given}, render="sft")[0]
        for name, given in (("m", rows), ("t", plain))
    ]
    first, second = (read_rows(one.path / "train.arrow") for one in made)
    assert first == second
    assert {row["label"] for row in first} == {"a", "b"}


def test_the_answer_of_a_conversation_is_its_last_turn(root: Artifact, tmp_path: Path) -> None:
    made, _ = prepare(
        tmp_path, root, {"test": [talk("one ship", "aye")]}, source={"format": "messages"},
        render="sft",
    )  # fmt: skip
    assert [row["label"] for row in read_rows(made.path / "test.arrow")] == ["aye"]


def test_a_document_has_no_answer_to_learn(root: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 0: format text has no answer"):
        prepare(tmp_path, root, {"train": [{"text": "a ship"}]}, render="sft")


def test_a_step_without_its_renderer_is_a_defect_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = ShelfWriter(tmp_path / "shelf.arrow")
    one = np.zeros(1, np.int64)
    writer.write([['{"text": "a"}'], ["a"], [""], ["a"], [""]], [None],
                 {"ordinal": one, "source": one, "id_hash": one.astype(np.uint64)})  # fmt: skip
    shelf = writer.close()
    monkeypatch.setattr(RenderStep, "renderer", None)
    step = RenderStep(RenderPlan("text", "all", 8, "error", None))
    with pytest.raises(RuntimeError, match=r"RenderStep\.use"):
        step(Batch(shelf.path, 0, 0, one, one, one, one))
