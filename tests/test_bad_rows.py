"""Bad input through the command line: quarantined or refused with place and reason, no traceback.

How many rows each file physically holds is written beside it: the oracle of its funnel.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from transformers import Qwen3Config

from pipeline.stages.scratch import train_tokenizer

Gradus = Callable[..., Result]
Refusal = Callable[..., str]


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def chat(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


GOOD = [{"text": f"good row number {i}", "label": "ab"[i % 2]} for i in range(40)]
ROWS = lines(GOOD).splitlines(keepends=True)
TABLE = b"".join(b"line %d,%s\n" % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40))
BREAKS = b"".join(b'"one %d\ntwo",%s\n' % (i, b"ab"[i % 2 : i % 2 + 1]) for i in range(40))
CHATS = [chat(("user", f"question {i}"), ("assistant", f"answer {i}")) for i in range(40)]
DEEP = b"[" * 100_000 + b"]" * 100_000
TYPES = [
    {"text": 3, "label": "a"}, {"text": ["x"], "label": "a"}, {"text": None, "label": "b"},
    [1], "x", {"text": "x", "label": {"a": 1}},
]  # fmt: skip

# File: its bytes, the rows it holds, and place and reason of each that cannot be kept.
QUARANTINED: dict[str, tuple[bytes, int, list[tuple[str, str]]]] = {
    "broken.jsonl": (
        b"".join([*ROWS[:20], b'{"text": "cut\n', *ROWS[20:]]), 41,
        [("broken.jsonl:21", "not JSON (Unterminated string")],
    ),
    "breaks.csv": (b"text,label\n" + BREAKS, 40, []),
    "width.csv": (
        b"text,label\n" + TABLE + b"a,b,c\nx\n", 42,
        [("width.csv:42", "2 columns in the header, 3 here"), ("width.csv:43", "1 here")],
    ),
    "latin1.csv": (
        b"text,label\n" + TABLE + "café,a\n".encode("latin-1"), 41,
        [("latin1.csv:42", "not UTF-8")],
    ),
    "latin1.jsonl": (
        b"".join(ROWS) + '{"text": "café", "label": "a"}\n'.encode("latin-1"), 41,
        [("latin1.jsonl:41", "not UTF-8 (byte 14)")],
    ),
    "bom.jsonl": (b"\xef\xbb\xbf" + b"".join(ROWS), 40, []),
    "nul.jsonl": (
        b"".join(ROWS) + b'{"text": "a\x00b", "label": "a"}\n', 41,
        [("nul.jsonl:41", "Invalid control character")],
    ),
    "nul.csv": (b"text,label\n" + TABLE + b"a\x00b,a\n", 41, [("nul.csv:42", "NUL")]),
    "surrogate.jsonl": (
        b"".join(ROWS) + b'{"text": "x \\ud800 y", "label": "a"}\n', 41,
        [("surrogate.jsonl:41", "half of a surrogate pair")],
    ),
    "wide.jsonl": (
        b'{"text": "' + b"x" * (50 << 20) + b'", "label": "a"}\n' + b"".join(ROWS), 41,
        [("wide.jsonl:1", "longer than 16 MiB")],
    ),
    "deep.jsonl": (
        b"".join(ROWS) + b'{"text": ' + DEEP + b', "label": "a"}\n', 41,
        [("deep.jsonl:41", "nested deeper than 100 levels")],
    ),
    "types.jsonl": (
        b"".join(ROWS) + lines(TYPES), 46,
        [
            ("types.jsonl:41", "text is a number"), ("types.jsonl:42", "text is a list"),
            ("types.jsonl:43", "text is null"), ("types.jsonl:44", "this is a list"),
            ("types.jsonl:45", "this is a text"), ("types.jsonl:46", "label is an object"),
        ],
    ),
    "list.json": (
        b"[" + b",".join(row.strip() for row in ROWS) + b",{bad}]", 41,
        [("list.json: row 41", "not JSON")],
    ),
    "half.jsonl": (
        lines([row if i % 2 else {"text": row["text"]} for i, row in enumerate(GOOD)]), 40,
        [(f"half.jsonl:{i}", "no column 'label'") for i in range(1, 40, 2)],
    ),
}  # fmt: skip
CHAT_FILES: dict[str, tuple[bytes, int, list[tuple[str, str]]]] = {
    "roles.jsonl": (
        lines(
            [
                *CHATS, chat(("assistant", "hi"), ("user", "x")),
                chat(("user", "x"), ("user", "y"), ("assistant", "z")),
                chat(("user", "x"), ("robot", "y")),
            ]
        ), 43,
        [
            ("roles.jsonl:41", "the assistant's comes first"),
            ("roles.jsonl:42", "the user's after the user's"),
            ("roles.jsonl:43", "no role 'robot'"),
        ],
    ),
    "empty-turn.jsonl": (
        lines([*CHATS, chat(("user", "x"), ("assistant", "")), chat(("user", ""))]), 42,
        [
            ("empty-turn.jsonl:41", "empty assistant turn"),
            ("empty-turn.jsonl:42", "empty user turn"),
        ],
    ),
}  # fmt: skip
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "cut.jsonl.gz": (gzip.compress(b"".join(ROWS))[:-20], "cut.jsonl.gz:", "ends too early"),
    "open.json": (b"[" + ROWS[0] + b"," + ROWS[1], "open.json: row 2", "list is never closed"),
    "utf16.jsonl": (b"".join(ROWS).decode().encode("utf-16"), "utf16.jsonl", "save it as UTF-8"),
    "empty.jsonl": (b"", "empty.jsonl", "holds no rows"),
    "blank.jsonl": (b"\n\n\n", "blank.jsonl", "holds no rows"),
    "table.parquet": (b"PAR1nothing", "table.parquet", "not Parquet"),
    "sheet.xlsx": (b"PK", "sheet.xlsx", ".xlsx is not read"),
    "paper.pdf": (b"%PDF-1.7 nothing", "paper.pdf: row 1", "a PDF that cannot be read"),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A model folder whose tokenizer is real and whose weights nobody loads."""
    folder = tmp_path / "model"
    texts = [str(row["text"]) for row in GOOD]
    train_tokenizer(texts, 300).save_pretrained(str(folder))
    Qwen3Config(
        architectures=["Qwen3ForCausalLM"], hidden_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, intermediate_size=64,
    ).save_pretrained(str(folder))  # fmt: skip
    (folder / "model.safetensors").write_bytes(bytes(64))
    return folder


def write_recipe(folder: Path, files: list[str], objective: str, base: str, more: str = "") -> Path:
    path = folder / "mine.yaml"
    named = "".join(f"    - {{path: {name}}}\n" for name in files)
    path.write_text(
        f"name: mine\nlevel: L2\nbase: {base}\ndata:\n  train:\n{named}{more}"
        f"train: {{objective: {objective}, max_length: 256}}\n"
    )
    return path


def lost(funnel: dict[str, Any]) -> int:
    return sum(v for k, v in funnel.items() if k not in {"read", "received", "kept", "details"})


@pytest.mark.parametrize("name", [*QUARANTINED, *CHAT_FILES])
def test_a_file_with_bad_rows_tells_each_of_them(name: str, tmp_path: Path, gradus: Gradus) -> None:
    content, held, bad = {**QUARANTINED, **CHAT_FILES}[name]
    (tmp_path / name).write_bytes(content)
    result = gradus("data", tmp_path / name)
    assert result.exit_code == 0, result.output
    found = json.loads(gradus("data", tmp_path / name, "--json").stdout)["funnel"]["rows"]
    assert found["read"] == held
    assert found["read"] == found["kept"] + lost(found)
    assert found["kept"] == held - len(bad)
    for place, reason in bad[:1]:
        assert f"{place})" in result.stdout
        assert reason in result.stdout


@pytest.mark.parametrize(
    ("files", "objective"), [(QUARANTINED, "classify"), (CHAT_FILES, "sft")], ids=["rows", "chats"]
)
def test_a_recipe_quarantines_the_same_rows_with_place_and_reason(
    files: dict[str, tuple[bytes, int, list[tuple[str, str]]]],
    objective: str,
    tmp_path: Path,
    base: Path,
    gradus: Gradus,
) -> None:
    for name, (content, _, _) in files.items():
        (tmp_path / name).write_bytes(content)
    recipe = write_recipe(tmp_path, list(files), objective, base.name, "  max_quarantined: 0.6\n")
    result = gradus("data", recipe, "--json")
    assert result.exit_code == 0, result.output
    (facts,) = json.loads(result.stdout.splitlines()[-1]).values()
    assert {s["name"]: (s["read"], s["quarantined"]) for s in facts["sources"]} == {
        name: (held, len(bad)) for name, (_, held, bad) in files.items()
    }
    for funnel in facts["funnel"].values():
        assert funnel["read"] + funnel.get("received", 0) == funnel["kept"] + lost(funnel)
    text = (Path(facts["folder"]) / "quarantined.jsonl").read_text()
    told = [json.loads(line) for line in text.splitlines()]
    wished = [each for _, _, bad in files.values() for each in bad]
    assert len(told) == len(wished)
    for entry, (place, reason) in zip(told, wished, strict=True):
        assert Path(entry["place"]).name == place
        assert reason in entry["reason"]


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("as_recipe", [False, True], ids=["file", "recipe"])
def test_what_cannot_be_read_is_refused_with_its_place(
    name: str, as_recipe: bool, tmp_path: Path, model_folder: Path, gradus: Gradus
) -> None:
    content, place, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    recipe = write_recipe(tmp_path, [name], "sft", model_folder.name)
    result = gradus("data", recipe if as_recipe else tmp_path / name)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert place in line
    assert reason in line
    if as_recipe:
        # The line of the sources, or of the one that was looked into.
        assert line.startswith((f"gradus: {recipe}:5: data.train", f"gradus: {recipe}:6: data."))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"text": "one more", "label": "A"}, 'labels "A" (1 row) and "a" (20 rows) differ by'),
        ({"text": "one more", "label": "b_"}, '"b_" (1 row) differ by case'),
        ({"text": "alone", "label": "single"}, 'label "single" has one row'),
    ],
)
def test_labels_that_stop_a_recipe_are_told_of_a_file_too(
    extra: dict[str, str],
    words: str,
    tmp_path: Path,
    model_folder: Path,
    gradus: Gradus,
    refusal: Refusal,
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines([*GOOD, extra]))
    told = gradus("data", tmp_path / "rows.jsonl")
    assert told.exit_code == 0
    assert words in " ".join(told.stdout.split())
    recipe = write_recipe(tmp_path, ["rows.jsonl"], "classify", model_folder.name)
    message = refusal("data", recipe)
    assert words in message
    assert message.startswith(f"{recipe}:")


def test_more_bad_rows_than_allowed_stop_a_recipe_at_the_first(
    tmp_path: Path, model_folder: Path, refusal: Refusal
) -> None:
    (tmp_path / "half.jsonl").write_bytes(QUARANTINED["half.jsonl"][0])
    message = refusal("data", write_recipe(tmp_path, ["half.jsonl"], "sft", model_folder.name))
    assert "half.jsonl:1: no column 'label' (read as classification, 20 of 40 rows" in message
    assert "data.max_quarantined" in message


def test_blanks_around_a_label_are_taken_off_and_told(tmp_path: Path, gradus: Gradus) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines([*GOOD, {"text": "one more", "label": "b "}]))
    told = gradus("data", tmp_path / "rows.jsonl").stdout
    assert "labels: 2, from 20 to 21 rows" in told
    assert "labels with blanks around them, taken off: 1" in told
