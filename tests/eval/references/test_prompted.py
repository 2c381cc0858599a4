"""What the base is asked by itself, and what of it counts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_case import TOPICS, make_base, make_data, rows, run
from transformers import AutoModelForCausalLM, AutoTokenizer

from eval.record import read_predictions
from eval.references.prompted import Base, Prompted
from eval.references.prompts import CHINESE, ENGLISH, Asker, drawn
from eval.references.task import Item, Task, read_task
from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, ModelError

RENDER: dict[str, Any] = {"system": None, "chat_template_kwargs": {}}
CONFIG = {"seed": 0, "shots": 4, "max_new_tokens": 8, "answer_after": None}
LISTED = "Answer with exactly one of these labels and nothing else: harbour, kitchen, weather.\n\n"


def prompted(name: str, base: Artifact, task: Task, **more: Any) -> Prompted:
    return Prompted(name, task, Base(base.path, 8), RENDER, {**CONFIG, **more})


def by_template(base: Artifact, turns: list[tuple[str, str]]) -> list[int]:
    """Ids that transformers' own chat template makes of turns."""
    tokenizer = AutoTokenizer.from_pretrained(str(base.path))
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in turns],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


def test_without_rows_the_base_is_told_the_labels_and_the_text(
    base: Artifact, data: Artifact
) -> None:
    task = read_task(data.path)
    rung = prompted("zero_shot", base, task)
    item = task.test[0]
    assert rung.prompt(item) == by_template(base, [("user", f"{LISTED}Text: {item.text}")])
    assert rung.told["labels_listed"]


def test_shown_rows_are_turns_of_train_and_all_labels_come_once_first(
    base: Artifact, data: Artifact
) -> None:
    task = read_task(data.path)
    rung = prompted("few_shot", base, task, shots=3)
    shown = drawn(task, 3, 0)
    assert {item.labels[0] for item in shown} == set(TOPICS)
    assert {item.text for item in shown} <= {item.text for item in task.train}
    turns = []
    for index, item in enumerate(shown):
        turns += [("user", (LISTED if index == 0 else "") + f"Text: {item.text}")]
        turns += [("assistant", item.labels[0])]
    asked = task.test[1]
    assert rung.prompt(asked) == by_template(base, [*turns, ("user", f"Text: {asked.text}")])
    assert drawn(task, 3, 0) == shown != drawn(task, 3, 1)


def test_scores_are_the_labels_own_log_likelihoods_with_their_end(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    out, facts = run(tmp_path, {"data": data, "root": base}, "zero_shot")
    found = read_predictions(out / "predictions-test.jsonl")
    task = read_task(data.path)
    rung = prompted("zero_shot", base, task)
    model = AutoModelForCausalLM.from_pretrained(str(base.path), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(base.path))
    end = tokenizer.encode("<|im_end|>", add_special_tokens=False)
    assert len(end) == 1
    for item, prediction in list(zip(task.test, found, strict=True))[:3]:
        logs = {}
        for label in task.labels:
            prompt = rung.prompt(item)
            answer = [*tokenizer.encode(label, add_special_tokens=False), *end]
            with torch.no_grad():
                states = model(torch.tensor([[*prompt, *answer]])).logits[0].double()
            told = states.log_softmax(-1)[len(prompt) - 1 : -1]
            logs[label] = float(told.gather(1, torch.tensor(answer)[:, None]).sum())
        whole = math.log(sum(map(math.exp, logs.values())))
        assert prediction.scores == pytest.approx({k: v - whole for k, v in logs.items()}, rel=1e-4)
        assert prediction.label == max(logs, key=logs.__getitem__)
    assert facts["reference"]["asked_by"] == "likelihood of each label with its end"
    assert len(read_predictions(out / "validation-test.jsonl")) == len(task.validation)


def test_as_many_rows_are_shown_as_fit_and_their_number_is_told(
    base: Artifact, data: Artifact
) -> None:
    told = prompted("few_shot", base, read_task(data.path), shots=40).told
    assert 1 < told["shots"] < 40 == told["shots_wished"]
    whole = prompted("few_shot", base, read_task(data.path), shots=told["shots"])
    longest = max(len(whole.prompt(item)) for item in read_task(data.path).test)
    assert longest <= 256


def test_labels_that_do_not_fit_the_context_are_not_listed(base: Artifact, tmp_path: Path) -> None:
    names = [f"matter number {number} of the harbour office" for number in range(20)]
    train = [{"text": r["text"], "label": names[i % 20]} for i, r in enumerate(rows(14, 5)[:40])]
    task = read_task(make_data(tmp_path, base, {"train": train, "test": rows_of(train)}).path)
    rung = prompted("zero_shot", base, task)
    assert not rung.told["labels_listed"]
    assert len(rung.answers(task.test[:2])) == 2


def rows_of(given: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"text": f"tide {row['text']}", "label": row["label"]} for row in given[:4]]


def test_a_text_longer_than_the_context_is_refused_with_a_remedy(
    data: Artifact, tmp_path: Path
) -> None:
    short = make_base(tmp_path / "short", context=24)
    with pytest.raises(DataError, match="exceeds the base's context of 24 tokens; take it out"):
        prompted("zero_shot", short, read_task(data.path))


def test_plain_text_is_asked_where_there_is_no_chat_template(base: Artifact) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(base.path))
    tokenizer.chat_template = None
    asker = Asker(tokenizer, RENDER, ENGLISH, "Label:")
    prompt = asker.prompt("Choose.", [], "Text: the tide")
    assert tokenizer.decode(prompt) == "Choose.\n\nText: the tide\nLabel:"
    assert tokenizer.decode(asker.answer_ids("harbour")) == " harbour\n"
    assert tokenizer.decode([*{*asker.stops([7])} - {7}]) == "\n"


def test_chinese_texts_are_asked_in_chinese(base: Artifact) -> None:
    item = Item("a", "今日股市大涨", ("钱",))
    task = Task(("球", "钱"), False, (), (), (item,))
    rung = prompted("zero_shot", base, task)
    instruction = CHINESE.choose.format(labels="球、钱")
    assert rung.prompt(item) == by_template(base, [("user", f"{instruction}\n\n文本：{item.text}")])


def test_a_base_that_only_reads_is_asked_nothing(tmp_path: Path) -> None:
    from transformers import BertConfig

    BertConfig(architectures=["BertForMaskedLM"]).save_pretrained(str(tmp_path))
    with pytest.raises(ModelError, match="the base only reads text"):
        Base(tmp_path, 8)


def test_several_labels_are_not_asked_for(base: Artifact) -> None:
    item = Item("a", "salt", ("kitchen", "harbour"))
    with pytest.raises(DataError, match="a row may have several labels"):
        prompted("zero_shot", base, Task(("harbour", "kitchen"), True, (), (), (item,)))


def test_rows_cannot_be_shown_where_train_has_none(base: Artifact) -> None:
    item = Item("a", "salt", ("kitchen",))
    with pytest.raises(DataError, match="reference few_shot: train has no rows with an answer"):
        prompted("few_shot", base, Task(("harbour", "kitchen"), False, (), (), (item,)))


def test_a_rung_that_nobody_named_tells_why_it_does_not_fit(
    base: Artifact, data: Artifact, tmp_path: Path
) -> None:
    """By default every rung is asked: one that cannot be must not end the run."""
    short = make_base(tmp_path / "short", context=24)
    with pytest.raises(DataError, match="exceeds the base's context"):
        run(tmp_path / "named", {"data": data, "root": short}, "zero_shot")
    folder, facts = run(tmp_path / "other", {"data": data, "root": short}, "zero_shot", named=False)
    assert "exceeds the base's context of 24 tokens" in facts["not_asked"]
    assert not list(folder.glob("predictions-*"))
    _, facts = run(tmp_path / "fits", {"data": data, "root": base}, "zero_shot", named=False)
    assert "not_asked" not in facts
