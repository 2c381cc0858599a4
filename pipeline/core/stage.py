"""A stage: one step of the work, known by name before anything heavy is imported."""

from __future__ import annotations

import functools
import importlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from pipeline.core.artifact import Artifact, Kind
from pipeline.core.digest import canonical_json, text_digest

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class StageContext:
    """What a running stage is given besides its inputs.

    Attributes:
        out: an empty folder for the artifact's files.
        work: a folder that survives a killed run: checkpoints.
        options: settings that do not change the result (worker count, micro-batch).
        files: local input files by role.
        progress: takes {step, total, loss, tokens_per_s, ...}; cheap to call often.
        count_look: notes one look at a test split and returns how many there were.
    """

    out: Path
    work: Path
    options: Mapping[str, Any]
    files: Mapping[str, Path]
    progress: Progress
    count_look: Callable[[str, str], int] = field(default=lambda _digest, _who: 0)


class Stage(Protocol):
    """``run`` fills ``context.out`` and returns facts for the manifest."""

    def run(
        self, inputs: Mapping[str, Artifact], config: Mapping[str, Any], context: StageContext
    ) -> Mapping[str, Any]:
        """Makes the output. The same inputs and config give the same bytes."""


@dataclass(frozen=True)
class StageInfo:
    """A stage as the plan sees it."""

    target: str
    version: int
    output: Kind
    packages: tuple[str, ...] = ()

    def load(self) -> Stage:
        """Imports the stage's module and makes the stage."""
        module, _, name = self.target.partition(":")
        stage: Stage = getattr(importlib.import_module(module), name)()
        return stage

    def package_versions(self) -> dict[str, str]:
        """Installed versions of the packages that shape the result, and Unicode's."""
        return {name: _version(name) for name in self.packages}


_TORCH = ("torch", "transformers")
_TRAIN = (*_TORCH, "accelerate", "bitsandbytes")
# The tables of characters by which texts are folded; Python brings them.
_UNICODE = "unicodedata"
# Whatever reads and cleans rows has these in common.
_ROWS = (
    "datasets", "numpy", "phonenumbers", "presidio-analyzer", "py3langid", "pyarrow", "pypdf",
    "tldextract", "trafilatura", _UNICODE,
)  # fmt: skip
_JUDGED = ("cleanlab", "scikit-learn", "scipy", "threadpoolctl")
STAGES: Mapping[str, StageInfo] = {
    "fetch": StageInfo("pipeline.stages.fetch:Fetch", 1, "Model"),
    "fetch-data": StageInfo("pipeline.stages.fetch:FetchData", 1, "Dataset"),
    "scratch": StageInfo("pipeline.stages.scratch:Scratch", 1, "Model", (*_TORCH, "tokenizers")),
    "prepare": StageInfo(
        "pipeline.stages.prepare:Prepare",
        9,
        "Dataset",
        ("transformers", "tokenizers", "jinja2", *_ROWS, *_JUDGED),
    ),
    "augment": StageInfo("pipeline.stages.augment:Augment", 1, "Dataset", _ROWS),
    "train": StageInfo("pipeline.stages.train:Train", 5, "Adapter", (*_TRAIN, "peft")),
    "train-full": StageInfo("pipeline.stages.train:Train", 5, "Model", _TRAIN),
    "export": StageInfo("pipeline.stages.export:Export", 2, "Adapter", ("torch", "peft")),
    "merge": StageInfo("pipeline.stages.export:Merge", 2, "Model", (*_TORCH, "peft")),
    "evaluate": StageInfo("eval.stage:Evaluate", 5, "Report", (*_TORCH, "peft")),
    "reference": StageInfo(
        "eval.references.stage:Reference",
        3,
        "Report",
        (*_TORCH, "scikit-learn", "scipy", "numpy", "bm25s"),
    ),
    "generated": StageInfo(
        "eval.text.stage:Generated",
        2,
        "Report",
        (*_TORCH, "peft", "sacrebleu", "rouge-score", "scikit-learn", "py3langid"),
    ),
    "compare": StageInfo(
        # The page holds plotly's script, and the hub's library writes the card's metadata.
        "eval.compare_stage:Compare",
        11,
        "Report",
        ("numpy", "scipy", "plotly", "huggingface-hub"),
    ),
    # llm-compressor's own environment is in the key by its lock file.
    "quantise": StageInfo("pipeline.stages.quantise:Quantise", 1, "Model"),
    "judge-export": StageInfo("eval.export_gate:JudgeExport", 1, "Report", ("numpy", "scipy")),
    "bundle-export": StageInfo(
        "serve.export_bundle:BundleExport",
        2,
        "Bundle",
        ("huggingface-hub", *_TORCH, "compressed-tensors"),
    ),
    "bundle": StageInfo("serve.stage:MakeBundle", 9, "Bundle", (*_TORCH, "peft")),
    "risks": StageInfo(
        "eval.risks.stage:Risks",
        3,
        "Report",
        (*_TORCH, "peft", "captum", "numpy", "scipy", "presidio-analyzer", "phonenumbers"),
    ),
    # In the throwaway store of an audit alone.
    "canaries": StageInfo("eval.risks.canaries:InsertCanaries", 1, "Dataset", ("transformers",)),
    "audit": StageInfo("eval.risks.audit:Audit", 1, "Report", (*_TORCH, "peft", "scipy")),
}


@functools.cache
def _version(package: str) -> str:
    if package == _UNICODE:
        return unicodedata.unidata_version
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def stage_key(
    stage: str,
    config: Mapping[str, Any],
    inputs: Mapping[str, str],
    local_files: Mapping[str, str],
) -> str:
    """SHA-256 over everything that decides the bytes of a stage's output, 64 hex digits.

    Args:
        stage: its name in STAGES.
        config: the settings that change the result, as plain JSON values.
        inputs: role to key of each input artifact.
        local_files: role to SHA-256 of each local input file.
    """
    info = STAGES[stage]
    return text_digest(
        canonical_json([stage, info.version, config, inputs, local_files, info.package_versions()])
    )
