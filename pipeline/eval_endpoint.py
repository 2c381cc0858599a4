"""`gradus eval URL`: the rows of a file or of a recipe's suite, asked of a served model."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.answered import Answered, Table, write_answered
from eval.calibration import BINS
from eval.endpoint.asking import ARMS, Answers, ask_suite
from eval.endpoint.client import Endpoint, Patience
from eval.endpoint.items import Asked, asked_of_file, read_labels
from eval.journal import held
from pipeline.core.errors import UserError
from pipeline.core.store import Store
from pipeline.display import LiveDisplay
from pipeline.eval_plan import Wishes, channel_suites_of, suites_of
from pipeline.plan import Plan

DEFAULT_ARMS = ("generate", "constrained", "likelihood")
"""``joint`` has a meaning for a channel model alone: who serves one names it."""
_SCORED = ("likelihood", "joint")
ROWS = "rows"
"""What a suite is called that is a file of rows."""


def evaluate_endpoint(url: str, wishes: Wishes, store: Store) -> tuple[dict[str, Any], Path]:
    """Asks every item in every arm; the figures, and the folder of the answers.

    Raises:
        UserError, DataError: what cannot be asked; EngineError: the endpoint is away. What was
            answered lies in the folder.
    """
    arms = tuple(wishes.arms)
    strange = next((arm for arm in arms if arm not in ARMS), None)
    if strange is not None:
        raise UserError(
            f"--arms {strange}: an endpoint is asked in {', '.join(ARMS)}; name some of these"
        )
    suites = [asked.limited(wishes.limit) for asked in _suites(wishes, store)]
    channel = all(asked.channel for asked in suites)
    arms = arms or (("joint",) if channel else DEFAULT_ARMS)
    return asyncio.run(_evaluated(url, wishes, arms, suites, store))


def _suites(wishes: Wishes, store: Store) -> list[Asked]:
    labels = None if wishes.labels is None else read_labels(wishes.labels)
    if wishes.data is not None:
        return [
            asked_of_file(
                wishes.data,
                suite=ROWS,
                form=wishes.form,
                prompt=wishes.prompt,
                system=wishes.system,
                labels=labels,
            )
        ]
    if wishes.recipe is None:
        raise UserError("gradus eval URL: asks which rows? Give --data FILE, or --recipe RECIPE")
    for name in ("labels", "prompt", "system"):
        if getattr(wishes, name) is not None:
            raise UserError(f"--{name}: the recipe says it; leave it out beside --recipe")
    return _suites_of_recipe(wishes.recipe, wishes, store)


def _suites_of_recipe(recipe: Path, wishes: Wishes, store: Store) -> list[Asked]:
    """The recipe's suites that can be asked; prepared first where they are not yet."""
    from eval.endpoint.prepared import asked_of_dataset
    from pipeline.conduct import planned, prepared_only

    plan = planned(recipe, store, wishes.overrides)
    nodes = suites_of(plan, wishes.suite)
    # The recipe's own rows: what the model was trained on tells all labels and their prior.
    own = suites_of(plan, None).get("test")
    channel = channel_suites_of(plan)
    joint = "joint" in wishes.arms or (not wishes.arms and own in channel.values())
    # Of a channel the prior is that of its own rows.
    counted = channel.get("test", own) if joint else None
    goals = {*nodes.values(), *(node for node in (own, counted) if node is not None)}
    goal = Plan(plan.recipe, plan.nodes, (), tuple(goals))
    with LiveDisplay(goal, store) as display:
        prepared_only(goal, store, None, display)
    found, evaluate = [], plan.recipe.recipe.evaluate
    for name, node in nodes.items():
        dataset = store.need(plan.nodes[node].key or "")
        tokenizer = store.path_of(plan.nodes[plan.nodes[node].inputs["tokenizer"]].key or "")
        asked = asked_of_dataset(
            dataset,
            tokenizer,
            suite=name,
            answer_after=evaluate.answer_after,
            max_new_tokens=evaluate.max_new_tokens,
            train=None if own is None else store.path_of(plan.nodes[own].key or ""),
            counted=None if counted is None else store.path_of(plan.nodes[counted].key or ""),
        )
        found.append(replace(asked, bins=evaluate.confidence_bins))
    return found


async def _evaluated(
    url: str, wishes: Wishes, arms: Sequence[str], suites: Sequence[Asked], store: Store
) -> tuple[dict[str, Any], Path]:
    patience = Patience(timeout_s=wishes.timeout_s, retries=wishes.retries)
    async with Endpoint(
        url,
        model=wishes.model,
        api_key=wishes.api_key,
        concurrency=wishes.concurrency,
        patience=patience,
    ) as endpoint:
        model = await endpoint.choose_model()
        folder = wishes.out or store.root / "evals" / _folder_name(endpoint.url, model, suites)
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            found = await _asked(endpoint, arms, suites, folder, wishes)
            tree = write_answered(folder, _answered(endpoint, suites, found, wishes.limit))
            # All stands in the folder: whoever asks again wants to know what is answered now.
            for _, _, answers in found:
                if answers.journal is not None:
                    answers.journal.remove()
    return tree, folder


def _answered(
    endpoint: Endpoint,
    suites: Sequence[Asked],
    found: Sequence[tuple[str, str, Answers]],
    limit: int | None,
) -> Answered:
    """All answers as they are written, with what a reader should know of them."""
    by_name = {asked.suite: asked for asked in suites}
    tables = [
        Table(
            suite,
            arm,
            "label",
            answers.predictions,
            answers.cost,
            groups=by_name[suite].groups,
            labels=by_name[suite].labels,
            bins=by_name[suite].bins or BINS,
        )
        for suite, arm, answers in found
        if answers.predictions is not None
    ]
    missing = {
        (suite, arm): answers.reason or ""
        for suite, arm, answers in found
        if answers.predictions is None
    }
    notes = [
        f"{suite}, {arm}: {answers.earlier} of {len(answers.predictions)} answers are from an "
        f"earlier run, of {answers.since}"
        for suite, arm, answers in found
        if answers.predictions is not None and answers.earlier
    ]
    notes += [note for table in tables if (note := _constraint_note(table)) is not None]
    known = {asked.suite for asked in suites if asked.prior is not None}
    notes += [
        f"{table.suite}, joint: no training rows tell how common each label is; all count alike"
        for table in tables
        if table.arm == "joint" and table.suite not in known
    ]
    if endpoint.adapters and any(table.arm in _SCORED for table in tables):
        notes.append(
            "likelihoods were asked one at a time: this engine holds adapters, and vLLM dies "
            "where it scores two prompts at once (vllm-project/vllm issue 16668)"
        )
    return Answered(endpoint.model, endpoint.url, tables, missing=missing, notes=notes, limit=limit)


async def _asked(
    endpoint: Endpoint,
    arms: Sequence[str],
    suites: Sequence[Asked],
    folder: Path,
    wishes: Wishes,
) -> list[tuple[str, str, Answers]]:
    """(suite, arm, answers) of all, with live progress."""
    found = []
    nodes = [f"{asked.suite}@{arm}" for asked in suites for arm in arms]
    with LiveDisplay.of_stages(dict.fromkeys(nodes, "evaluate")) as display:
        for asked in suites:
            progress = _Progress(display, asked.suite)
            answers = await ask_suite(
                endpoint,
                asked,
                arms,
                folder,
                max_new_tokens=wishes.max_new_tokens,
                on_progress=progress.told,
                earlier=wishes.earlier,
            )
            found += [(asked.suite, arm, one) for arm, one in answers.items()]
            for arm, one in answers.items():
                if one.predictions is None:
                    display.on_event({"node": f"{asked.suite}@{arm}", "kind": "dropped"})
    return found


class _Progress:
    """What the arms of one suite have done, as events of a plan's stages."""

    def __init__(self, display: LiveDisplay, suite: str) -> None:
        self.display, self.suite = display, suite
        self._began: dict[str, float] = {}

    def told(self, arm: str, done: int, total: int) -> None:
        """See ``ask_suite``."""
        node = f"{self.suite}@{arm}"
        now = time.monotonic()
        began = self._began.setdefault(arm, now)
        event = {"node": node, "kind": "progress", "step": done, "total": total}
        self.display.on_event(event)
        if done == total:
            self.display.on_event({"node": node, "kind": "finished", "seconds": now - began})


def _constraint_note(table: Table) -> str | None:
    """Said where constrained answers are no labels although the probe was heeded."""
    wrong = sum(row.label is None for row in table.predictions)
    if table.arm != "constrained" or not wrong:
        return None
    return (
        f"{table.suite}, constrained: {wrong} of {len(table.predictions)} answers are no label: "
        "the endpoint does not hold to the constraint"
    )


def _folder_name(url: str, model: str, suites: Sequence[Asked]) -> str:
    """The same for the same question, so that a second run goes on."""
    from pipeline.core.digest import canonical_json, text_digest

    told = [url, model, [[asked.suite, asked.identity] for asked in suites]]
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in model)
    return f"{plain[-40:]}-{text_digest(canonical_json(told))[:8]}"
