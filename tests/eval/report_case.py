"""A made-up comparison with every part that a page can have: banking questions, 77 intents."""

from __future__ import annotations

from typing import Any

import numpy as np
from report_case_parts import curve, figure, forgetting, gap, generated, risks, signed

_THINGS = ["card", "transfer", "top-up", "refund", "exchange rate", "PIN", "direct debit",
           "cash withdrawal", "identity check", "account limit", "statement"]  # fmt: skip
_WHAT = ["not arrived", "declined", "pending", "charged twice", "how it works", "wrong amount",
         "cancel"]  # fmt: skip
LABELS = [f"{thing} {what}".replace(" ", "_") for thing in _THINGS for what in _WHAT]

# arm, form, level, role, accuracy, seconds for 1,000 items, gives scores
ARMS = [
    ("classifier", "discriminative", "L2", "model", 0.921, 31.0, True),
    ("generate", "generative", "L2", "model", 0.907, 212.0, False),
    ("constrained", "generative", "L2", "model", 0.911, 234.0, False),
    ("likelihood", "generative", "L2", "model", 0.914, 420.0, True),
    ("likelihood_mean", "generative", "L2", "model", 0.902, 421.0, True),
    ("joint", "generative", "L2", "model", 0.858, 1980.0, True),
    ("joint_untrained", "generative", "L1", "model", 0.312, 1985.0, True),
    ("classifier", "discriminative", "L2", "control", 0.903, 31.0, True),
    ("tfidf_bayes", "generative", "L0", "reference", 0.784, 0.21, True),
    ("tfidf_logreg", "discriminative", "L0", "reference", 0.842, 0.34, True),
    ("nearest", "discriminative", "L0", "reference", 0.871, 12.0, True),
    ("zero_shot", "generative", "L0", "reference", 0.446, 460.0, True),
    ("few_shot", "generative", "L0", "reference", 0.571, 1320.0, True),
    ("retrieved", "generative", "L0", "reference", 0.598, 910.0, False),
]  # fmt: skip
NAMES = {"model": "banking-intents", "control": "banking-intents-from-l0", "reference": "reference"}


def comparison(labels: list[str] | None = None) -> dict[str, Any]:
    """The comparison as JSON values, the same each time."""
    rng = np.random.default_rng(7)
    labels = LABELS if labels is None else labels
    return {
        **_ladder(), "arms": [_arm(*arm, rng) for arm in ARMS], "pairs": _pairs(),
        "classes": _classes(labels, rng), "disagreements": _disagreements(labels),
        "recommendation": _recommendation(), "learning_curve": curve(), "gap": gap(),
        "forgetting": forgetting(),
        "generated": generated(), "risks": [risks()],
    }  # fmt: skip


def facts() -> dict[str, Any]:
    """What stands beside the figures."""
    history: list[dict[str, float]] = []
    for step in range(1, 121):
        history.append({"step": step, "loss": 2.6 * 0.97**step + 0.08 * np.cos(step).item() + 0.12,
                        "learning_rate": 2e-4 * (1 - step / 120), "grad_norm": 1.2})  # fmt: skip
        if step % 20 == 0:
            history.append({"step": step, "validation_loss": 2.4 * 0.975**step + 0.25,
                            "validation_accuracy": 0.93 - 0.8 * 0.96**step})  # fmt: skip
    about = {"name": "banking-intents", "objective": "classify", "role": "model", "kept": 100,
             "speed": [[step, 5100.0 + 90 * (step % 7)] for step in range(10, 121, 10)],
             "tokens_per_s": 5300.0, "history": history}  # fmt: skip
    funnel = {"read": 10003, "quarantined": 3, "cleaned": 41, "duplicate": 87,
              "near duplicate": 212, "to validation": 960, "kept": 8700}  # fmt: skip
    data = {
        "funnel": {"train": funnel, "validation": {"received": 960, "kept": 960, "read": 0}},
        "examples": {"train": {"examples": 8700, "tokens": 400_000, "supervised_tokens": 43_000,
                               "lengths": {"32": 2100, "64": 5400, "128": 1150, "256": 50}}},
        "sources": [{"repo": "example/banking", "split": "train", "format": "classification",
                     "licence": "CC-BY-4.0", "read": 10003, "quarantined": 3},
                    {"repo": "example/banking", "split": "test", "format": "classification",
                     "licence": "CC-BY-4.0", "read": 3080, "quarantined": 0}],
        "contamination": {"policy": "drop", "checked": {"test": 3080}, "hits": 0,
                          "not_checkable": ["example/base-0.6b"]},
    }  # fmt: skip
    model = {
        "base": "example/base-0.6b", "base_kind": "hub", "revision": "0" * 40,
        "base_licence": None, "architecture": "Qwen3ForCausalLM", "parameters": 596_049_920,
        "trainable_parameters": 4_587_520, "objectives": ["classify", "sft"],
        "training": {"method": "lora", "lora_r": 16, "learning_rate": 2e-4, "max_length": 256},
        "seeds": [0, 1, 2], "below": ["banking-l1"], "languages": ["en"],
        "sources": [
            {"repo": "example/banking", "split": "train", "licence": "CC-BY-4.0", "read": 10003,
             "for": "banking-intents"},
            {"name": "letters.jsonl", "split": "train", "read": 52_114, "for": "banking-l1"},
        ],
    }  # fmt: skip
    return {
        "model": model,
        "hardware": {"cpu": "16 cores", "gpu": "one, 80 GB"},
        "packages": {"torch": "2.13.0", "transformers": "5.19.0", "peft": "0.21.2"},
        "data": {"banking-intents/prepare.classify": data},
        "training": [{**about, "seed": seed} for seed in (0, 1, 2)],
        "looks_at_test": {"banking-intents/evaluate.classify.seed0": {"test": 3}},
        "made_from": {"banking-intents/train.classify.seed0": "8c1d5f0e9a7b3342"},
    }


def _ladder() -> dict[str, Any]:
    losses = {"L0": (4.112, 2.871), "L1": (2.305, 2.902), "L2": (2.377, 2.934)}
    levels = {
        level: {
            "domain_loss": domain, "domain_interval": [domain - 0.06, domain + 0.06],
            "domain_bits_per_byte": domain / 2.9, "general_loss": general,
            "general_interval": [general - 0.05, general + 0.05],
            "general_bits_per_byte": general / 2.9,
        }
        for level, (domain, general) in losses.items()
    }  # fmt: skip

    def side(accuracy: float) -> dict[str, Any]:
        of = figure(accuracy)
        return {"accuracy": of.pop("estimate"), **of, "seeds": 3}

    heads = {
        "classifier": {"with_l1": side(0.921), "without_l1": side(0.903),
                       "difference": {**figure(0.018, 0.009), "seeds": 3}},
        "generative": {"with_l1": side(0.907), "without_l1": None, "difference": None},
    }  # fmt: skip
    gates = [
        {"status": "pass", "text": "accuracy on test, classifier: above the control by more than "
         "0.000 (superiority): +0.018 [+0.009, +0.026]"},
        {"status": "pass", "text": "loss on general text: at most 1.03 times the base's: "
         "1.022 [1.015, 1.029]"},
        {"status": "undecided", "text": "accuracy on test, generate: at least 0.900: "
         "0.907 [0.895, 0.918]"},
        {"status": "fail", "text": "contamination: at most 0: 0 rows in test, 2 in general"},
    ]  # fmt: skip
    models = [
        {"name": NAMES[role], "level": level, "arm": arm, "role": role, "seed": seed,
         "accuracy": accuracy, "macro_f1": accuracy - 0.004, "matthews": accuracy - 0.002,
         "unparseable": 0.0, "ece": 0.031, "brier": 0.12, "nll": 0.33, "domain_loss": None,
         "general_loss": None, "seconds": {"train": 412.0, "evaluate": 88.0}}
        for arm, _, level, role, accuracy, _, _ in ARMS[:2] for seed in range(3)
    ]  # fmt: skip
    return {
        "levels": levels, "steps": [], "heads": heads, "forms": None, "chance": 0.013,
        "gates": gates, "models": models, "contamination": 0, "clean": [], "tasks": [],
        "suites": {"domain": "domain", "general": "general", "task": "test"}, "verdict": "fail",
        "sentences": [
            "L1 reads domain text better than L0: loss 4.112 to 2.305, ratio 0.561 [0.548, 0.573].",
            "L1 helps the classifier form: +0.018 [+0.009, +0.026] accuracy over 3 paired seeds.",
            "Whether L1 helps the generative form was not measured: there is no control.",
            "The classifier beats the generative form: +0.014 [+0.006, +0.022] accuracy, over 3 "
            "paired seeds.",
        ],
    }  # fmt: skip


def _arm(
    arm: str, form: str, level: str, role: str, accuracy: float, cost: float, scored: bool,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    half = 0.011 if accuracy > 0.8 else 0.018
    return {
        "key": _key(arm, role), "arm": arm, "form": form, "name": NAMES[role], "level": level,
        "role": role,
        "seeds": 3 if role != "reference" else 1, "items": 3080,
        "accuracy": figure(accuracy, half),
        "macro_f1": accuracy - 0.004, "matthews": accuracy - 0.002,
        "unparseable": 0.0065 if arm == "generate" else 0.0,
        "calibration": _calibration(accuracy, rng) if scored else None,
        "selective": _selective(accuracy, arm) if scored else None,
        "cost": {
            "latency_p50_s": cost / 1000, "latency_p95_s": cost / 700, "items_per_s": 1000 / cost,
            "prompt_tokens_per_1000": 0.0 if arm.startswith("tfidf") else 118_240.0,
            "output_tokens_per_1000": 5120.0 if form == "generative" else 0.0,
            "compute_s_per_1000": cost, "device": "cuda" if level == "L2" else "cpu",
            "peak_bytes": 2.1e9 if level == "L2" else 1.4e8,
        },
    }  # fmt: skip


def _key(arm: str, role: str) -> str:
    return f"{arm} (control)" if role == "control" else arm


def _calibration(accuracy: float, rng: np.random.Generator) -> dict[str, Any]:
    bins = []
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        middle = (low + high) / 2
        right = float(np.clip(middle**1.25 + rng.normal(0, 0.025), 0, 1))
        items = int(3080 * 0.6 ** (14 - index) * 0.4) + (index > 2)
        empty = items == 0
        bins.append({"low": low, "high": high, "confidence": None if empty else middle,
                     "accuracy": None if empty else right, "items": items})  # fmt: skip
    after = [{**b, "accuracy": b["confidence"] and min(1.0, b["confidence"] * 1.01)} for b in bins]
    return {"reliability_after": after, "bins": 15, "ece": 0.041, "brier": 0.121, "nll": 0.344,
            "temperature": 1.38, "fitted_on": 960, "ece_after": 0.014, "nll_after": 0.311,
            "reliability": bins, "doubts": []}  # fmt: skip


def _selective(accuracy: float, arm: str) -> dict[str, Any]:
    coverage = np.linspace(0.02, 1, 100)
    risk = (1 - accuracy) * coverage**2.2
    return {
        "risk_coverage": [[float(c), float(r)] for c, r in zip(coverage, risk, strict=True)],
        "area": float(risk.mean()),
        "targets": [
            {"precision": 0.9, "threshold": 0.41, "coverage": 0.98, "items": 960,
             "reached": "yes" if accuracy > 0.5 else "no", "precision_on_test": 0.912,
             "low_on_test": 0.902, "high_on_test": 0.921, "coverages": [0.97, 0.98, 0.99]},
            {"precision": 0.95, "threshold": 0.72, "coverage": 0.89, "items": 960,
             "reached": "undecided" if accuracy > 0.8 else "no", "precision_on_test": 0.953,
             "low_on_test": 0.944, "high_on_test": 0.961, "coverages": [0.88, 0.89, 0.9]},
        ],
        "out_of_scope_auroc": 0.934 if arm == "joint" else None,
    }  # fmt: skip


def _pairs() -> list[dict[str, Any]]:
    told = [
        ("classifier", "likelihood", 0.007, 0.006, 0.021, 0.063),
        ("classifier", "generate", 0.014, 0.007, 0.0004, 0.0016),
        ("classifier", "tfidf_logreg", 0.079, 0.011, 1e-12, 1e-11),
        ("likelihood", "constrained", 0.003, 0.006, 0.31, 0.31),
        ("joint", "tfidf_bayes", 0.074, 0.013, 1e-9, 1e-8),
    ]
    pairs = []
    for a, b, difference, half, p, holm in told:
        shown = "is more accurate than" if holm < 0.05 else "is not shown to differ from"
        words = f"{a} {shown} {b}: 3 paired seeds, 3,080 items."
        pairs.append({"a": a, "b": b, "difference": signed(difference, half), "p": p,
                      "mcnemar_p": p / 2, "holm_p": holm, "smallest_difference": 0.011, "seeds": 3,
                      "clusters": None, "words": words})  # fmt: skip
    return pairs


def _classes(labels: list[str], rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    found = {}
    for head, accuracy in (("classifier", 0.921), ("generative", 0.907)):
        cells: list[list[Any]] = []
        for index, label in enumerate(labels):
            right = int(rng.binomial(40, accuracy))
            cells.append([label, label, right])
            near = labels[(index + 1) % len(labels)]
            cells.append([label, near, 40 - right])
        cells = [cell for cell in cells if cell[2]]
        if head == "generative":
            cells.append([labels[0], None, 3])
        wrong = sorted((c for c in cells if c[0] != c[1]), key=lambda c: -c[2])[:12]
        found[head] = {
            "model": "banking-intents", "seed": 0, "confusion": cells,
            "per_class": [
                {"label": label, "precision": 0.91, "recall": 0.93, "f1": 0.92, "support": 40}
                for label in labels
            ],
            "mistakes": [{"gold": g, "label": a, "items": n} for g, a, n in wrong],
        }  # fmt: skip
    return found


def _disagreements(labels: list[str]) -> dict[str, Any]:
    arms = ["classifier", "generate", "likelihood", "joint", "tfidf_logreg"]
    texts = [
        "I paid for my groceries this morning and the money has left my account two times now.",
        "Where is it? You said five working days and that was on the 3rd.",
        "Can I change what I take out of the machine in a day while I am abroad?",
        "My top-up shows as pending since yesterday, what is going on with it?",
    ]
    items = []
    for index in range(20):
        gold = labels[(3 * index) % len(labels)]
        other = labels[(3 * index + 1) % len(labels)]
        answers = {arm: gold if (index + k) % 3 else other for k, arm in enumerate(arms)}
        if index % 7 == 3:
            answers["generate"] = None  # type: ignore[assignment]
        items.append({"example_id": f"{index}", "text": texts[index % 4], "gold": gold,
                      "answers": answers})  # fmt: skip
    return {"arms": arms, "share": 0.213, "different": 656,
            "constrained_against_likelihood": 0.018, "items": items}  # fmt: skip


def _recommendation() -> dict[str, Any]:
    best = {"tfidf_bayes", "tfidf_logreg", "nearest", "classifier"}
    return {
        "key": "classifier", "arm": "classifier", "name": "banking-intents", "margin": 0.01,
        "cost_is": "seconds by the clock", "trained": True, "undecided": [],
        "words": [
            "Deploy the classifier head of banking-intents: 92.1 % right, at 31 s of compute for "
            "1,000 items.",
            "It is the cheapest way that is not worse than the best by more than 0.010: no way is "
            "shown to be better.",
            "Nearest neighbours need no training and lose 5.0 points [4.1, 6.0]; TF-IDF with "
            "logistic regression costs a hundredth and loses 7.9 points [6.8, 9.0].",
        ],
        "frontier": [
            {"key": _key(arm, role), "arm": arm, "name": NAMES[role], "role": role,
             "quality": accuracy, "low": accuracy - 0.011, "high": accuracy + 0.01,
             "cost_s_per_1000": cost, "on_frontier": arm in best and role != "control"}
            for arm, _, _, role, accuracy, cost, _ in ARMS if role != "control"
        ],
    }  # fmt: skip
