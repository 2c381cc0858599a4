"""`gradus data` as a tired user meets it: mistakes told in a line, nothing acts on the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.text import Text

from pipeline.data.arrow import write_split
from pipeline.data_view import coloured, print_data, print_rows, visible

Gradus = Callable[..., Result]
Refusal = Callable[..., str]
CLASSES = [{"text": f"row number {i}", "label": "ab"[i % 2]} for i in range(40)]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def recipe(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    """Writes a recipe over a model folder; rows.jsonl lies beside it."""
    jsonl(tmp_path / "rows.jsonl", CLASSES)
    jsonl(
        tmp_path / "sharegpt.jsonl",
        [
            {"conversations": [{"from": "human", "value": f"q {i}"}, {"from": "gpt", "value": "a"}]}
            for i in range(20)
        ],
    )

    def write(train: str = "{path: rows.jsonl}", more: str = "") -> Path:
        path = tmp_path / "mine.yaml"
        # A head learns from classes alone.
        objective = "sft" if "messages" in train else "classify"
        path.write_text(
            f"name: mine\nlevel: L2\nbase: {model_folder.name}\ndata:\n  train: {train}\n{more}"
            f"train: {{objective: {objective}}}\n"
        )
        return path

    return write


@pytest.mark.parametrize(
    ("train", "more", "words"),
    [
        ("{path: rows.jsonl, format: messages}", "", "rows.jsonl:1: no column 'messages'"),
        ("{path: sharegpt.jsonl, format: messages}", "", "sharegpt.jsonl:1: turn 1: a turn with"),
        ("{path: rows.jsonl, format: alpaca}", "", "classify learns from format classification;"),
        ("{path: rows.jsonl, columns: {text: body, topic: gone}}", "", "'gone' is no column of"),
        ("{path: rows.jsonl, format: classification, columns: {labels: gone}}", "", "'gone' is no"),
        ("{path: rows.jsonl, prompt: 'Say {what}'}", "", "prompt names {what}, which the row"),
        ("{path: rows.jsonl}", "  test: {path: rows.jsonl}\n", "its own test split"),
        ("{path: rows.jsonl}", "  test: {path: ./rows.jsonl}\n", "its own test split"),
        ("{path: rows.jsonl}", "  max_quarantined: -1\n", "greater than or equal to 0"),
        ("{path: rows.jsonl}", "  max_quarantined: .nan\n", "max_quarantined"),
        ("{path: rows.jsonl}", "  validation: {carve: 0.1, by: gone}\n", "no column 'gone'"),
        ("{path: 'http://127.0.0.1:9/rows.jsonl'}", "", "127.0.0.1:9/rows.jsonl: "),
        ("{path: 'nope://x/rows.jsonl'}", "", "Protocol not known"),
        ("{path: 'file:///gone/rows.jsonl'}", "", "check the path"),
        ("{path: gone.jsonl}", "", "gone.jsonl: no such file"),
        ("[]", "", "data.train"),
    ],
)  # fmt: skip
def test_a_slip_in_a_recipe_is_one_line_with_its_place(
    recipe: Callable[..., Path], refusal: Refusal, train: str, more: str, words: str
) -> None:
    message = refusal("data", recipe(train, more))
    assert "mine.yaml:" in message
    assert words in message


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_plan_and_run_find_the_same_slip(
    recipe: Callable[..., Path], refusal: Refusal, verb: str
) -> None:
    path = recipe("{path: rows.jsonl, columns: {text: body, topic: gone}}")
    assert "'gone' is no column of any row" in refusal(verb, path)


def test_a_huge_max_quarantined_is_taken(recipe: Callable[..., Path], gradus: Gradus) -> None:
    assert gradus("plan", recipe(more="  max_quarantined: 1000000000\n")).exit_code == 0


def test_set_changes_where_rows_come_from(
    recipe: Callable[..., Path], gradus: Gradus, refusal: Refusal
) -> None:
    path = recipe("{path: gone.jsonl}")
    assert gradus("plan", path, "--set", "data.train.path=rows.jsonl").exit_code == 0
    assert "away.jsonl: no such file" in refusal(
        "plan", path, "--set", "data.train.path=away.jsonl"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rows.jsonl", "--set", "data.train.path=x"], "--set"),
        (["rows.jsonl", "--show", "5"], "--show: rows are rendered by a recipe's tokenizer"),
        (["gone.jsonl"], "no such file; name a recipe"),
        (["gone.yaml"], "no such recipe"),
        (["http://127.0.0.1:9/rows.jsonl"], "a URL is read by a recipe"),
        (["mine.yaml", "--format", "text"], "a recipe names its formats itself"),
    ],
)
def test_what_a_file_cannot_be_asked_is_refused(
    recipe: Callable[..., Path],
    refusal: Refusal,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(recipe().parent)
    assert words in refusal("data", *arguments)


def test_rows_that_all_fail_the_named_format_are_no_success(
    recipe: Callable[..., Path], gradus: Gradus
) -> None:
    result = gradus("data", recipe().parent / "rows.jsonl", "--format", "messages")
    assert result.exit_code == 2
    assert "no row reads as messages" in result.stderr
    assert "rows.jsonl:1" in result.stdout


def test_the_last_line_of_json_is_one_object(tmp_path: Path, gradus: Gradus) -> None:
    result = gradus("data", jsonl(tmp_path / "rows.jsonl", CLASSES), "--json")
    tree = json.loads(result.stdout.splitlines()[-1])
    assert tree["funnel"]["rows"]["read"] == len(CLASSES)
    assert tree["balance"]["counts"] == {"a": 20, "b": 20}


def test_a_folder_of_mixed_files_accounts_for_each(tmp_path: Path, gradus: Gradus) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    jsonl(folder / "a.jsonl", CLASSES)
    (folder / "b.csv").write_text("text,label\none,a\ntwo,b\n")
    (folder / "c.md").write_text("# A document")
    (folder / "d.bin").write_bytes(b"\0")
    result = gradus("data", folder)
    assert result.exit_code == 0, result.output
    assert "42 of 44 rows; 2 quarantined, see below" in result.stdout
    for place in ("c.md: row 1", "d.bin"):
        assert place in result.stdout


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = jsonl(tmp_path / "rows.jsonl", CLASSES)
    whole = Path.open

    def denied(self: Path, *args: Any, **more: Any) -> Any:
        # Whoever runs the tests may be root, whom no mode of a file stops.
        if self == file:
            raise PermissionError(13, "Permission denied", str(file))
        return whole(self, *args, **more)

    monkeypatch.setattr(Path, "open", denied)
    assert "rows.jsonl: Permission denied" in refusal("data", file)


def test_zstandard_is_read(tmp_path: Path, gradus: Gradus) -> None:
    zstandard = pytest.importorskip("zstandard")
    file = jsonl(tmp_path / "rows.jsonl", CLASSES)
    packed = tmp_path / "rows.jsonl.zst"
    packed.write_bytes(zstandard.ZstdCompressor().compress(file.read_bytes()))
    assert "40 of 40 rows" in gradus("data", packed).stdout


HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egnp.exe [/] [red]"


def test_no_text_of_the_rows_acts_on_the_terminal(tmp_path: Path, gradus: Gradus) -> None:
    rows = [{"text": f"{HOSTILE} {i}", "label": f"{HOSTILE}{i % 2}"} for i in range(20)]
    file = jsonl(tmp_path / "rows\x1b[31m[red].jsonl", [*rows, {"text": 3, "label": HOSTILE}])
    result = gradus("data", file)
    assert result.exit_code == 0, result.output
    assert not set("\x1b\x07\x9b\u202e") & set(result.stdout)
    assert "[red].jsonl" in result.stdout
    assert r"\x1b[31m" in result.stdout


def test_right_to_left_text_is_left_as_it_is(tmp_path: Path, gradus: Gradus) -> None:
    rows = [{"text": f"مرحبا {i}", "label": ["نعم", "لا"][i % 2]} for i in range(20)]
    assert "نعم" in gradus("data", jsonl(tmp_path / "rows.jsonl", rows)).stdout
    assert visible("نعم 好 👨‍👩‍👧") == "نعم 好 👨‍👩‍👧"


def test_labels_stand_in_one_column_however_long_or_many(tmp_path: Path, gradus: Gradus) -> None:
    rows = [{"text": f"t {i}", "label": f"{'好' * (i % 50)}{i // 2}"} for i in range(20_000)]
    file = jsonl(tmp_path / "rows.jsonl", rows)
    result = gradus("data", file, "--format", "classification")
    lines = result.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("labels: "))
    assert "labels: 20,000" in lines[start] or "labels: 10,000" in lines[start]
    counted = [line for line in lines[start + 1 :] if line[-1:].isdigit()]
    assert len(counted) == 12
    assert {Text(line).cell_len for line in counted} == {Text(counted[0]).cell_len}
    assert sum(line.startswith("note: ") for line in lines) <= 6


def test_lengths_stand_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    tally = {"examples": 4, "tokens": 9, "supervised_tokens": 0,
             "lengths": {"1024": 1, "128": 1, "16": 1, "64": 1}}  # fmt: skip
    funnel = {"train": {"read": 4, "kept": 4, "details": {}}}
    print_data({"n": {"sources": [], "funnel": funnel, "examples": {"train": tally}, "folder": ""}})
    told = capsys.readouterr().out
    ends = [line.split()[2] for line in told.splitlines() if "up to" in line]
    assert ends == ["16", "64", "128", "1,024"]
    assert "read by a head" in told


class Letters:
    """A tokenizer whose ids are code points."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))


def test_trained_tokens_are_green_and_the_rest_is_grey() -> None:
    text = coloured(Letters(), [97, 27, 98, 99], [0, 0, 1, 1])
    assert text.plain == r"a\x1bbc"
    assert [(s.start, s.end, s.style) for s in text.spans] == [
        (0, 5, "bright_black"),
        (5, 7, "green"),
    ]


def test_what_was_dropped_is_shown_without_its_escapes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.modeling.loading.load_tokenizer", lambda _folder: Letters())
    entry = {"split": "train", "place": f"a{HOSTILE}:1", "reason": HOSTILE, "text": HOSTILE}
    jsonl(tmp_path / "dropped.jsonl", [{**entry, "tokens": 9, "because": HOSTILE}])
    jsonl(tmp_path / "quarantined.jsonl", [entry])
    print_rows(tmp_path, tmp_path, 100)
    told = capsys.readouterr().out
    assert not set("\x1b\x07\x9b\u202e") & set(told)
    assert told.count("[/] [red]") == 6
    assert "9 tokens" in told


def row_of(**columns: Any) -> dict[str, Any]:
    ids = list(map(ord, columns.pop("said")))
    return {"example_id": "r", "text": "", "input_ids": ids, "supervised": [], **columns}


def test_what_each_objective_reads_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.modeling.loading.load_tokenizer", lambda _folder: Letters())
    (tmp_path / "labels.json").write_text('["O", "B-PER", "I-PER"]')
    (tmp_path / "features.json").write_text('[{"name": "size", "column": "size"}]')
    write_split(tmp_path / "train.arrow", [
        row_of(said="Ann Bo met", tags=[1, 2, 2, 0, 1, 2, 0, 0, 0, 0]),
        row_of(said="Q:yes", supervised=[0, 0, 1, 1, 1], prompt=2,
               rejected_ids=list(map(ord, "Q:no")), rejected_supervised=[0, 0, 1, 1]),
        row_of(said="far", value=-2.5),
        row_of(said="sea", label="x, y", labels=["x", "y"], features=[3.0]),
        row_of(said="sea", label="", labels=[]),
    ])  # fmt: skip
    print_rows(tmp_path, tmp_path, 9)
    told = capsys.readouterr().out
    for words in (
        "Ann[PER] Bo[PER] met", "Q:yes\nrejected: no\n", "3 tokens, value -2.5",
        "3 tokens, labels x, y, size 3", "3 tokens, labels none",
    ):  # fmt: skip
        assert words in told


def test_entities_and_numbers_of_a_file_are_told(tmp_path: Path, gradus: Gradus) -> None:
    span = {"start": 0, "end": 3, "label": "PER"}
    rows = [{"text": f"Ann {n} is here", "entities": [span] * (n % 2)} for n in range(20)]
    rows.append({"text": "Ann", "entities": [{**span, "end": 9}]})
    told = gradus("data", jsonl(tmp_path / "t.jsonl", rows)).stdout
    assert "read as tagging, 20 of 21 rows" in told
    assert "rows without an entity: 10" in told
    assert "an entity from 0 to 9 is out of range" in told
    assert "labels: 1, from 10 to 10 rows" in told
    rows = [{"text": f"row {n}", "score": n / 8} for n in range(20)]
    file = jsonl(tmp_path / "r.jsonl", rows)
    assert "no row reads as regression" in gradus("data", file, "--format", "regression").output
    rows = [{"text": f"row {n}", "value": n / 8} for n in range(20)]
    told = gradus("data", jsonl(tmp_path / "v.jsonl", rows)).stdout
    assert "read as regression, 20 of 20 rows" in told
