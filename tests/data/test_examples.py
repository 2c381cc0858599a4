"""Rows of a shelf to examples: what cannot be rendered is quarantined, and what is the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.data.arrow import read_rows
from pipeline.data.examples import Batch, RenderPlan, RenderStep
from pipeline.data.shelf import ShelfWriter
from pipeline.stages.scratch import CHAT_TEMPLATE
from tests.data.preparing import TEXTS, adds_up, entries, names, prepare, tiny_base

PICKY = "{% if 'gull' in messages[0].content %}{{ raise_exception('no gulls') }}{% endif %}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_base(tmp_path_factory.mktemp("store") / "root")


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
    with pytest.raises(DataError, match=r"row 1: no assistant turn .*15 of 16 rows.*, 3 allowed"):
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


def test_turns_that_no_flag_marks_leave_nothing_to_learn(root: Artifact, tmp_path: Path) -> None:
    rows = [talk(text, "aye", train=n > 0) for n, text in enumerate(TEXTS[:3])]
    made, _ = prepare(
        tmp_path, root, {"train": rows}, source={"format": "messages"}, render="sft",
        loss_on="flag", max_quarantined=1,
    )  # fmt: skip
    assert names(made, "train") == ["1", "2"]
    assert entries(made, "quarantined")[0]["reason"] == "no assistant turn with train: true"


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
