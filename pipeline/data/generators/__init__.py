"""Data that the project makes by itself: rows by name, part and seed.

A generator is a module with ``PARTS`` and ``generate(part, seed)``. It is named here by
string and imported when its rows are asked for, so that planning stays fast.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from pipeline.core.errors import DataError


@dataclass(frozen=True)
class GeneratorInfo:
    """What lineage and the plan need to know of a generator without importing it.

    Attributes:
        module: Dotted path of the module that makes the rows.
        version: Raised with every change of the rows that it makes.
        licence: SPDX identifier of the text.
        origin: Where the text comes from, in one sentence.
        parts: The parts that can be asked for.
    """

    module: str
    version: int
    licence: str
    origin: str
    parts: tuple[str, ...]


GENERATORS: dict[str, GeneratorInfo] = {
    "stdlib_docstrings": GeneratorInfo(
        module="pipeline.data.generators.docstrings",
        version=2,
        licence="PSF-2.0",
        origin="Docstrings of the standard library of the Python that runs this.",
        parts=("train", "train_chat", "test"),
    ),
    "retail_banking": GeneratorInfo(
        module="pipeline.data.generators.retail_banking",
        version=2,
        licence="Apache-2.0",
        origin="Synthetic English retail banking, written for gradus and combined by grammar.",
        parts=("knowledge", "knowledge_test", "intents_train", "intents_test"),
    ),
    "checkable_instructions": GeneratorInfo(
        module="pipeline.data.generators.checkable_instructions",
        version=1,
        licence="Apache-2.0",
        origin="Prompts with checkable instructions in IFEval's form, written for gradus.",
        parts=("test",),
    ),
}


def generator_info(name: str) -> GeneratorInfo:
    """Looks a generator up.

    Raises:
        DataError: No generator of that name.
    """
    info = GENERATORS.get(name)
    if info is None:
        raise DataError(f"generator {name!r}: does not exist; use one of {', '.join(GENERATORS)}")
    return info


def require_part(name: str, part: str) -> GeneratorInfo:
    """Looks a part of a generator up.

    Raises:
        DataError: no such generator, or no such part of it.
    """
    info = generator_info(name)
    if part not in info.parts:
        raise DataError(
            f"generator {name!r}: part {part!r} does not exist; use one of {', '.join(info.parts)}"
        )
    return info


def generate(name: str, part: str, seed: int) -> list[dict[str, object]]:
    """Makes the rows of one part; the same arguments always give the same rows.

    Args:
        name: A key of `GENERATORS`.
        part: One of that generator's parts.
        seed: Chooses among the rows that the generator can make.

    Raises:
        DataError: No such generator, or no such part of it.
    """
    info = require_part(name, part)
    rows: list[dict[str, object]] = importlib.import_module(info.module).generate(part, seed)
    return rows


def generator_identity(name: str) -> dict[str, object]:
    """What a cache key must hold besides part and seed for the rows to be the same.

    Raises:
        DataError: No generator of that name.
    """
    info = generator_info(name)
    identity: dict[str, object] = {"generator": name, "version": info.version}
    if name == "stdlib_docstrings":
        module = importlib.import_module(info.module)
        identity.update(module.library_identity())
    return identity
