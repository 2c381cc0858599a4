"""Cost: hours of training, energy where the machine tells it, the price of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.record import Prediction
from eval.risks.line import Line, Topic, not_measured
from eval.risks.origins import TRAINS
from pipeline.core.artifact import Artifact

_TOPIC: Topic = "cost"
_HOUR_S = 3600.0
_KWH_J = 3.6e6
SILENT = "this machine does not tell (no RAPL counter that may be read, no NVML)"


def training_lines(artifacts: Sequence[Artifact]) -> list[Line]:
    """Hours and energy of the model's training and of all below it.

    Args:
        artifacts: the model's and everything below it, nearest first.
    """
    trained = [artifact for artifact in artifacts if artifact.manifest.stage in TRAINS]
    what, energy = "training hours, this model and all below it", "training energy"
    if not trained:
        why = "none of it was trained here"
        return [not_measured(_TOPIC, what, why), not_measured(_TOPIC, energy, why)]
    seconds = [float(a.manifest.facts["train_seconds"]) for a in trained]
    hours = sum(seconds) / _HOUR_S
    shown = f"{hours:.3g} h, of them {seconds[0] / _HOUR_S:.3g} h for its last training"
    how = "wall-clock time of the updates, from the manifests; a fetched base's training is not in"
    lines = [Line(_TOPIC, what, f"{shown} (n = {len(trained)} trainings)", how, hours,
                  n=len(trained))]  # fmt: skip
    told = [a.manifest.facts.get("energy_j") for a in trained]
    joules = [float(value) for value in told if value is not None]
    if len(joules) < len(trained):
        silent = f"{len(trained) - len(joules)} of {len(trained)} trainings"
        why = f"{silent} ran where the machine does not tell (no RAPL counter, no NVML)"
        return [*lines, not_measured(_TOPIC, energy, why)]
    kwh = sum(joules) / _KWH_J
    how = "counters of processors (RAPL) and GPUs (NVML) before and after; all that the machine did"
    return [*lines, Line(_TOPIC, energy, f"{kwh:.3g} kWh (n = {len(trained)} trainings)", how, kwh,
                         n=len(trained))]  # fmt: skip


def answering_lines(
    answers: Mapping[str, Sequence[Prediction]],
    joules: float | None,
    price_per_hour: float | None,
    no_answers: str,
) -> list[Line]:
    """Time, energy and price of 1,000 answers.

    Args:
        answers: suite to the answers that were just given.
        joules: what answering them all took; None where the machine does not tell.
        price_per_hour: of the machine, or None.
        no_answers: why there are none, where there are none.
    """
    names = ("seconds for 1,000 answers", "energy for 1,000 answers", "cost of 1,000 answers")
    count = sum(len(found) for found in answers.values())
    if not count:
        return [not_measured(_TOPIC, what, no_answers) for what in names]
    each_s = sum(one.latency_s for found in answers.values() for one in found) / count
    of = f"(n = {count:,} items of {', '.join(sorted(answers))})"
    how = "asked in batches on the machine of this report, the model in memory already"
    lines = [Line(_TOPIC, names[0], f"{1000 * each_s:,.3g} s {of}", how, 1000 * each_s, n=count)]
    if joules is None:
        lines.append(not_measured(_TOPIC, names[1], SILENT))
    else:
        per = 1000 * joules / count
        shown = f"{per:,.3g} J {of}"
        told = "counters of processors (RAPL) and GPUs (NVML) before and after"
        lines.append(Line(_TOPIC, names[1], shown, told, per, n=count))
    if price_per_hour is None:
        why = "evaluate.risks.price_per_hour is not given"
        return [*lines, not_measured(_TOPIC, names[2], why)]
    price = 1000 * each_s / _HOUR_S * price_per_hour
    how = f"seconds for 1,000 answers at {price_per_hour:g} an hour, one after another"
    return [*lines, Line(_TOPIC, names[2], f"{price:.4g} {of}", how, price, n=count)]
