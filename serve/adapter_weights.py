"""An adapter's weights against what they claim, by their file's head alone: no tensor is loaded.

A safetensors file opens with eight bytes, the length of a JSON object that names every tensor, its
shape and its place (the format's own specification). An engine that is given a torn file, or one
of another base, ends or answers with noise; both are told here, before any engine sees it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ModelError

_HEAD_BYTES = 100 << 20
"""The format's own bound of a head."""
_WIDTHS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16,
    "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8,
}  # fmt: skip
# Of a base whose weights are whole numbers the shape says how they are packed.
_FLOATS = {name for name in _WIDTHS if name.startswith(("F", "BF"))}
# All that a head which others wrote can do to who reads it: nested without end, numbers beyond any.
_TORN = (
    OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
_LORA = re.compile(r"^base_model\.model\.(.+)\.lora_(A|B)(?:\.[^.]+)?\.weight$")


def tensors_of(file: Path) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """Name to (dtype, shape) of a safetensors file that is whole.

    Raises:
        ModelError: it is torn, or of another format.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(size - 8, _HEAD_BYTES):
                raise ValueError("no head")
            tree = json.loads(opened.read(length))
        found = {name: _tensor(told) for name, told in tree.items() if name != "__metadata__"}
        if size != 8 + length + max((end for *_, end in found.values()), default=0):
            raise ValueError("the file is shorter or longer than its tensors")
    except _TORN as error:
        raise ModelError(
            f"{file}: torn, or no safetensors ({error}); copy the file again or run the recipe"
        ) from None
    return {name: (dtype, shape) for name, (dtype, shape, _) in found.items()}


def _tensor(told: Any) -> tuple[str, tuple[int, ...], int]:
    dtype, shape = str(told["dtype"]), tuple(int(size) for size in told["shape"])
    start, end = (int(place) for place in told["data_offsets"])
    width = _WIDTHS.get(dtype)
    if not 0 <= start <= end or (width and (end - start) * 8 != math.prod(shape) * width):
        raise ValueError("a tensor whose place does not fit its shape")
    return dtype, shape, end


def check_adapter_weights(file: Path, name: str, rank: int, base: Path) -> None:
    """Passes where the weights are a LoRA of this rank over this base.

    Modules that the base's files write under other names than the adapter are left to the engine;
    but an adapter of which some modules are in the base and others are not is another base's.

    Raises:
        ModelError: torn, of another rank, or of another base.
    """
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for tensor, (_, shape) in tensors_of(file).items():
        if (found := _LORA.match(tensor)) is not None:
            pairs.setdefault(found[1], {})[found[2]] = shape
    if not pairs:
        raise ModelError(f"{file}: adapter {name} holds no LoRA weights; run the recipe again")
    weights = _weights_of(base)
    missing: list[str] = []
    seen = 0
    for module, pair in pairs.items():
        low, high = pair.get("A", ()), pair.get("B", ())
        if len(low) != 2 or len(high) != 2 or low[0] != rank or high[1] != rank:
            raise ModelError(
                f"{file}: adapter {name}: {module} is {list(low)} and {list(high)}, and "
                f"bundle.json says rank {rank}; build the bundle again"
            )
        known = weights.get(_tail(module))
        if known is None:
            missing.append(module)
            continue
        seen += 1
        # Some architectures keep a weight the other way round.
        if None not in known and not known & {(high[0], low[1]), (low[1], high[0])}:
            raise ModelError(
                f"{file}: adapter {name}: {module} is for {[high[0], low[1]]}, and in {base} it is "
                f"{sorted(list(each) for each in known if each)}; it was trained over another base"
            )
    # Experts are kept together in some files and apart in others.
    missing = [module for module in missing if "expert" not in module]
    if seen and missing:
        raise ModelError(
            f"{file}: adapter {name}: {base} has no {missing[0]}; it was trained over another base"
        )


def _weights_of(base: Path) -> Mapping[str, set[tuple[int, ...] | None]]:
    """Module to the shapes of its weight, of several where parts of a base share its name.

    None is one that is packed, and so tells nothing.
    """
    made: dict[str, set[tuple[int, ...] | None]] = {}
    for file in sorted(base.glob("*.safetensors")):
        for tensor, (dtype, shape) in tensors_of(file).items():
            module, _, last = tensor.rpartition(".")
            if last == "bias":
                continue
            plain = last == "weight" and dtype in _FLOATS and len(shape) == 2
            packed = last == "weight" and not plain
            if plain or packed or last.startswith(("qweight", "weight_packed")):
                made.setdefault(_tail(module), set()).add(shape if plain else None)
    return made


def _tail(module: str) -> str:
    """From the layer on: what stands before it depends on the class that saved the file."""
    found = re.search(r"(?:^|\.)((?:layers?|h|blocks?)\.\d+\..+)$", module)
    return found[1] if found else module.rpartition("model.")[2]
