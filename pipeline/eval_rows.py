"""A file of rows that a model of the store is asked: prepared as the model's own rows were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.core.schema_data import Clean
from pipeline.core.stage import stage_key
from pipeline.core.store import Store
from pipeline.data.rendering.kept import own_template
from pipeline.eval_plan import SUITE, Wishes
from pipeline.plan import Node

ROWS = "rows"
"""What a suite is called that is a file of rows."""


def task_of(suites: Mapping[str, str], nodes: Mapping[str, Node]) -> str:
    """The first Dataset that holds a task, the recipe's own test rows before others.

    Args:
        suites: role to Dataset node.
    """
    order = sorted(suites, key=lambda role: (role != f"{SUITE}test", role))
    return next(suites[r] for r in order if nodes[suites[r]].config["render"] != "text")


def rows_node(dataset: Node, wishes: Wishes, nodes: Mapping[str, Node], store: Store) -> Node:
    """The rows of ``wishes.data``, rendered as a Dataset of the model renders its own."""
    from eval.endpoint.items import form_of_file

    assert wishes.data is not None
    form, columns = form_of_file(wishes.data, wishes.form)
    test = {
        "files": [], "columns": columns, "seed": 0, "format": form,
        "suffix": "".join(wishes.data.suffixes[-2:]),
    }  # fmt: skip
    config = {
        **dataset.config,
        "sources": {"test": test},
        "carve": None,
        "carve_test": None,
        "replay": None,
        # What is only judged stays as it is, and every row of it is asked.
        "clean": Clean().model_dump(mode="json"),
        "max_quarantined": 0,
        "contamination": "drop",
        "not_checkable": [],
        "max_length": 1 << 20,
        "over_length": "error",
        "packing": False,
    }
    inputs = {"tokenizer": dataset.inputs["tokenizer"]}
    files = {"test": wishes.data.resolve()}
    files |= _template(dataset, store)
    keys = {"tokenizer": nodes[inputs["tokenizer"]].key or ""}
    digests = {role: store.digests.of(path) for role, path in files.items()}
    key = stage_key("prepare", config, keys, digests)
    return Node(f"{ROWS}/prepare.{key[:8]}", "prepare", config, inputs, files, key=key)


def is_closed(dataset: Node) -> bool:
    """Whether its labels are a set to choose one from."""
    return dataset.config["render"] in ("sft", "hybrid", "classify")


def _template(dataset: Node, store: Store) -> dict[str, Path]:
    """The chat template that a recipe brought for the rows of a Dataset."""
    artifact = store.get(dataset.key or "")
    told = dataset.files.get("chat_template")
    kept = told if artifact is None else own_template(artifact.path)
    return {} if kept is None else {"chat_template": kept}
