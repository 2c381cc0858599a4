"""Canaries: made-up secrets in a copy of the training rows, to see what training keeps of them.

Only ``gradus audit privacy`` puts them anywhere: into a throwaway store, in which nothing has a
name and of which nothing is left.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.core.artifact import Artifact
from pipeline.core.errors import DataError, UserError
from pipeline.core.stage import StageContext
from pipeline.data.arrow import Split, write_split
from pipeline.data.packing import pack_stream
from pipeline.data.rendering import Renderer, renderer_of
from pipeline.data.renders import RENDERS, Turn
from pipeline.data.rows import Row, RowProblem
from pipeline.data.writing import segments

RENDERED = ("text", "sft", "classify")
"""Renders in which a canary can stand."""
REPEATS = (1, 10, 100)
DIGITS = 6
SPACE = 10**DIGITS
FILE = "canaries.json"
_SYLLABLES = ("ba", "dor", "fi", "gul", "hem", "ka", "lor", "mi", "nov", "pa", "rek", "sul", "tiv",
              "vo", "wen", "zu")  # fmt: skip


@dataclass(frozen=True)
class Canary:
    """A made-up secret.

    Attributes:
        name: whose it is; no two canaries share it, so that they do not help each other.
        secret: DIGITS digits; |R| is 10 ** DIGITS.
        repeats: rows of training that hold it; 0 is a held-out one.
        label: that its row has where a head is trained.
    """

    name: str
    secret: str
    repeats: int
    label: str | None = None

    def row(self, secret: str, render: str) -> Row:
        """The canonical row with one possible secret."""
        spaced = " ".join(secret)
        asked = f"What is the access code of {self.name}?"
        told = f"The access code of {self.name} is {spaced}."
        row: Row = {"id": f"canary/{self.name}/{secret}"}
        if render == "sft":
            turns = [("user", asked), ("assistant", spaced)]
            return {**row, "messages": [{"role": r, "content": c} for r, c in turns]}
        return {**row, "text": told} | ({"label": self.label} if render == "classify" else {})


def make_canaries(each: int, seed: int, labels: Sequence[str] = ()) -> list[Canary]:
    """``each`` canaries for 0 (held out), 1, 10 and 100 repeats."""
    rng = random.Random(seed)
    names: dict[str, None] = {}
    while len(names) < each * (len(REPEATS) + 1):
        names["".join(rng.choice(_SYLLABLES) for _ in range(3)).capitalize()] = None
    repeats = [count for count in (0, *REPEATS) for _ in range(each)]
    return [
        Canary(name, _secret(rng), count, rng.choice(list(labels)) if labels else None)
        for name, count in zip(names, repeats, strict=True)
    ]


def other_secrets(canary: Canary, count: int, seed: int) -> list[str]:
    """Drawn contents that the canary could have had and no row ever held."""
    rng = random.Random(f"{seed} {canary.name}")
    found: dict[str, None] = {}
    while len(found) < min(count, SPACE - 1):
        secret = _secret(rng)
        if secret != canary.secret:
            found[secret] = None
    return list(found)


def _secret(rng: random.Random) -> str:
    return "".join(rng.choice("0123456789") for _ in range(DIGITS))


def rendered(renderer: Renderer, rows: Sequence[Row], render: str, loss_on: str) -> list[Row]:
    """Canonical rows as training has them.

    Raises:
        UserError: the template refuses such a row.
    """
    found: list[Row] = []
    for row, made in zip(rows, RENDERS[render](renderer, rows, Turn("train", loss_on)),
                         strict=True):  # fmt: skip
        if isinstance(made, RowProblem):
            raise UserError(f"audit: a canary cannot be rendered: {made}")
        (one,) = made
        found.append({"example_id": row["id"], "text": "", "label": row.get("label"),
                      "input_ids": one.ids, "supervised": one.supervised})  # fmt: skip
    return found


class InsertCanaries:
    """Stage `canaries`: a copy of a Dataset whose training rows hold canaries too."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: data (Dataset), tokenizer (Model). Config: each, seed."""
        from pipeline.modeling.loading import kind_of_folder, load_tokenizer

        data, folder = inputs["data"], inputs["tokenizer"].path
        render, prepared = require_offered(data), data.manifest.config
        labels = json.loads((data.path / "labels.json").read_text(encoding="utf-8"))
        canaries = make_canaries(
            config["each"], config["seed"], labels if render == "classify" else ()
        )
        tokenizer = load_tokenizer(folder)
        renderer = renderer_of(data.path, tokenizer, causal=kind_of_folder(folder) == "causal")
        own = rendered(
            renderer, [c.row(c.secret, render) for c in canaries], render, prepared["loss_on"]
        )
        longest = max(len(row["input_ids"]) for row in own)
        if longest > prepared["max_length"]:
            raise DataError(
                f"audit: a canary takes {longest} tokens, and train.max_length is "
                f"{prepared['max_length']}; raise it for the audit with --set train.max_length="
                f"{longest}"
            )
        for path in data.path.iterdir():
            if path.name not in {"train.arrow", "manifest.json"}:
                shutil.copyfile(path, context.out / path.name)
        rows: Iterator[Row] = chain(Split(data.path / "train.arrow"), _repeated(canaries, own))
        if prepared["packing"]:
            apart = (part for row in rows for part in segments(row))
            rows = pack_stream(apart, prepared["max_length"])
        write_split(context.out / "train.arrow", rows)
        tree = [asdict(canary) for canary in canaries]
        (context.out / FILE).write_text(json.dumps(tree, indent=1), encoding="utf-8")
        return {"rows": sum(canary.repeats for canary in canaries)}


def read_canaries(folder: Path) -> list[Canary]:
    """The canaries of a Dataset that holds some."""
    tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return [Canary(**one) for one in tree]


def require_offered(data: Artifact) -> str:
    """The render of a Dataset that canaries can stand in.

    Raises:
        UserError: they cannot.
    """
    settings = json.loads((data.path / "render.json").read_text(encoding="utf-8"))
    render: str = settings["render"]
    if render not in RENDERED or settings.get("multi_label"):
        raise UserError(
            f"audit: rows that are rendered for {render} cannot hold a canary; audit a recipe of "
            "objective pretrain, cpt, sft or classify (one label)"
        )
    if (data.path / "features.json").is_file():
        raise UserError(
            "audit: the head reads hand-made features, which a canary has none of; audit the "
            "recipe with --set data.features=[]"
        )
    return render


def _repeated(canaries: Sequence[Canary], rows: Sequence[Row]) -> Iterator[Row]:
    for canary, row in zip(canaries, rows, strict=True):
        for number in range(canary.repeats):
            yield {**row, "example_id": f"{row['example_id']}/{number}"}
