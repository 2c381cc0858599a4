"""Runs inside the harness's environment, by its path: it knows nothing of gradus.

Reads one JSON file of wishes, writes one of results. Everything that it prints is a log.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

_LONGEST = 1 << 20
_NOT_FIGURES = ("name", "alias", "sample_len")


def main(asked_file: str) -> None:
    """Evaluates, and writes results or one problem to the file that is named."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(asked_file, encoding="utf-8") as stream:
        asked = json.load(stream)
    found = _evaluated(asked)
    draft = asked["answer"] + ".draft"
    with open(draft, "w", encoding="utf-8") as out:
        json.dump(found, out, default=str)
    Path(draft).replace(asked["answer"])


def _end_with_parent() -> None:
    # The other end of standard input closes when gradus dies.
    # Not the buffered stream: Python could not close it beside a thread that reads.
    while os.read(0, 1):
        pass
    os._exit(1)


def _evaluated(asked: dict[str, Any]) -> dict[str, Any]:
    from importlib.metadata import version

    from lm_eval.tasks import TaskManager  # type: ignore[import-not-found]

    manager = TaskManager(include_path=asked["include"], include_defaults=not asked["ids"])
    reading: list[str] = []
    writing: list[str] = []
    for name in asked["tasks"]:
        if name not in manager.all_tasks and not Path(name).is_file():
            return {"problem": {"task": name, "kind": "unknown", "text": ""}}
        try:
            loaded = manager.load([name])
        except Exception as error:  # whatever a task's own loader raises
            return {"problem": {"task": name, "kind": "data", "text": _told(error)}}
        leaves = loaded["tasks"].values()
        # What only writes can be asked as a conversation; the rest is scored.
        alone = all(task.OUTPUT_TYPE == "generate_until" for task in leaves)
        (writing if alone else reading).append(name)
    found: dict[str, Any] = {"version": version("lm_eval"), "results": {}, "samples": {}}
    for names, writes in ((reading, False), (writing, True)):
        if names:
            _add(found, _asked(manager, names, asked, writes))
    return found


def _asked(manager: Any, names: list[str], asked: dict[str, Any], writes: bool) -> dict[str, Any]:
    from lm_eval import simple_evaluate  # type: ignore[import-not-found]

    _tell_of_known()
    model, chats = _model(asked, writes)
    began = time.perf_counter()
    made: dict[str, Any] = simple_evaluate(
        model=model,
        tasks=names,
        task_manager=manager,
        limit=asked["limit"],
        num_fewshot=asked["shots"],
        apply_chat_template=chats,
        log_samples=True,
        # What is known of a run that was stopped is not asked again.
        use_cache=asked["known"] + ("-written" if writes else "-read"),
    )
    made["seconds"] = time.perf_counter() - began
    made["chat_template"] = chats
    return made


def _tell_of_known() -> None:
    """The log says how many answers were known already; the harness tells it to nobody else."""
    logger = logging.getLogger("lm_eval.api.model")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)


def _add(found: dict[str, Any], made: dict[str, Any]) -> None:
    for name, figures in made["results"].items():
        items = made.get("n-samples", {}).get(name, {})
        found["results"][name] = {
            "figures": {k: v for k, v in figures.items() if k not in _NOT_FIGURES},
            "items": items.get("effective"),
            "items_in_all": items.get("original"),
            "shots": made.get("n-shot", {}).get(name),
            "version": made.get("versions", {}).get(name),
            "chat_template": made["chat_template"],
        }
    found["samples"].update(made.get("samples", {}))
    found["seconds"] = found.get("seconds", 0.0) + made["seconds"]


def _model(asked: dict[str, Any], writes: bool) -> tuple[Any, bool]:
    """The model, and whether it is asked through its chat template."""
    about, kind = asked["model"], asked["model"]["kind"]
    if kind == "checkpoint":
        from lm_eval.models.huggingface import HFLM  # type: ignore[import-not-found]

        made = _by_ids(HFLM) if asked["ids"] else HFLM
        model = made(
            pretrained=about["root"],
            peft=about["adapter"],
            dtype=about["dtype"],
            device=about["device"],
            batch_size=asked["batch_size"],
        )
        return model, writes and bool(model.tokenizer.chat_template)
    from lm_eval.models.openai_completions import (  # type: ignore[import-not-found]
        LocalChatCompletion,
        LocalCompletionsAPI,
    )

    common = {
        "model": about["model"],
        "num_concurrent": about["concurrency"],
        "max_length": _LONGEST,
        "max_retries": 5,
    }
    if writes:
        return LocalChatCompletion(base_url=f"{about['url']}/chat/completions", **common), True
    made = _by_ids(LocalCompletionsAPI) if asked["ids"] else LocalCompletionsAPI
    own = {"tokenizer": about["tokenizer"], "tokenizer_backend": "huggingface"}
    tokenizer = own if about["tokenizer"] else {}
    return made(base_url=f"{about['url']}/completions", **common, **tokenizer), False


def _by_ids(kind: Any) -> Any:
    """A model whose contexts and continuations are written as ids, and taken as they are.

    Text would be cut into tokens anew, and a context's last line break moved to the
    continuation: the figures would be those of other prompts.
    """

    class ByIds(kind):  # type: ignore[misc]
        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            return [int(i) for i in context.split()], [int(i) for i in continuation.split()]

    return ByIds


def _told(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


if __name__ == "__main__":
    main(sys.argv[1])
