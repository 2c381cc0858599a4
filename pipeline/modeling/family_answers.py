"""What base, adapters and heads say to the same prompts, offline: transformers and PEFT alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import IntegrityError
from pipeline.modeling.adapters import attach_frozen
from pipeline.modeling.heads import load_classifier
from pipeline.modeling.loading import backbone, load_model, on_device, plain_model

GREEDY = 8
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Of numbers that are written down: far below any tolerance, and the same from run to run.
_DECIMALS = 6
Ids = Sequence[int]
Asked = tuple[Ids, Ids]
"""A prompt, and the ids after it that are weighed; none: the base's own greedy continuation."""


@dataclass(frozen=True)
class Spoken:
    """What one model says to one prompt.

    Attributes:
        logprobs: of each token of the target after those before it, in nats.
        greedy: ids of the likeliest continuation of the prompt; an id that ends it is in it.
        greedy_logprobs: of each of them, in nats.
        margins: at each of them, how far it is above the second likeliest, in nats.
    """

    logprobs: list[float]
    greedy: list[int]
    greedy_logprobs: list[float]
    margins: list[float]


@dataclass
class Family:
    """Answers of all models and heads, prompt by prompt.

    Attributes:
        targets: ids after each prompt whose log-probabilities are told.
        models: public name to what it says to each prompt.
        heads: name of a head to its uncalibrated logits for each prompt.
        rounding: largest and mean distance, in nats, to which a 16-bit type moves log-probabilities
            of targets from float32's; None in float32.
    """

    targets: list[tuple[int, ...]] = field(default_factory=list)
    models: dict[str, list[Spoken]] = field(default_factory=dict)
    heads: dict[str, list[list[float]]] = field(default_factory=dict)
    rounding: tuple[float, float] | None = None


@torch.inference_mode()
def answers_of_family(
    base: tuple[str, Path],
    adapters: Mapping[str, Path],
    heads: Mapping[str, Path],
    asked: Sequence[Asked],
    *,
    dtype: str,
    ends: Ids,
) -> Family:
    """Asks base, adapters and heads one after the other, over one copy of the base.

    Args:
        base: public name and folder.
        adapters, heads: public name to folder; a head's holds its adapter too.
        dtype: the type that is served. All weights are rounded to it, adapters' too, as an
            engine does; heads stay in float32, as beside an engine.
        ends: ids at which an answer ends.

    Raises:
        IntegrityError: a log-probability or logit is no number.
    """
    model = on_device(load_model(base[1])).eval()
    found = Family()
    found.targets = [
        tuple(target) or tuple(_greedy(model, ids, ends).greedy) for ids, target in asked
    ]
    names: dict[str, tuple[Path | None, str]] = {base[0]: (None, "")}
    for number, (name, folder) in enumerate([*adapters.items(), *heads.items()]):
        # PEFT takes no dots in a name.
        names[name] = folder, f"golden{number}"
        model = attach_frozen(model, folder, names[name][1])
    whole = [(ids, target) for (ids, _), target in zip(asked, found.targets, strict=True)]
    exact: dict[str, list[list[float]]] = {}
    if dtype != "float32":
        for name in [base[0], *adapters]:
            with _Active(model, names[name][1]):
                exact[name] = [_logprobs(model, ids, target) for ids, target in whole]
        # Weights alone: buffers, such as the rotary frequencies, stay exact in engines too.
        for weight in model.parameters():
            weight.data = weight.data.to(_DTYPES[dtype])
    for name in [base[0], *adapters]:
        with _Active(model, names[name][1]):
            found.models[name] = [_spoken(model, ids, target, ends, name) for ids, target in whole]
    for name, folder in heads.items():
        with _Active(model, names[name][1]):
            found.heads[name] = _of_head(model, folder, [ids for ids, _ in asked], name)
    found.rounding = _rounding(exact, found.models) if exact else None
    return found


class _Active:
    """One adapter of a model, and no other; without a name none."""

    def __init__(self, model: Any, name: str) -> None:
        self._model, self._name = model, name
        self._off: Any = None

    def __enter__(self) -> None:
        if self._name:
            self._model.base_model.set_adapter([self._name], inference_mode=True)
        elif hasattr(self._model, "disable_adapter"):
            self._off = self._model.disable_adapter()
            self._off.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self._off is not None:
            self._off.__exit__(*error)


def _spoken(model: Any, ids: Ids, target: Ids, ends: Ids, name: str) -> Spoken:
    said = replace(_greedy(model, ids, ends), logprobs=_logprobs(model, ids, target))
    numbers = [*said.logprobs, *said.greedy_logprobs, *said.margins]
    if not all(map(math.isfinite, numbers)):
        raise IntegrityError(
            f"golden: {name}: a log-probability is no number; look at its weights, or serve it in "
            "float32"
        )
    return said


def _logprobs(model: Any, ids: Ids, target: Ids) -> list[float]:
    """Of each target token after the prompt and those before it, in nats."""
    whole = torch.tensor([[*ids, *target]], device=model.device)
    logits_TV = model(input_ids=whole).logits[0, len(ids) - 1 : -1].float()
    wanted = torch.tensor(target, device=logits_TV.device)[:, None]
    logprobs_T = logits_TV.log_softmax(-1).gather(1, wanted)[:, 0]
    return [round(value, _DECIMALS) for value in logprobs_T.tolist()]


def _greedy(model: Any, ids: Ids, ends: Ids) -> Spoken:
    """The likeliest continuation; nothing is said of a target."""
    said = Spoken([], [], [], [])
    given, kept = torch.tensor([list(ids)], device=model.device), None
    while len(said.greedy) < GREEDY and (not said.greedy or said.greedy[-1] not in ends):
        made = model(input_ids=given, past_key_values=kept, use_cache=True)
        top = made.logits[0, -1].float().log_softmax(-1).topk(2)
        best, second = top.values.tolist()
        said.greedy.append(int(top.indices[0]))
        said.greedy_logprobs.append(round(best, _DECIMALS))
        said.margins.append(round(best - second, _DECIMALS))
        given, kept = top.indices[:1][None], made.past_key_values
    return said


def _of_head(model: Any, folder: Path, prompts: Sequence[Ids], name: str) -> list[list[float]]:
    head = load_classifier(model, folder)
    head.score.to(model.device)
    head.eval()
    found = []
    for prompt in prompts:
        ids = torch.tensor([list(prompt)], device=model.device)
        mask = torch.ones_like(ids)
        states = backbone(plain_model(model))(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = head.logits(states.float(), mask)[0]
        if not logits.isfinite().all():
            raise IntegrityError(f"golden: head {name}: a logit is no number; look at its weights")
        found.append([round(value, _DECIMALS) for value in logits.tolist()])
    return found


def _rounding(
    exact: Mapping[str, list[list[float]]], models: Mapping[str, list[Spoken]]
) -> tuple[float, float]:
    apart = [
        abs(one - other)
        for name, prompts in exact.items()
        for before, said in zip(prompts, models[name], strict=True)
        for one, other in zip(before, said.logprobs, strict=True)
    ]
    return max(apart), sum(apart) / len(apart)
