"""Stage `prepare`: sources -> splits -> contamination -> token ids, with a funnel that adds up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import write_split
from pipeline.data.contamination import (
    contaminated,
    fingerprints,
    read_fingerprints,
    row_text,
    write_fingerprints,
)
from pipeline.data.examples import Examples
from pipeline.data.rendering import Renderer
from pipeline.data.rows import Row, read_source
from pipeline.data.splits import carve_validation


class Prepare:
    """Writes train.arrow, validation.arrow, test.arrow, labels.json and dropped.jsonl."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: tokenizer (Model), fetched sources, ``ancestorN`` and ``replay`` Datasets."""
        splits = read_splits(inputs, config, context)
        labels = label_set(splits)
        ancestors = [inputs[role].path for role in sorted(inputs) if role.startswith("ancestor")]
        found = _clean(splits, config, ancestors)
        from pipeline.modeling.loading import read_config

        renderer = _renderer(inputs["tokenizer"].path, config, context)
        context_tokens = read_config(inputs["tokenizer"].path).get("max_position_embeddings")
        work = Examples(config, renderer, found["dropped"], context_tokens)
        for name, rows in splits.items():
            rendered = work.render(name, rows)
            if name == "train" and config["replay"] is not None:
                rendered = work.with_replay(rendered, inputs["replay"].path)
            write_split(context.out / f"{name}.arrow", rendered)
            work.counts[name] = len(rendered)
        replay = inputs.get("replay")
        if replay is not None:
            _check_replay(replay, inputs["tokenizer"], found["judged"])
        write_fingerprints(context.out, splits, replay.path if replay else None)
        _write_json(context.out / "labels.json", labels)
        _write_json(context.out / "render.json", {
            "render": config["render"],
            "system": config["system"],
            "chat_template_kwargs": config["chat_template_kwargs"],
        })  # fmt: skip
        lines = [json.dumps(item, ensure_ascii=False) for item in work.dropped]
        (context.out / "dropped.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return {
            "read": found["read"],
            "kept": work.counts,
            "contaminated": found["contaminated"],
            "over_length": work.over_length,
            "tokens": work.tokens,
            "labels": len(labels),
            "sources": _origins(config),
        }


def read_splits(
    inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
) -> dict[str, list[Row]]:
    def rows_of(source: Mapping[str, Any], role: str, where: str) -> list[Row]:
        folder = inputs[role].path if role in inputs else None
        return read_source(source, context.files.get(role), folder, where)

    sources = config["sources"]
    splits: dict[str, list[Row]] = {}
    if "train" in sources:
        rows: list[Row] = []
        for index, source in enumerate(sources["train"]):
            part = rows_of(source, f"train{index}", "data.train")
            rows += [{**row, "id": f"{index}/{row['id']}"} for row in part] if index else part
        splits["train"] = rows
        if config["carve"] is not None:
            carve = config["carve"]
            splits["train"], splits["validation"] = carve_validation(
                rows, carve["carve"], carve["by"], carve["seed"]
            )
    for name in ("validation", "test"):
        if name in sources:
            splits[name] = rows_of(sources[name], name, f"data.{name}")
    return splits


def label_set(splits: Mapping[str, Sequence[Row]]) -> list[str]:
    """Sorted labels of train (of test where there is no train); others must not have more."""
    known = {
        str(row["label"]) for row in splits.get("train", splits.get("test", ())) if "label" in row
    }
    for name, rows in splits.items():
        for row in rows:
            if "label" in row and str(row["label"]) not in known:
                raise DataError(
                    f"data.{name}: row {row['id']}: label {row['label']!r} is unseen in training; "
                    "add training rows with it or remove the row"
                )
    return sorted(known)


def _clean(
    splits: dict[str, list[Row]], config: Mapping[str, Any], ancestors: Sequence[Path]
) -> dict[str, Any]:
    """Takes rows out of train (and validation) that stand in any test set of the ancestry."""
    read = {name: len(rows) for name, rows in splits.items()}
    own_test = fingerprints(row_text(row) for row in splits.get("test", ()))
    judged = set(own_test)
    for folder in ancestors:
        theirs = read_fingerprints(folder)
        judged.update(theirs["test"])
        below = own_test & set(theirs["train"])
        if below:
            first = next(r for r in splits["test"] if fingerprints([row_text(r)]) & below)
            raise DataError(
                f"data.test: {len(below)} rows stand in an ancestor's training rows, e.g. "
                f"row {first['id']} {row_text(first)[:60]!r}; take them out of data.test"
            )
    dropped: list[dict[str, Any]] = []
    for name in ("train", "validation"):
        rows = splits.get(name)
        if rows is None:
            continue
        hits = set(contaminated([row_text(row) for row in rows], judged))
        if hits and config["contamination"] == "error":
            first = rows[min(hits)]
            raise DataError(
                f"data.{name}: {len(hits)} rows stand in a test set, e.g. row {first['id']} "
                f"{row_text(first)[:60]!r}; set data.contamination: drop or mend the data"
            )
        dropped += [
            {
                "split": name,
                "id": rows[i]["id"],
                "reason": "contaminated",
                "text": row_text(rows[i]),
            }
            for i in sorted(hits)
        ]
        splits[name] = [row for index, row in enumerate(rows) if index not in hits]
        if not splits[name]:
            raise DataError(f"data.{name}: every row stands in a test set; give other rows")
    return {"read": read, "dropped": dropped, "contaminated": len(dropped), "judged": judged}


def _check_replay(replay: Artifact, tokenizer: Artifact, judged: set[str]) -> None:
    """Replayed rows come as ids: of our tokenizer, and of no text that is judged here."""
    hits = judged & set(read_fingerprints(replay.path)["train"])
    if hits:
        raise DataError(
            f"data.replay: {len(hits)} of its training rows stand in a test set of this ancestry; "
            "take them out of that recipe's data"
        )
    theirs = replay.manifest.inputs["tokenizer"]["digest"]
    if theirs != tokenizer.digest and not _same_tokenizer(replay, tokenizer):
        raise DataError("data.replay: its ids are of another tokenizer; replay a recipe below this")


def _same_tokenizer(replay: Artifact, tokenizer: Artifact) -> bool:
    """Whether the tokenizer's files are equal, though weights differ (L0 before and after)."""
    store = tokenizer.path.parent
    other = store / replay.manifest.inputs["tokenizer"]["key"] / "tokenizer.json"
    mine = tokenizer.path / "tokenizer.json"
    return other.is_file() and mine.is_file() and other.read_bytes() == mine.read_bytes()


def _renderer(folder: Path, config: Mapping[str, Any], context: StageContext) -> Renderer:
    from pipeline.modeling.loading import load_tokenizer, model_kind

    tokenizer = load_tokenizer(folder, context.files.get("chat_template"))
    return Renderer(
        tokenizer,
        causal=model_kind(folder) == "causal",
        system=config["system"],
        template_kwargs=config["chat_template_kwargs"],
    )


def _origins(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where rows came from and under which licence, for the lineage."""
    sources = config["sources"]
    flat = [*sources.get("train", ()), *(v for k, v in sources.items() if k != "train")]
    return [
        {k: source[k] for k in ("repo", "generator", "part", "licence", "suffix") if k in source}
        for source in flat
    ]


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
