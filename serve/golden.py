"""golden.json of a bundle that is being made: what every engine that serves it has to repeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.controls import Controls
from serve.golden_file import GOLDEN_FILE, Conversation, Golden, Rounding, Said

_SPLITS = ("validation.arrow", "test.arrow", "train.arrow")
_OTHERS = 8


def write_golden(
    out: Path, tree: Mapping[str, Any], base: Path, data: Artifact | None
) -> dict[str, Any] | None:
    """Writes golden.json beside bundle.json.

    Args:
        out: the bundle's folder, its adapters and heads in it.
        tree: bundle.json.
        base: the base's folder.
        data: the prepared Dataset that served models were trained on.

    Returns:
        Facts for the manifest; None where nothing was prepared, or the base only reads: such a
        bundle has no golden conversations.

    Raises:
        IntegrityError: evaluation renders other ids than training read, or an answer is no number.
        ModelError: training ends its answers with a token that ends none.
    """
    if data is None or not any((data.path / name).is_file() for name in _SPLITS):
        return None
    from pipeline.modeling.loading import kind_of_folder

    if kind_of_folder(base) != "causal":
        return None
    from pipeline.data.golden_rows import CONVERSATIONS, golden_rows, probes, require_end
    from pipeline.data.rendering import Renderer, renderer_of, tokenizer_of
    from pipeline.modeling.endings import ends_in
    from pipeline.modeling.family_answers import answers_of_family
    from pipeline.modeling.loading import load_tokenizer

    tokenizer = load_tokenizer(base)
    ends = sorted({*ends_in(base, tokenizer), *tree["stop_token_ids"]})
    renderer = renderer_of(data.path, tokenizer, causal=True)
    served = Renderer(
        tokenizer_of(data.path, tokenizer),
        causal=True,
        system=tree["system"],
        template_kwargs=tree["chat_template_kwargs"],
        controls=Controls.from_json(tree["controls"]) if tree["controls"] else None,
    )
    made = list(islice(probes(served), 2))
    rows = golden_rows(data, renderer, ends, tree["max_model_len"])[: CONVERSATIONS - len(made)]
    rows += made
    if not rows:
        return None
    require_end(data, ends, tokenizer)
    heads = {each["name"]: out / each["path"] for each in tree["heads"]}
    left_out = [name for name, folder in heads.items() if _takes_features(folder)]
    family = answers_of_family(
        (tree["base"]["name"], base),
        {each["name"]: out / each["path"] for each in tree["adapters"]},
        {name: folder for name, folder in heads.items() if name not in left_out},
        [(row.ids, row.target) for row in rows],
        dtype=tree["dtype"],
        ends=ends,
    )
    strings = tokenizer.convert_ids_to_tokens
    golden = Golden(
        dtype=tree["dtype"],
        ends=ends,
        others=sorted({*tokenizer.all_special_ids} - {*ends})[:_OTHERS],
        rounding=None
        if family.rounding is None
        else Rounding(largest=family.rounding[0], mean=family.rounding[1]),
        conversations=[
            Conversation(
                name=row.name,
                witness="training" if row.witness == "training" else "renderer",
                messages=None if row.messages is None else [dict(m) for m in row.messages],
                text=row.text,
                ids=list(row.ids),
                strings=strings(list(row.ids)),
                target=list(target),
                target_strings=strings(list(target)),
                models={n: Said(**asdict(said[number])) for n, said in family.models.items()},
                # A head was trained on conversations like these, not on the opening of a document.
                heads={}
                if row.messages is None
                else {name: logits[number] for name, logits in family.heads.items()},
            )
            for number, (row, target) in enumerate(zip(rows, family.targets, strict=True))
        ],
    )
    text = json.dumps(golden.model_dump(), indent=1, sort_keys=True, ensure_ascii=False)
    (out / GOLDEN_FILE).write_text(text + "\n", encoding="utf-8")
    witnessed = sum(row.witness == "training" for row in rows)
    return {"conversations": len(rows), "of_training": witnessed, "heads_not_compared": left_out}


def _takes_features(folder: Path) -> bool:
    """Whether a head reads more than the text, which a golden conversation does not hold."""
    tree = json.loads((folder / "head.json").read_text(encoding="utf-8"))
    return bool(tree["features"])
