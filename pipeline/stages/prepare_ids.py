"""The part of `prepare` that turns kept rows into token ids and files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import DataError
from pipeline.core.model_config import read_config
from pipeline.core.stage import StageContext
from pipeline.data.contamination import Item, RowTexts
from pipeline.data.contamination_files import read_texts, write_items, write_texts
from pipeline.data.examples import Batch, RenderPlan, RenderStep
from pipeline.data.executor import Executor, executor
from pipeline.data.funnel import Funnel
from pipeline.data.gathering import quarantine_limit
from pipeline.data.selection import KEPT, REASON_OF, TEST, VALIDATION, Verdicts
from pipeline.data.shelf import Shelf
from pipeline.data.writing import Writing
from pipeline.stages.prepare_desk import Desk, grouping, write_json


def render(desk: Desk, labels: Sequence[str]) -> Writing:
    """Every kept row as ids, and what evaluation and serving must know of them.

    Args:
        labels: as labels.json has them.
    """
    writing = Writing(desk.context.out, desk.funnels, desk.dropped, desk.quarantine)
    config = desk.config
    renderer, settings, context = _renderer(desk.inputs["tokenizer"].path, config, desk.context)
    settings["multi_label"] = config["render"] == "classify" and desk.joined
    write_json(desk.context.out / "render.json", settings)
    if config["features"]:
        write_json(desk.context.out / "features.json", config["features"])
    RenderStep.use(renderer)
    plan = RenderPlan(
        config["render"],
        config["loss_on"],
        config["max_length"],
        config["over_length"],
        context,
        thinking_unsaid="enable_thinking"
        in settings["chat_template_kwargs"].keys() - config["chat_template_kwargs"].keys(),
        tags=labels if config["render"] == "tag" else (),
        features=config["features"],
        grouped=grouping(config),
    )
    # Forked now, so that workers share the tokenizer that was just loaded.
    with executor(desk.workers) as pool:
        writing.write(
            _examples(desk, plan, pool),
            pack_to=config["max_length"] if config["packing"] else None,
            replay=config["replay"],
            replayed=desk.inputs["replay"].path if "replay" in desk.inputs else None,
            max_length=config["max_length"],
        )
    for name, funnel in desk.funnels.items():
        _require_few(name, funnel, writing.refused[name], config["max_quarantined"])
        if (funnel.read or funnel.received) and not funnel.kept:
            raise DataError(f"data.{name}: no rows are left; {_most(funnel)}")
    _write_texts(desk)
    return writing


def _examples(desk: Desk, plan: RenderPlan, pool: Executor) -> Iterator[Any]:
    for name in ("train", "validation", "test"):
        shelf = desk.shelves.get(name)
        if shelf is not None:
            step = RenderStep(plan, None if name == "train" else name)
            yield from pool.map(step, _batches(shelf, desk.verdicts[name]))


def _write_texts(desk: Desk) -> None:
    """What recipes above compare their evaluation sets and training rows with."""
    train, test = desk.shelves.get("train"), desk.shelves.get("test")
    read: list[Iterator[RowTexts]] = []
    items: list[list[Item]] = []
    if train is not None:
        code = desk.verdicts["train"].code
        # Validation rows choose the checkpoint: for those above they count as read.
        read.append(_texts(train, np.isin(code, (KEPT, VALIDATION))))
        items.append(train.items("test", np.flatnonzero(code == TEST)))
    if test is not None:
        items.append(test.items("test", desk.verdicts["test"].live))
    if "replay" in desk.inputs:
        below = read_texts(desk.inputs["replay"].path)
        read.append(row._replace(id=f"replay/{row.id}") for batch in below for row in batch)
    write_texts(desk.context.out, chain.from_iterable(read))
    write_items(desk.context.out, chain.from_iterable(items))


def _batches(shelf: Shelf, verdicts: Verdicts) -> Iterator[Batch]:
    for number, start in shelf.batches():
        rows = slice(start, start + shelf.sizes[number])
        if (verdicts.code[rows] < min(REASON_OF)).any():
            told = {i: verdicts.relabelled[i] for i in range(start, rows.stop)
                    if i in verdicts.relabelled} if verdicts.relabelled else {}  # fmt: skip
            yield Batch(shelf.path, number, start, verdicts.code[rows], shelf.ordinal[rows],
                        shelf.source[rows], shelf.again[rows], told)  # fmt: skip


def _texts(shelf: Shelf, wanted: Any) -> Iterator[RowTexts]:
    start = 0
    for batch in shelf.text_batches():
        rows = np.flatnonzero(wanted[start : start + len(batch)])
        for inner, name in zip(rows.tolist(), shelf.names(rows + start), strict=True):
            yield batch[inner]._replace(id=name)
        start += len(batch)


def _require_few(name: str, funnel: Funnel, refused: list[str], most: float) -> None:
    """Rows that cannot be rendered count like rows that cannot be read."""
    rows = funnel.read + funnel.received
    allowed = quarantine_limit(most, rows)
    if len(refused) > allowed:
        raise DataError(
            f"data.{name}: {refused[0]} ({len(refused)} of {rows} rows cannot be rendered, "
            f"{allowed} allowed); mend the rows, or raise data.max_quarantined"
        )


def _most(funnel: Funnel) -> str:
    reason, rows = funnel.lost.most_common(1)[0]
    return (
        f"{rows} of {funnel.read or funnel.received} are {reason}; see dropped.jsonl or max_length"
    )


def _renderer(
    folder: Path, config: Mapping[str, Any], context: StageContext
) -> tuple[Any, dict[str, Any], int | None]:
    """The renderer, what evaluation and serving must know of it, the base's context in tokens."""
    from pipeline.data.rendering import Renderer, fixed_kwargs
    from pipeline.data.rendering.kept import TEMPLATE
    from pipeline.modeling.loading import kind_of_folder, load_tokenizer

    own = context.files.get("chat_template")
    tokenizer = load_tokenizer(folder, own)
    if own is not None:
        shutil.copyfile(own, context.out / TEMPLATE)
    kwargs = fixed_kwargs(tokenizer.chat_template, config["chat_template_kwargs"])
    renderer = Renderer(
        tokenizer,
        causal=kind_of_folder(folder) == "causal",
        system=config["system"],
        template_kwargs=kwargs,
    )
    settings = {
        "render": config["render"],
        "system": config["system"],
        "chat_template_kwargs": kwargs,
        "loss_on": config["loss_on"],
        "controls": renderer.controls.to_json(),
    }
    return renderer, settings, read_config(folder).get("max_position_embeddings")
