"""What a person sees of a run: that a stage began, the time left, what trainings came to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result

from pipeline.comparison_view import broken_words
from pipeline.core.artifact import Manifest
from pipeline.core.store import Store
from pipeline.display import LiveDisplay, print_outcome
from pipeline.ladder import make_plan
from pipeline.run import StagePool, _Worker, execute
from pipeline.trained_view import outcome_words
from tests.tiny_ladder import L0, TOPICS

FACTS = {"updates": 6, "planned_updates": 6, "best_step": 4, "final_loss": 0.5}
HISTORY = [
    {"step": 4, "validation_loss": 1.25, "validation_macro_f1": 0.5},
    {"step": 6, "loss": 0.5},
    {"step": 6, "validation_loss": 1.5, "validation_macro_f1": 0.75},
]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [
        json.dumps({"text": f"the {a} {b} {topic} {n}"})
        for topic, words in TOPICS.items() for a in words for n, b in enumerate(words)
    ]  # fmt: skip
    (tmp_path / "general.jsonl").write_text("\n".join(rows) + "\n")
    path = tmp_path / "l0.yaml"
    text = L0.replace("  test: {path: general-test.jsonl}\n", "")
    text = text.replace("max_steps: 12", "max_steps: 4, eval_steps: 2, report_to: tensorboard")
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("facts", "history", "config", "words"),
    [
        ({}, HISTORY, {"load_best_model_at_end": True},
         "validation loss 1.25, macro f1 0.5 at update 4, the best, 6 updates"),
        ({}, HISTORY, {},
         "validation loss 1.5, macro f1 0.75 at update 6, best at update 4, 6 updates"),
        ({"planned_updates": 90}, HISTORY[:1], {},
         "validation loss 1.25, macro f1 0.5 at update 4, the best, "
         "stopped early at update 6 of 90"),
        ({"best_step": None}, [], {}, "loss 0.5 on train at update 6, 6 updates"),
    ],
    ids=["the best kept", "the last kept", "stopped early", "no validation"],
)  # fmt: skip
def test_a_training_is_told_by_the_weights_that_were_kept(
    facts: dict[str, Any], history: list[dict[str, float]], config: dict[str, Any], words: str
) -> None:
    assert outcome_words({**FACTS, **facts}, history, config) == words


def test_a_run_without_a_test_split_tells_its_training_and_where_the_curves_are(
    gradus: Callable[..., Result], recipe: Path
) -> None:
    for _ in ("made", "found"):
        result = gradus("run", recipe)
        assert result.exit_code == 0, result.output
        lines = result.stdout.splitlines()
        (told,) = [line for line in lines if line.startswith("tiny-l0/train.")]
        assert ": validation loss " in told
        assert told.endswith(" 4 updates")
        (curves,) = [line for line in lines if line.startswith("curves: tensorboard --logdir ")]
        folder = Path(curves.rpartition(" ")[2])
        assert list(folder.rglob("events.out.tfevents.*"))


def test_time_left_does_not_count_the_start(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(tmp_path / "store")
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("pipeline.display.time", SimpleNamespace(monotonic=lambda: clock.now))
    plan = make_plan(recipe, store)
    (node,) = [n for n in plan.nodes if "/train." in n]
    with LiveDisplay(plan, store) as display:
        display.on_event({"node": node, "kind": "started"})
        for seconds, step in ((100, 1), (120, 2), (140, 3)):
            clock.now = float(seconds)
            display.on_event(
                {"node": node, "kind": "progress", "step": step, "total": 10, "loss": 1.0}
            )
    lines = [line.partition("] ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"{node}: runs",
        f"{node}: step 1/10, loss 1.000",
        f"{node}: step 2/10, loss 1.000, 2:40 left",
        f"{node}: step 3/10, loss 1.000, 2:20 left",
    ]


class Refusing(threading.Thread):
    """Answers every job of a stage process with an error."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self.start()

    def run(self) -> None:
        with contextlib.suppress(EOFError):
            while self._pipe.recv():
                self._pipe.send({"kind": "error", "error": "TrainingError", "text": "loss is nan"})


def test_a_lost_stage_and_what_stands_on_it_do_not_stay_running(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    plan = make_plan(recipe, store)
    workers: list[_Worker] = []

    def grow() -> _Worker:
        ours, theirs = Pipe()
        Refusing(theirs)
        workers.append(_Worker(ours, None))
        return workers[-1]

    with LiveDisplay(plan, store) as display:
        execute(
            plan, store, on_event=display.on_event, on_failure=lambda *_: True,
            pool=StagePool(workers, grow, 1),
        )  # fmt: skip
        table = display._table()
    for worker in workers:
        worker.pipe.close()
    total = len(plan.wanted(store))
    assert table.row_count == 0
    assert str(table.caption).startswith(f"{total} of {total} stages")
    first = next(node for node in plan.nodes.values() if not node.inputs)
    assert f"] {first.id}: failed: loss is nan\n" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "words"), [(1, "made 1 stage in"), (2, "made 2 stages in")])
def test_one_stage_is_no_stages(
    count: int, words: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    ran = {str(number): 1.0 for number in range(count)}
    record = SimpleNamespace(ran=ran, hits=(), seconds=3.0)
    print_outcome(make_plan(recipe, store), store, record, None, [])
    assert capsys.readouterr().out.startswith(words)


@pytest.mark.parametrize(("rows", "words"), [(1, "out 1 row of"), (1234, "out 1,234 rows of")])
def test_rows_that_the_contamination_check_took_out_are_told(
    rows: int, words: str, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    plan = make_plan(recipe, store)
    record = SimpleNamespace(ran={}, hits=(), seconds=3.0)
    for node in plan.nodes.values():
        if node.stage == "prepare" and node.key is not None:
            mine = node.id.startswith(f"{plan.recipe.recipe.name}/")
            facts = {"contaminated": rows if mine else 0}
            manifest = Manifest("Dataset", node.key, "", "prepare", 1, {}, {}, {}, {}, {}, facts)
            store.commit(store.new_draft(node.key), manifest)
    print_outcome(plan, store, record, None, [])
    told = [line for line in capsys.readouterr().out.splitlines() if "contamination" in line]
    own = [node for node in plan.nodes.values() if node.stage == "prepare"
           and node.id.startswith(f"{plan.recipe.recipe.name}/")]  # fmt: skip
    assert len(told) == len(own) > 0
    assert all(words in line for line in told)
    assert told[0].endswith(str(store.path_of(own[0].key or "") / "contaminated.jsonl"))


def gate(status: str, number: int) -> dict[str, str]:
    return {"status": status, "text": f"figure {number}; promised more: {status}"}


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        (["undecided", "pass", "undecided", "fail"],
         "3 of 4 gates did not pass (1 fail, 2 undecided): fail: figure 3; promised more; "
         "and 2 more"),
        (["undecided", "pass"],
         "1 of 2 gates did not pass (1 undecided): undecided: figure 0; promised more"),
        (["fail"] * 5,
         "5 of 5 gates did not pass (5 fail): fail: figure 0; promised more; "
         "fail: figure 1; promised more; fail: figure 2; promised more; and 2 more"),
    ],
)  # fmt: skip
def test_a_run_ends_with_the_gates_that_failed_first(statuses: list[str], words: str) -> None:
    assert broken_words([gate(status, n) for n, status in enumerate(statuses)]) == words


def test_where_several_models_have_gates_each_says_whose_it_is() -> None:
    gates = [{**gate("fail", 0), "model": "my-l2"}, {**gate("pass", 1), "model": "my-l1"}]
    assert broken_words(gates).endswith(": fail: my-l2: figure 0; promised more")


def test_a_status_stands_once_in_the_line_of_a_gate(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    plan = make_plan(recipe, store)
    empty = {"levels": {}, "heads": {}, "arms": [], "tasks": [], "sentences": []}
    report = {"comparison": {**empty, "recommendation": None}}
    (node,) = [name for name in plan.nodes if name.endswith("fetch") or "scratch" in name][:1]
    told = SimpleNamespace(
        nodes=plan.nodes, recipe=plan.recipe, outcomes=(SimpleNamespace(report=node),)
    )
    record = SimpleNamespace(ran={}, hits=(), seconds=3.0)
    print_outcome(told, store, record, report, [gate("pass", 1)])  # type: ignore[arg-type]
    assert "gate pass: figure 1; promised more\n" in capsys.readouterr().out
