"""Whether a base ever learned the tokens that open and close its turns, told from its files.

An adapter leaves embeddings as they are: over a base whose chat tokens were never trained it
learns to answer after noise, and the model may never end its turn. Under-trained rows are told
by their likeness to rows that no text can reach (Land and Bartolo 2024, Fishing for Magikarp,
section 3): the padding behind the tokenizer's last id, and tokens that are named as reserved.
Nothing is loaded: the rows that are needed are read from the safetensors file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.objectives import OBJECTIVES

Rows = NDArray[np.float32]

_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
_OUTPUTS = ("lm_head", "embed_out")
_RESERVED = re.compile(r"reserved|unused|extra_id|placeholder", re.IGNORECASE)
_PROBE = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
_ORDINARY, _REFERENCES = 512, 64
_TYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}


def chat_token_note(folder: Path, train: Mapping[str, Any]) -> str | None:
    """What to know before an adapter is trained for chat over the model in ``folder``, or None.

    Args:
        train: ``objective``, ``method``, ``modules_to_save`` of the training.
    """
    if not OBJECTIVES[train["objective"]].chats or train["method"] == "full":
        return None
    whole = {str(name).rpartition(".")[2] for name in train.get("modules_to_save") or ()}
    if whole & {*_EMBEDDINGS, *_OUTPUTS}:
        return None
    found = untrained_chat_tokens(folder)
    if not found:
        return None
    return (
        f"the base's chat tokens {', '.join(found)} look untrained (their embeddings are like "
        "those of tokens that no text has), and an adapter leaves embeddings as they are: "
        "take a base that knows its template, set train.modules_to_save: [embed_tokens, lm_head] "
        "with serve.export: merged, or train.method: full"
    )


def untrained_chat_tokens(folder: Path) -> list[str]:
    """The tokens of the chat template whose embeddings look untrained, in order of their ids."""
    vocabulary = _vocabulary(folder)
    if vocabulary is None:
        return []
    wanted = {i: token for token, i in vocabulary.added.items() if token in _used(folder)}
    found: set[int] = set()
    for matrix in _matrices(folder):
        if wanted and max(wanted) < matrix.rows:
            found |= _untrained(matrix, vocabulary, sorted(wanted), _init_range(folder))
    return [wanted[i] for i in sorted(found)]


@dataclass(frozen=True)
class _Vocabulary:
    """Added token to id, and how many ids the tokenizer can write."""

    added: Mapping[str, int]
    size: int


def _vocabulary(folder: Path) -> _Vocabulary | None:
    tree = _json(folder / "tokenizer.json")
    if not isinstance(tree, dict):
        return None
    added = {str(t["content"]): int(t["id"]) for t in tree.get("added_tokens") or ()}
    known = tree.get("model", {}).get("vocab") or {}
    ids = known.values() if isinstance(known, dict) else range(len(known))
    return _Vocabulary(added, 1 + max((*ids, *added.values()), default=-1))


def _used(folder: Path) -> str:
    """The text of a short conversation as the base's template renders it, and its end token."""
    settings = _json(folder / "tokenizer_config.json") or {}
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(template, list):
        named = {str(one.get("name")): one.get("template") for one in template}
        template = named.get("default", next(iter(named.values()), None))
    if not isinstance(template, str):
        return ""
    end = settings.get("eos_token") or ""
    marks = {name: _content(settings.get(name)) for name in ("bos_token", "eos_token")}
    return _rendered(template, marks) + _content(end)


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _rendered(template: str, marks: Mapping[str, str]) -> str:
    """The probe rendered; the template's own text where it needs more than Jinja itself."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        made = environment.from_string(template)
        return made.render(messages=_PROBE, add_generation_prompt=False, **marks)
    except (TemplateError, TypeError, ValueError, KeyError):
        return template


@dataclass(frozen=True)
class _Matrix:
    """One embedding matrix in a safetensors file: rows are read as they are asked for."""

    file: Path
    offset: int
    kind: str
    rows: int
    width: int

    def read(self, ids: Iterable[int]) -> Rows:
        """The rows of ``ids`` [n, width]."""
        # numpy has no bfloat16, so safetensors' own slices cannot be had without torch.
        stored = np.memmap(self.file, _TYPES[self.kind], "r", self.offset, (self.rows, self.width))[
            list(ids)
        ]
        if self.kind == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(stored, np.float32)


def _matrices(folder: Path) -> list[_Matrix]:
    """The input embeddings, and the output ones where they are weights of their own."""
    found: dict[str, _Matrix] = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(file).items():
            kind = name.removesuffix(".weight").rpartition(".")[2]
            if kind not in {*_EMBEDDINGS, *_OUTPUTS} or entry.get("dtype") not in _TYPES:
                continue
            rows, width = entry["shape"]
            start = int(entry["data_offsets"][0]) + int(entry["base"])
            found.setdefault(kind, _Matrix(file, start, entry["dtype"], rows, width))
    return list(found.values())


def _header(file: Path) -> dict[str, Any]:
    """Names, types and places of a file's tensors (safetensors' format: 8 bytes, then JSON).

    Read here, because ``safe_open`` tells no places, and without torch it opens no bfloat16.
    """
    with file.open("rb") as stream:
        size = int.from_bytes(stream.read(8), "little")
        if size > 100 << 20:
            return {}
        try:
            tree = json.loads(stream.read(size))
        except ValueError:
            return {}
    entries = tree.items() if isinstance(tree, dict) else ()
    return {
        name: {**entry, "base": 8 + size}
        for name, entry in entries
        if name.endswith(".weight") and len(entry.get("shape", ())) == 2
    }


def _init_range(folder: Path) -> float:
    config = _json(folder / "config.json") or {}
    return float(config.get("initializer_range") or 0.02)


def _untrained(
    matrix: _Matrix, vocabulary: _Vocabulary, wanted: Sequence[int], init_range: float
) -> set[int]:
    """The ids among ``wanted`` whose rows no training has touched.

    One of these tells: a norm of next to nothing; a row equal to another special one; a place
    within a tight cluster of unreachable rows; a norm that unreachable rows have, or random
    initialisation gives, and ordinary rows have not.
    """
    added = set(vocabulary.added.values())
    reserved = [i for t, i in vocabulary.added.items() if _RESERVED.search(t) and i not in wanted]
    unreachable = [*range(vocabulary.size, matrix.rows), *(i for i in reserved if i < matrix.rows)]
    ordinary_ids = [i for i in range(min(vocabulary.size, matrix.rows)) if i not in added]
    if len(ordinary_ids) < 2:
        return set()
    step = max(1, len(ordinary_ids) // _ORDINARY)
    ordinary = matrix.read(ordinary_ids[::step])
    references = matrix.read(unreachable[:_REFERENCES])
    asked = matrix.read(wanted)
    told = _tiny(asked, ordinary) | _twins(asked, references)
    if len(references) >= 4:
        told |= _clustered(asked, ordinary, references) | _of_norm(
            asked, ordinary, _span(references, 0.02)
        )
    else:
        drawn = init_range * math.sqrt(matrix.width)
        slack = 4 / math.sqrt(2 * matrix.width)
        told |= _of_norm(asked, ordinary, (drawn * (1 - slack), drawn * (1 + slack)))
    return {i for i, is_told in zip(wanted, told, strict=True) if is_told}


def _norms(rows: Rows) -> Rows:
    return np.asarray(np.linalg.norm(rows, axis=1), np.float32)


def _tiny(asked: Rows, ordinary: Rows) -> NDArray[np.bool_]:
    return np.asarray(_norms(asked) < 0.1 * np.median(_norms(ordinary)))


def _twins(asked: Rows, references: Rows) -> NDArray[np.bool_]:
    """Rows that equal another special one: new tokens are often given one and the same mean."""
    others = np.concatenate([asked, references])
    scale = 1e-5 * max(float(np.abs(others).max()), 1e-12)
    same = [int((np.abs(others - row).max(axis=1) <= scale).sum()) for row in asked]
    return np.array([count > 1 for count in same])


def _clustered(asked: Rows, ordinary: Rows, references: Rows) -> NDArray[np.bool_]:
    """All that is never read is pushed one way: such rows end up close to each other."""
    centre = references.mean(axis=0)
    spread = float(_norms(references - centre).max())
    if spread >= 0.5 * float(np.median(_norms(ordinary - centre))):
        return np.zeros(len(asked), np.bool_)
    return np.asarray(_norms(asked - centre) <= 1.5 * spread)


def _span(rows: Rows, slack: float) -> tuple[float, float]:
    norms = _norms(rows)
    return float(norms.min()) * (1 - slack), float(norms.max()) * (1 + slack)


def _of_norm(asked: Rows, ordinary: Rows, span: tuple[float, float]) -> NDArray[np.bool_]:
    """Norms within the span, where few ordinary rows have one: rare bytes are untrained too."""
    low, high = span
    usual = _norms(ordinary)
    if float(((usual >= low) & (usual <= high)).mean()) > 0.25:
        return np.zeros(len(asked), np.bool_)
    norms = _norms(asked)
    return np.asarray((norms >= low) & (norms <= high))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
