"""General English text that every machine has: docstrings of Python's standard library.

The files are parsed, never imported. They are split by module, so that a held-out
docstring's neighbours are held out with it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

MIN_CHARS = 40
TEST_SHARE = 0.08
# Every so many of the training rows also stand as question and answer.
CHAT_EVERY = 5

# Installed packages, tests, and programs that some distributions leave out.
_SKIPPED_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idle_test",
        "idlelib",
        "lib2to3",
        "turtledemo",
        "__pycache__",
    }
)
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def library_files(root: Path) -> list[str]:
    """Python files below `root` that count as the library, relative to it, sorted."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name for name in folders if name not in _SKIPPED_FOLDERS and "config-" not in name
        ]
        for name in names:
            if name.endswith(".py") and not name.startswith("_sysconfigdata"):
                found.append((Path(folder) / name).relative_to(root).as_posix())
    return sorted(found)


def library_identity() -> dict[str, object]:
    """The full Python version, and a digest of the library's file names and sizes.

    Distributions cut the library up differently (tkinter may be missing) under one version.
    """
    root = Path(sysconfig.get_path("stdlib"))
    digest = hashlib.sha256()
    for name in library_files(root):
        digest.update(f"{name}\0{(root / name).stat().st_size}\n".encode())
    return {"python": sys.version, "library": digest.hexdigest()}


def generate(part: str, seed: int) -> list[dict[str, object]]:
    """Rows ``{"id": "module:qualname", "text": ...}`` of part ``train`` or ``test``.

    Args:
        part: ``train``, or ``test`` for the held-out modules (about 8 % of them), or
            ``train_chat``: a fifth of the training rows as ``messages``.
        seed: Chooses the held-out modules.
    """
    root = Path(sysconfig.get_path("stdlib"))
    chosen = [
        (module, name, text)
        for module, name, text in _docstrings(root)
        if _held_out(module, seed) == (part == "test")
    ]
    if part == "train_chat":
        return [_exchange(*one) for one in chosen[::CHAT_EVERY]]
    return [{"id": f"{module}:{name}", "text": text} for module, name, text in chosen]


def _exchange(module: str, name: str, text: str) -> dict[str, object]:
    """A docstring as an answer: so the chat markup's tokens are trained, too."""
    question = f"What does {name.partition('#')[0]} of {module} do?"
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": text},
    ]
    return {"id": f"{module}:{name}", "messages": messages}


def _held_out(module: str, seed: int) -> bool:
    digest = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < TEST_SHARE * 2**64


@lru_cache(maxsize=1)
def _docstrings(root: Path) -> tuple[tuple[str, str, str], ...]:
    """(module, qualname, text), each text once, in the order of the sorted files."""
    found: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for path in library_files(root):
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        names: dict[str, int] = {}
        for qualname, text in _in_file(root / path):
            plain = " ".join(text.split())
            if len(plain) < MIN_CHARS or plain in seen:
                continue
            seen.add(plain)
            names[qualname] = names.get(qualname, 0) + 1
            # A name may be defined again (properties, platform branches): ids stay unique.
            again = f"#{names[qualname]}" if names[qualname] > 1 else ""
            found.append((module, qualname + again, text))
    return tuple(found)


def _in_file(path: Path) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings():
        # Old escapes in a distribution's own files are not this program's business.
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    yield from _in_node(tree, "")


def _in_node(node: ast.AST, qualname: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, _WITH_DOCSTRING):
        text = ast.get_docstring(node, clean=False)
        if text:
            yield qualname or "module", inspect.cleandoc(text)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _in_node(child, f"{qualname}.{child.name}" if qualname else child.name)
        elif isinstance(child, (ast.stmt, ast.ExceptHandler)):
            yield from _in_node(child, qualname)
