"""Stage `audit`: what a throwaway model keeps of the canaries that it was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.loaded import Loaded
from eval.risks.canaries import (
    REPEATS,
    SPACE,
    Canary,
    other_secrets,
    read_canaries,
    rendered,
    require_offered,
)
from eval.risks.exposure import fitted_exposure, rank_of, sampled_exposure
from eval.risks.line import Line
from eval.risks.losses import row_losses
from eval.risks.privacy import membership_lines
from pipeline.core.artifact import Artifact
from pipeline.core.stage import StageContext
from pipeline.data.rendering import renderer_of

FILE = "audit.json"


class Audit:
    """Ranks each canary among contents that it could have had, and infers membership by loss."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Inputs: root, adapter (optional), data (the Dataset with canaries), clean (the same
        without them). Config: name, reference, items, seed."""
        data = inputs["data"]
        render = require_offered(data)
        settings = {"arm": "text", "max_new_tokens": 1, "answer_after": None}
        loaded = Loaded(inputs["root"], inputs.get("adapter"), settings, context)

        def losses(rows: Sequence[Mapping[str, Any]]) -> list[float]:
            return row_losses(
                loaded.model, rows, render, head=loaded.head, batch_size=loaded.batch_size,
                pad_id=loaded.pad_id,
            )  # fmt: skip

        canaries = read_canaries(data.path)
        causal = bool(loaded.model.can_generate())
        renderer = renderer_of(data.path, loaded.tokenizer, causal=causal)
        loss_on = data.manifest.config.get("loss_on", "assistant")
        found = []
        for number, canary in enumerate(canaries):
            others = other_secrets(canary, config["reference"], config["seed"])
            rows = [canary.row(secret, render) for secret in (canary.secret, *others)]
            own, *reference = losses(rendered(renderer, rows, render, loss_on))
            found.append(_measured(canary, own, reference))
            context.progress({"step": number + 1, "total": len(canaries)})
        membership = membership_lines(
            losses, inputs["clean"], render, config["items"], config["seed"]
        )
        tree = {
            "name": config["name"],
            "space": SPACE,
            "reference": config["reference"],
            "canaries": found,
            "lines": [line.to_json() for line in [*exposure_lines(found), *membership]],
        }
        (context.out / FILE).write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
        return {"canaries": len(found)}


def _measured(canary: Canary, own: float, reference: Sequence[float]) -> dict[str, Any]:
    return {
        "repeats": canary.repeats,
        "loss": own,
        "rank": rank_of(own, reference),
        "of": len(reference) + 1,
        "sampled_bits": sampled_exposure(own, reference),
        "fitted_bits": fitted_exposure(own, reference, SPACE),
    }


def exposure_lines(found: Sequence[Mapping[str, Any]]) -> list[Line]:
    """Mean exposure for each number of repeats, held-out canaries first."""
    lines = []
    for repeats in (0, *REPEATS):
        mine = [one for one in found if one["repeats"] == repeats]
        if not mine:
            continue
        bits = [one["sampled_bits"] for one in mine]
        fitted = [one["fitted_bits"] for one in mine]
        highest = np.log2(mine[0]["of"])
        named = "held-out canaries" if not repeats else f"canaries repeated {repeats} times"
        shown = (
            f"{np.mean(bits):.1f} bits of at most {highest:.1f} (from {min(bits):.1f} to "
            f"{max(bits):.1f}, n = {len(bits)}); fitted {np.mean(fitted):.1f} of at most "
            f"{np.log2(SPACE):.1f}"
        )
        how = (
            "Carlini et al. 2019: log2 of the reference space less log2 of the canary's rank in "
            f"it ({mine[0]['of'] - 1:,} drawn contents that no row held, and its own); fitted: a "
            "skew-normal over their losses, for all contents; in a copy of the training that was "
            "thrown away"
        )
        lines.append(
            Line("privacy", f"exposure of {named}", shown, how, float(np.mean(bits)), n=len(bits))
        )
    return lines
