"""The made-up comparison's further parts: curve, gap, forgetting, texts, risks."""

from __future__ import annotations

from typing import Any


def figure(estimate: float, half: float = 0.012) -> dict[str, Any]:
    low, high = max(estimate - half, 0.0), min(estimate + 0.9 * half, 1.0)
    return {"estimate": estimate, "low": low, "high": high, "covers": "seeds and items"}


def signed(estimate: float, half: float) -> dict[str, Any]:
    return {"estimate": estimate, "low": estimate - half, "high": estimate + half,
            "covers": "seeds and items"}  # fmt: skip


def curve() -> dict[str, Any]:
    points = []
    for form, arm, start, end in (
        ("discriminative", "classifier", 0.31, 0.921), ("generative", "likelihood", 0.44, 0.914),
    ):  # fmt: skip
        for step, share in enumerate((0.01, 0.03, 0.1, 0.3, 1.0)):
            reached = start + (end - start) * (1 - (1 - step / 4) ** 2)
            points.append((form, arm, share, 0.0, reached))
        points += [(form, arm, 1.0, flip, end - loss)
                   for flip, loss in ((0.1, 0.02), (0.2, 0.06))]  # fmt: skip
    return {
        "points": [
            {"form": form, "arm": arm, "share": share, "rows": max(77, int(8700 * share)),
             "flipped": flip, "accuracy": figure(reached, 0.05 - 0.035 * share), "seeds": 3}
            for form, arm, share, flip, reached in points
        ],
        "claims": [
            "With 87 rows the generative form is ahead: 0.440 against 0.310, over 3 seeds.",
            "From 2,610 rows on the classifier is ahead: that discriminative needs less data was "
            "not seen here.",
            "With 20 % of the labels flipped both lose the same: 0.060 [0.041, 0.079].",
        ],
    }  # fmt: skip


def gap() -> list[dict[str, Any]]:
    measured = (("classifier", 0.987, 0.921), ("generate", 0.962, 0.907))
    return [
        {"arm": arm, "name": "banking-intents", "role": "model", "train_items": 200,
         "train": figure(train, 0.004),
         "test": figure(test), "gap": signed(train - test, 0.013)}
        for arm, train, test in measured
    ]  # fmt: skip


def forgetting() -> list[dict[str, Any]]:
    shared = {"against": "base", "name": "banking-intents", "below": "example/base-0.6b"}
    ratio = {"estimate": 1.022, "low": 1.015, "high": 1.029, "covers": "documents"}
    return [
        {**shared, "suite": "general", "metric": "bits_per_byte", "arm": None, "model": 1.012,
         "was": 0.99, "change": ratio, "forgotten": True, "words": "Some is forgotten."},
        {**shared, "suite": "instructions", "metric": "accuracy", "arm": "generate", "model": 0.61,
         "was": 0.62, "change": signed(-0.01, 0.02), "forgotten": None, "words": "No change."},
    ]  # fmt: skip


def generated() -> list[dict[str, Any]]:
    diversity = {
        "texts": 500, "distinct": {"1": 0.182, "2": 0.511, "3": 0.702},
        "self_bleu": {"estimate": 0.29, "sample": 200, "seed": 0}, "repeated": 0.014,
        "stuck": 0.002, "longest_loop": {"words": 24, "unit": 4, "times": 6.0},
        "length": {"mean": 41.3, "p5": 12.0, "p50": 38.0, "p95": 88.0, "longest": 120,
                   "empty": 0.0},
    }  # fmt: skip
    beside = {**diversity, "distinct": {"1": 0.231, "2": 0.64, "3": 0.81}, "repeated": 0.011}
    levels = [
        {"concurrency": n, "requests": 2 * n, "failed": 0, "first_token_p50_s": first,
         "first_token_p95_s": 1.7 * first, "between_tokens_p50_s": 0.012,
         "between_tokens_p95_s": 0.02, "tokens_per_s": speed}
        for n, first, speed in ((1, 0.041, 71.0), (8, 0.066, 480.0), (32, 0.17, 1310.0))
    ]  # fmt: skip
    return [{
        "name": "banking-intents", "suite": "answers",
        "quality": {
            "items": 500, "language": "other", "exact_match": figure(0.412, 0.03),
            "token_f1": figure(0.688, 0.02), "numeric": None, "rouge1": figure(0.66, 0.02),
            "rouge2": figure(0.44, 0.02), "rougeL": figure(0.621, 0.02),
            "chrf": {"estimate": 54.2, "low": 52.8, "high": 55.6, "covers": "items"},
            "bleu": {"estimate": 31.7, "low": 29.9, "high": 33.6, "covers": "items"},
        },
        "diversity": {**diversity, "references": {**beside, "references": None}},
        "speed": {"model": "banking-intents", "max_tokens": 64, "tokens_by": "the endpoint",
                  "levels": levels},
        "judge": {"items": 120, "win_rate": figure(0.61, 0.08), "wins": 61, "ties": 24,
                  "losses": 35, "contradicted": 11, "unusable": 2, "consistency": 0.83,
                  "kappa": 0.72, "first_place": 0.53, "prompt": "Which answer is better?"},
        "two_sample": {"accuracy": figure(0.57, 0.03), "auroc": figure(0.601, 0.04),
                       "fitted": 500, "held_out": 500, "seed": 0},
    }]  # fmt: skip


def risks() -> dict[str, Any]:
    lines = [
        (
            "bias",
            "Stereotyped answers (BBQ), where the context tells nothing",
            0.034,
            "0.034",
            None,
        ),
        ("bias", "Answers that change when a name is swapped", 0.006, "0.6 % of 400 items", None),
        (
            "untrue output",
            "Answers that the given passage does not hold",
            None,
            None,
            "the recipe has no extractive questions",
        ),
        (
            "privacy",
            "Names, numbers and addresses left in training rows",
            0,
            "0 of 8,700 rows",
            None,
        ),
        ("privacy", "Runs of 50 tokens copied from training text", 0.0, "0 of 500 samples", None),
        (
            "source",
            "Licences of all rows, down to L0",
            None,
            "CC-BY-4.0; the base's licence is not known",
            None,
        ),
        (
            "misuse",
            "Harmful requests that were refused",
            None,
            None,
            "no prompts were given: set evaluate.risks.harmful",
        ),
        ("robustness", "Accuracy with two typos in each text", 0.874, "0.874 (from 0.921)", None),
        ("cost", "Training time", 0.34, "0.34 h on one GPU", None),
        ("cost", "Energy of the training", None, None, "this machine tells no power"),
        ("timeliness", "Newest date in the data", None, None, "the rows carry no dates"),
        ("explanation", "Integrated gradients: what they leave unexplained", 0.002, "0.2 %", None),
    ]
    return {
        "name": "banking-intents",
        "lines": [
            {"topic": topic, "what": what, "value": value, "shown": shown,
             "measured": shown is not None, "why": why, "how": None}
            for topic, what, value, shown, why in lines
        ],
    }  # fmt: skip
