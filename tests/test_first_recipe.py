"""`gradus init`: what it writes loads, plans and says why."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from pipeline.core.errors import UserError
from pipeline.core.recipe import load_recipe
from pipeline.core.schema import Recipe
from pipeline.core.store import Store
from pipeline.data.formats import converter
from pipeline.data.rows import Placed
from pipeline.data.sources import peek
from pipeline.first_recipe import FEWEST_ROWS, write_first_recipe
from pipeline.ladder import make_plan
from pipeline.rehearsal import rehearse

WORDS = ["card", "account", "transfer", "arrived", "lost", "pending", "wrong", "new", "old", "my"]
Rows = list[dict[str, Any]]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(8, 12)))


def rows_of(kind: str, count: int = 60) -> Rows:
    rng = random.Random(7)
    made: dict[str, Callable[[int], dict[str, Any]]] = {
        "classes": lambda i: {"text": sentence(rng), "label": f"kind_{i % 4}"},
        "other names": lambda i: {"id": i, "utterance": sentence(rng), "intent": f"i{i % 3}"},
        "numbers": lambda i: {"title": sentence(rng), "label": i % 2},
        "both": lambda i: {"text": sentence(rng), "label": i % 2, "label_text": "ab"[i % 2]},
        "unnamed": lambda i: {"words": sentence(rng), "mood": "good" if i % 3 else "bad"},
        "pair of classes": lambda i: {"input": sentence(rng), "output": "yes" if i % 3 else "no"},
        "pair": lambda _: {"prompt": sentence(rng), "completion": sentence(rng)},
        "alpaca": lambda i: {"instruction": sentence(rng), "output": sentence(rng),
                             "input": sentence(rng) if i % 2 else ""},
        "question": lambda i: {"question": sentence(rng), "answer": sentence(rng),
                               "context": sentence(rng), "doc_id": f"d{i // 3}"},
        "query": lambda _: {"query": sentence(rng), "answer": sentence(rng)},
        "chat": lambda _: {"messages": [{"role": "user", "content": sentence(rng)},
                                        {"role": "assistant", "content": sentence(rng)}]},
        "sharegpt": lambda _: {"conversations": [{"from": "human", "value": sentence(rng)},
                                                 {"from": "gpt", "value": sentence(rng)}]},
        "choices": lambda i: {"question": sentence(rng), "choices": ["yes", "no"],
                              "answer": i % 2},
        "text": lambda _: {"text": sentence(rng)},
        "pairs": lambda _: {"prompt": sentence(rng), "chosen": sentence(rng), "rejected": "no"},
        "entities": lambda i: {"text": f"Ann {i % 20} {sentence(rng)}", "entities": [
            {"start": 0, "end": 3, "label": "PER"}, {"start": 4, "end": 5, "label": f"N{i % 7}"},
        ][: i % 3]},
        "amount": lambda i: {"text": sentence(rng), "value": i / 4},
        "several": lambda i: {"text": sentence(rng), "labels": [f"k{i % 3}", f"m{i % 5}"]},
        "body": lambda i: {"url": f"/{i}", "body": sentence(rng)},
    }  # fmt: skip
    return [made[kind](i) for i in range(count)]


def write(folder: Path, name: str, rows: Sequence[dict[str, Any]]) -> Path:
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(
                stream, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ","
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


def parts(recipe: Recipe) -> tuple[Any, Any]:
    assert recipe.data is not None
    assert recipe.train is not None
    return recipe.data, recipe.train


CASES = [
    ("classes", "classification", {}, ("sft", "classify")),
    ("other names", "classification", {"text": "utterance", "label": "intent"},
     ("sft", "classify")),
    ("numbers", "classification", {"text": "title"}, ("sft", "classify")),
    ("both", "classification", {"label": "label_text"}, ("sft", "classify")),
    ("unnamed", "classification", {"text": "words", "label": "mood"}, ("sft", "classify")),
    ("pair of classes", "classification", {"text": "input", "label": "output"},
     ("sft", "classify")),
    ("pair", "prompt_completion", {}, ("sft",)),
    ("alpaca", "alpaca", {}, ("sft",)),
    ("question", "question_answer", {}, ("sft",)),
    ("query", "question_answer", {"question": "query"}, ("sft",)),
    ("chat", "messages", {}, ("sft",)),
    ("sharegpt", "sharegpt", {}, ("sft",)),
    ("choices", "question_answer", {}, ("sft",)),
    ("text", "text", {}, ("cpt",)),
    ("body", "text", {"text": "body"}, ("cpt",)),
    ("pairs", "preference", {}, ("dpo",)),
    ("entities", "tagging", {}, ("tag",)),
    ("amount", "regression", {}, ("regress",)),
    ("several", "classification", {}, ("sft", "classify")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "form", "columns", "objectives", "suffix"),
    [
        (*case, suffix)
        for case in CASES
        for suffix in ("jsonl", "json", "csv", "tsv")
        # A table holds no lists.
        if case[0] not in {"chat", "sharegpt", "choices", "entities", "amount", "several"}
        or suffix.startswith("json")
    ],
)
def test_what_is_written_loads_plans_and_reads_its_rows(
    tmp_path: Path, model_folder: Path, kind: str, form: str, columns: dict[str, str],
    objectives: tuple[str, ...], suffix: str,
) -> None:  # fmt: skip
    data = write(tmp_path, f"My data.{suffix}", rows_of(kind))
    path = write_first_recipe(data, str(model_folder), tmp_path / "out/mine.yaml")
    recipe = load_recipe(path).recipe
    rows, train = parts(recipe)
    assert (recipe.name, recipe.level) == ("mine", "L2")
    assert (rows.train[0].format, rows.train[0].columns) == (form, columns)
    assert train.objective == objectives
    store = Store(tmp_path / "store")
    plan = make_plan(path, store)
    assert set(plan.status(store).values()) == {"run"}
    assert plan.nodes["model/fetch"].files["folder"] == model_folder
    rehearse(plan, store)


@pytest.mark.parametrize("kind", ["classes", "question", "text", "chat"])
def test_split_files_hold_every_row_once_and_the_same_each_time(
    tmp_path: Path, model_folder: Path, kind: str
) -> None:
    rows = rows_of(kind, 200)
    data = write(tmp_path, "rows.jsonl", rows)
    first = write_first_recipe(data, str(model_folder), tmp_path / "one/x.yaml")
    again = write_first_recipe(data, str(model_folder), tmp_path / "two/x.yaml")
    split = {name: lines(first.parent / f"x-{name}.jsonl") for name in ("train", "test")}
    assert sorted(map(json.dumps, split["train"] + split["test"])) == sorted(map(json.dumps, rows))
    assert len(split["test"]) == pytest.approx(20, abs=4)
    for name in ("x-train.jsonl", "x-test.jsonl"):
        assert (first.parent / name).read_bytes() == (again.parent / name).read_bytes()


def test_every_label_is_tested_and_learned(tmp_path: Path, model_folder: Path) -> None:
    rows = rows_of("classes", 100)
    rows += [{"text": f"{sentence(random.Random(i))} {i}", "label": "rare"} for i in range(3)]
    data = write(tmp_path, "rows.csv", rows)
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    labels = {row["label"] for row in rows}
    for name in ("train", "test"):
        assert {row["label"] for row in lines(path.parent / f"x-{name}.jsonl")} == labels


def test_rows_of_one_document_stay_on_one_side(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path, "rows.jsonl", rows_of("question", 120))
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    found = [{row["doc_id"] for row in lines(path.parent / f"x-{name}.jsonl")}
             for name in ("train", "test")]  # fmt: skip
    assert not found[0] & found[1]
    rows, _ = parts(load_recipe(path).recipe)
    assert rows.validation.by == "doc_id"


def test_alpacas_input_is_read_behind_its_instruction(tmp_path: Path, model_folder: Path) -> None:
    rows = rows_of("alpaca")
    data = write(tmp_path, "rows.jsonl", rows)
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    expected = {f"{r['instruction']}\n\n{r['input']}" if r["input"] else r["instruction"]
                for r in rows}  # fmt: skip
    data_part, _ = parts(load_recipe(path).recipe)
    convert = converter(data_part.train[0].format, columns={}, prompt=None, keep=())
    found = [row for name in ("train", "test")
             for row in peek(str(path.parent / f"x-{name}.jsonl"), place="data")]  # fmt: skip
    asked = {convert(row.row)["messages"][0]["content"] for row in found if isinstance(row, Placed)}
    assert asked == expected


def test_rows_that_do_not_fit_are_left_out_and_named(tmp_path: Path, model_folder: Path) -> None:
    rows = rows_of("classes", 300)
    data = write(tmp_path, "rows.jsonl", [*rows, {"text": "", "label": "kind_1"}])
    with data.open("a") as stream:
        stream.write("{broken\n")
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    split = [row for name in ("train", "test") for row in lines(path.parent / f"x-{name}.jsonl")]
    assert sorted(map(json.dumps, split)) == sorted(map(json.dumps, rows))
    text = path.read_text()
    assert "# Left out, 2 rows that do not fit:\n" in text
    assert "rows.jsonl:301: text is empty\n" in text
    assert "rows.jsonl:302: " in text


def test_an_encoder_classifies_or_reads(tmp_path: Path, model_folder: Path) -> None:
    config = {"architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 512}
    (model_folder / "config.json").write_text(json.dumps(config))
    base = str(model_folder)
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    _, train = parts(load_recipe(write_first_recipe(data, base, tmp_path / "x.yaml")).recipe)
    assert (train.objective, train.method) == (("classify",), "full")
    data = write(tmp_path, "texts.csv", rows_of("text"))
    _, train = parts(load_recipe(write_first_recipe(data, base, tmp_path / "y.yaml")).recipe)
    assert train.objective == ("mlm",)
    data = write(tmp_path, "pairs.csv", rows_of("pair"))
    with pytest.raises(UserError, match="an encoder cannot write the answers"):
        write_first_recipe(data, base, tmp_path / "z.yaml")


def test_a_base_without_a_chat_template_gets_one(tmp_path: Path, model_folder: Path) -> None:
    from pipeline.data.rendering import Renderer
    from pipeline.stages.scratch import train_tokenizer

    (model_folder / "tokenizer_config.json").write_text("{}")
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    rows, _ = parts(load_recipe(path).recipe)
    assert rows.chat_template == "x.jinja"
    store = Store(tmp_path / "store")
    rehearse(make_plan(path, store), store)
    tokenizer = train_tokenizer(["User: a card\nAssistant: kind_1"], 400)
    tokenizer.chat_template = (tmp_path / "x.jinja").read_text()
    made = Renderer(tokenizer, causal=True)
    (whole,) = made.conversation(made.messages("a card", "kind_1"))
    assert tokenizer.decode(whole.input_ids) == "User: a card\nAssistant: kind_1<|im_end|>"
    assert whole.input_ids[-1] == tokenizer.eos_token_id
    assert whole.supervised[-1] == 1


def test_where_the_rows_went_is_told(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    told: list[str] = []
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml", told.append)
    (line,) = told
    for split in ("train", "test"):
        file = path.with_name(f"x-{split}.jsonl")
        assert file.name in line
        assert f"{len(file.read_text().splitlines()):,} " in line


def test_a_recipe_is_a_base_and_its_name_is_not_taken_again(tmp_path: Path, ladder: Path) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    path = write_first_recipe(data, str(ladder.parent / "l1.yaml"), tmp_path / "tiny-l1.yaml")
    recipe = load_recipe(path).recipe
    assert recipe.name == "tiny-l1-l2"
    assert recipe.base == "recipes/l1.yaml"
    _, train = parts(recipe)
    # The family's base holds 128 positions.
    assert train.max_length == 128
    plan = make_plan(path, Store(tmp_path / "store"))
    assert "tiny-l1/train.cpt.seed1" in plan.nodes


def test_a_hub_id_is_taken_unseen(tmp_path: Path) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    kinds = {"Qwen/Qwen3-0.6B": ("sft", "classify"),
             "sentence-transformers/all-MiniLM-L6-v2": ("classify",)}  # fmt: skip
    for index, (base, objectives) in enumerate(kinds.items()):
        path = write_first_recipe(data, base, tmp_path / f"{index}.yaml")
        recipe = load_recipe(path).recipe
        assert recipe.base == base
        assert parts(recipe)[1].objective == objectives


def test_recipe_opens_with_its_command_and_says_why(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    text = path.read_text()
    assert text.startswith(f"# gradus run {path}\n")
    assert "60 rows" in text
    assert "4 labels" in text
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 100
    comments = [line for line in text.splitlines() if "#" in line]
    assert len(comments) >= 8


def test_default_name_is_that_of_the_file(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path, "Ünruly Näme (2).csv", rows_of("classes"))
    path = write_first_recipe(data, str(model_folder), None)
    assert path == Path("nruly-n-me-2.yaml")
    assert load_recipe(path).recipe.name == "nruly-n-me-2"


@pytest.mark.parametrize("name", ["yes", "1e5", "null", "a: b", "x #y", "'q'", "{x}", "é\u2028"])
def test_column_names_are_quoted_where_yaml_would_read_them_otherwise(
    tmp_path: Path, model_folder: Path, name: str
) -> None:
    rows = [{name: row["text"], "label": row["label"]} for row in rows_of("classes")]
    data = write(tmp_path, "rows.jsonl", rows)
    path = write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
    data_part, _ = parts(load_recipe(path).recipe)
    assert data_part.train[0].columns == {"text": name}


def test_nothing_is_overwritten(tmp_path: Path, model_folder: Path) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    for name in ("x.yaml", "x-train.jsonl", "x-test.jsonl"):
        other = tmp_path / name
        other.write_text("mine")
        with pytest.raises(UserError, match="is there already") as caught:
            write_first_recipe(data, str(model_folder), tmp_path / "x.yaml")
        assert str(other) in str(caught.value)
        assert other.read_text() == "mine"
        other.unlink()
        assert not list(tmp_path.glob("x*"))


def with_row(rows: Rows, row: dict[str, Any]) -> Rows:
    return [*rows, row]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of("classes", FEWEST_ROWS - 1), "holds 19 rows; 20 are the fewest"),
        (with_row(rows_of("classes"), {"text": "", "label": "kind_1"}), ":61: text is empty"),
        (with_row(rows_of("chat"), {"messages": []}), "rows.jsonl:61: no messages"),
        ([{"text": "\ud83d"}] * 30, "rows.jsonl:1: half of a surrogate pair"),
        ([{"n": i} for i in range(30)], "no column reads as text (found n)"),
        ([{"a": "x " * 30, "b": i % 2, "c": i % 3} for i in range(60)], "b, c could each be the"),
        ([{"conversations": [{"from": "human", "value": "x"}]}] * 30, "no answer to learn"),
        ([{"question": "x" * 30, "choices": ["a", "b"]}] * 30, "nothing to learn"),
        ([{"text": "the same text", "label": "ab"[i % 2]} for i in range(30)], "too many are"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_is_one_line_and_nothing_is_written(
    tmp_path: Path, model_folder: Path, rows: Rows, words: str
) -> None:
    data = write(tmp_path, "rows.jsonl", rows)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        write_first_recipe(data, str(model_folder), tmp_path / "out/x.yaml")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("gone.yaml", "--base gone.yaml: no such recipe; check the path"),
        ("gone", "no recipe, no folder and no hub id"),
        ("", "config.json cannot be read"),
        (".", "config.json cannot be read"),
    ],
)
def test_a_base_that_is_none_is_one_line(
    tmp_path: Path, base: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write(tmp_path, "rows.jsonl", rows_of("classes"))
    with pytest.raises(UserError) as caught:
        write_first_recipe(data, base, None)
    assert words in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_the_command_says_what_to_run_next(
    gradus: Callable[..., Result], refusal: Callable[..., str], tmp_path: Path, model_folder: Path
) -> None:
    data = write(tmp_path, "rows.csv", rows_of("classes"))
    words = ["init", "--data", data, "--base", model_folder, "--out", tmp_path / "x.yaml"]
    result = gradus(*words)
    assert result.stdout == f"gradus run {tmp_path}/x.yaml\n"
    assert "were drawn for its test split" in result.stderr
    assert gradus("plan", tmp_path / "x.yaml").exit_code == 0
    assert "is there already" in refusal(*words)
    assert "no such file" in refusal("init", "--data", tmp_path / "gone.csv", "--base", "a/b")
    assert "not a recipe's name" in refusal("init", "--data", data, "--base", "a/b",
                                            "--out", tmp_path / "x.txt")  # fmt: skip
