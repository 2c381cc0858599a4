"""What a person sees: the plan, live progress, the final table."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.base_files import base_config
from pipeline.comparison_view import print_comparison, promise
from pipeline.core.engine_limits import ENGINE_RANKS, engine_rank, slot_bytes
from pipeline.core.store import Store
from pipeline.curve_plan import curve_stage
from pipeline.plan import Node, Plan
from pipeline.taken_out import contamination_lines
from pipeline.trained_view import training_lines

_STYLES = {"hit": "green", "run": "yellow", "waits": "yellow", "cannot run": "red"}
_LINE_EVERY_S = 15.0
_CURVE = "points of the learning curve; --json names each"
# What may say nothing for long: it loads libraries, a model, rows. Others end soon.
_SLOW = ("fetch", "prepare", "augment", "train", "evaluate", "quantise")


def plan_json(plan: Plan, store: Store) -> dict[str, Any]:
    """The plan as JSON values."""
    status = plan.status(store)
    return {
        "name": plan.recipe.recipe.name,
        "notes": list(plan.notes),
        "stages": [
            {
                "id": node.id,
                "stage": node.stage,
                "key": node.key,
                "status": status[node.id],
                "why": node.blocked,
                "note": _note(node, plan, store) or None,
                "inputs": dict(node.inputs),
            }
            for node in plan.nodes.values()
        ],
    }


def print_plan(plan: Plan, store: Store) -> None:
    """The plan as a table."""
    status = plan.status(store)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "key", "status", "note"):
        table.add_column(name, overflow="fold")
    for name, nodes in _rows(plan).items():
        first = nodes[0]
        counts = {s: sum(status[node.id] == s for node in nodes) for s in _STYLES}
        there = [s for s, count in counts.items() if count]
        words = there[0] if there[1:] == [] else ", ".join(f"{counts[s]} {s}" for s in there)
        table.add_row(
            name,
            (first.key or "unknown")[:12] if nodes[1:] == [] else "",
            Text(words, style=_STYLES[there[-1]]),
            first.blocked or (_note(first, plan, store) if nodes[1:] == [] else _CURVE),
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    counts = {s: list(status.values()).count(s) for s in _STYLES}
    waits = f"{counts['waits']} wait for the fetch, " if counts["waits"] else ""
    told = f"{counts['hit']} hit, {counts['run']} to run, {waits}{counts['cannot run']} cannot run"
    # Notes go to another stream, and would stand above a table that waits in a buffer.
    print(told, flush=True)
    print_notes(plan)


def _rows(plan: Plan) -> dict[str, list[Node]]:
    """The nodes by the row of the table that tells them: those of a learning curve by stage."""
    found: dict[str, list[Node]] = {}
    for node in plan.nodes.values():
        found.setdefault(curve_stage(node.id) or node.id, []).append(node)
    return {
        f"{name} ({_stages(len(nodes))})" if nodes[0].id != name else name: nodes
        for name, nodes in found.items()
    }


def print_notes(plan: Plan) -> None:
    """What a person should know before anything runs."""
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)


def _note(node: Node, plan: Plan, store: Store) -> str:
    if node.stage != "export":
        return node.note
    size = engine_rank(node.rank)
    if size is None:
        return f"rank {node.rank}: above the engine's largest ({ENGINE_RANKS[-1]})"
    config = base_config(plan.nodes[node.inputs["root"]], plan.nodes, store)
    memory = "unknown until the base is fetched"
    if config is not None and "intermediate_size" in config:
        memory = f"{slot_bytes(config, size) / 1e6:.1f} MB in bf16"
    return f"rank {node.rank}, an engine slot of {size}: {memory}"


class LiveDisplay:
    """A row for each running stage: step, loss, tokens/s, time left. Lines where no terminal."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._begin({node.id: node.stage for node in plan.wanted(store)})

    @classmethod
    def of_stages(cls, stages: Mapping[str, str]) -> LiveDisplay:
        """For work that no plan holds: id to the name of a stage of its kind."""
        display = cls.__new__(cls)
        display._begin(stages)
        return display

    def _begin(self, stages: Mapping[str, str]) -> None:
        self._stage_of = dict(stages)
        self._left = set(self._stage_of)
        self._all = len(self._left)
        self._running: dict[str, dict[str, Any]] = {}
        self._began = time.monotonic()
        self._said: dict[str, float] = {}
        self._console = Console(stderr=True)
        self._live: Live | None = None

    def __enter__(self) -> LiveDisplay:
        if self._all and self._console.is_terminal:
            self._live = Live(self._table(), console=self._console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Takes an event of run.execute."""
        node, kind = event["node"], event["kind"]
        if kind == "finished":
            self._running.pop(node, None)
            self._left.discard(node)
            self._say(f"{node}: {event['seconds']:.1f} s", node, always=True)
        elif kind in {"failed", "dropped"}:
            self._running.pop(node, None)
            self._left.discard(node)
            if kind == "failed":
                self._say(f"{node}: failed: {event['problem']}", node, always=True)
        else:
            state = self._running.setdefault(node, {})
            if event.get("step"):
                _note_time(state, event, time.monotonic())
            state.update({k: v for k, v in event.items() if k not in {"node", "kind"}})
            if "message" in event:
                self._say(f"{node}: {state.pop('message')}", node, always=True)
            elif kind == "progress":
                self._say(f"{node}: {_progress_words(state)}", node, always=False)
            elif kind == "started" and self._live is None and self._slow(node):
                self._say(f"{node}: runs", node, always=True)
        if self._live is not None:
            self._live.update(self._table())

    def _slow(self, node: str) -> bool:
        return self._stage_of.get(node, "").startswith(_SLOW)

    def _say(self, line: str, node: str, *, always: bool) -> None:
        done = self._all - len(self._left)
        text = f"[{done}/{self._all}, {time.monotonic() - self._began:.0f} s] {line}"
        if self._live is not None:
            if always:
                self._live.console.print(Text(text, style="dim"))
            return
        now = time.monotonic()
        if always or now - self._said.get(node, self._began) >= _LINE_EVERY_S:
            self._said[node] = now
            print(text, file=sys.stderr, flush=True)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("stage", "step", "loss", "tokens/s", "left"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for node, state in self._running.items():
            table.add_row(node, *_cells(state))
        done = self._all - len(self._left)
        clock = f"{time.monotonic() - self._began:.0f} s"
        table.caption = f"{done} of {_stages(self._all)}, {clock}"
        return table


def _cells(state: Mapping[str, Any]) -> list[str]:
    step, total = state.get("step"), state.get("total")
    loss = state.get("loss", state.get("validation_loss"))
    speed = state.get("tokens_per_s")
    return [
        f"{step}/{total}" if total else "",
        f"{loss:.3f}" if isinstance(loss, float) else "",
        f"{speed:,.0f}" if speed else "",
        _left(state),
    ]


def _note_time(state: dict[str, Any], event: Mapping[str, Any], now: float) -> None:
    """Notes when a step ended; another count of steps begins anew."""
    step = event["step"]
    if "first" not in state or step < state["first"][0] or event.get("total") != state.get("total"):
        state["first"] = step, now
    state["last"] = step, now


def _left(state: Mapping[str, Any]) -> str:
    """Minutes and seconds; nothing at the first step, before which all was loaded."""
    total = state.get("total")
    (first, began), (step, now) = state.get("first", (0, 0.0)), state.get("last", (0, 0.0))
    if not total or step <= first:
        return ""
    seconds = (now - began) / (step - first) * (total - step)
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _progress_words(state: Mapping[str, Any]) -> str:
    step, loss, speed, left = _cells(state)
    words = [f"step {step}" if step else "runs"]
    words += [f"loss {loss}"] if loss else []
    words += [f"{speed} tokens/s"] if speed else []
    words += [f"{left} left"] if left else []
    return ", ".join(words)


def print_models(models: list[dict[str, Any]]) -> None:
    """The named models as a table."""
    if not models:
        print("no models yet; run a recipe: gradus run recipes/demo/l2.yaml")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "level", "objective", "base", "rank", "gates", "key"):
        table.add_column(name)
    for model in models:
        gates = model["gates"]
        words = ", ".join(f"{n} {s}" for s, n in gates.items() if n) or "none"
        key = model["keys"].get("adapter") or model["keys"].get("root") or ""
        rank = str(model.get("rank") or "full")
        table.add_row(
            model["name"],
            *(str(model.get(each, "")) for each in ("level", "objective", "base")),
            rank,
            words,
            key[:12],
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def print_outcome(
    plan: Plan,
    store: Store,
    record: Any,
    report: dict[str, Any] | None,
    gates: list[dict[str, Any]],
) -> None:
    """The end of a run: levels, heads, gates, conclusions and where the page lies."""
    if record.ran:
        made = _stages(len(record.ran))
        print(f"made {made} in {record.seconds:.0f} s, {len(record.hits)} found")
    else:
        print(f"nothing to do: {_stages(len(record.hits))} found whole")
    for line in (*contamination_lines(plan, store), *training_lines(plan, store)):
        print(line)
    if report is not None:
        print_comparison(report["comparison"])
        for gate in gates:
            print(f"gate {gate['status']}: {promise(gate)}")
        for sentence in report["comparison"]["sentences"]:
            print(f"- {sentence}")
        for words in (report["comparison"]["recommendation"] or {}).get("words", ()):
            print(f"* {words}")
        page = store.path_of(plan.nodes[plan.outcomes[0].report or ""].key or "") / "report.html"
        print(f"report: {page}")


def _stages(count: int) -> str:
    return f"{count} stage" if count == 1 else f"{count} stages"
