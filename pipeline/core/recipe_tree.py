"""Recipe files as plain values: YAML with the line of every key, and `extends`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.core.errors import RecipeError
from pipeline.core.nearest import nearest_path

PATH_KEYS = frozenset({"path", "base", "control", "recipe", "chat_template", "init_from"})


def is_path_key(key: str) -> bool:
    """Whether the value under a dotted key is a path (a hub set's `config` is none)."""
    return key.rpartition(".")[2] in PATH_KEYS or key.endswith("launch.config")


_MOST_VALUES = 10_000


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 2e-4 as a number (YAML 1.1 does not)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?(?:[eE][-+]?\d+)$|^[-+]?\d[\d_]*\.\d*$|^[-+]?\.\d+$"),
    list("-+0123456789."),
)


def shown(path: Path) -> str:
    """``path`` relative to the working folder where that is shorter."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def stands_here(tree: Any, key: str) -> Any:
    """A value typed on the command line; paths in it are relative to where the user stands."""
    if isinstance(tree, dict):
        return {name: stands_here(value, f"{key}.{name}") for name, value in tree.items()}
    if isinstance(tree, list):
        return [stands_here(value, key) for value in tree]
    if isinstance(tree, str) and is_path_key(key):
        path = local_path(Path.cwd(), tree, f"--set {key}")
        return str(path) if path.exists() else tree
    return tree


def local_path(folder: Path, value: str, place: str) -> Path:
    """``value`` as a path relative to ``folder``; it need not exist.

    Raises:
        RecipeError: what no file system takes (a NUL, an endless name, a user nobody knows).
    """
    try:
        path = (folder / Path(value).expanduser()).resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"{place}: {value[:60]!r}: not a path ({reason}); check it") from None
    return path


def read_tree(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a recipe file and of what it extends.

    Args:
        path: the file, absolute.
        above: the files that extend it.

    Returns:
        (values, dotted key to ``file:line``).

    Raises:
        RecipeError: missing file, broken YAML, a circle of `extends`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(
            f"{shown(path)}: no such recipe{nearest_path(path)}; check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{shown(path)}: not a recipe ({error}); save it as UTF-8") from None
    except OSError as error:
        raise RecipeError(f"{shown(path)}: {error.strerror}; name a recipe file") from None
    places: dict[str, str] = {}
    try:
        tree = parsed(text, shown(path), places)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError(f"{shown(path)}{line}: not YAML: {problem}; mend that line") from None
    if not isinstance(tree, dict):
        raise RecipeError(
            f"{shown(path)}: not a recipe: it holds no `key: value` lines; name a recipe file"
        )
    return _extend(path, tree, places, above)


def _extend(
    path: Path, tree: dict[str, Any], places: dict[str, str], above: tuple[Path, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    parent = tree.pop("extends", None)
    if parent is None:
        return tree, places
    place = f"{places['extends']}: extends"
    if not isinstance(parent, str):
        raise RecipeError(f"{place}: {parent!r} is not a path to a recipe; write one path")
    target = local_path(path.parent, parent, place)
    if target in (*above, path):
        circle = " -> ".join(shown(p) for p in (*above, path, target))
        raise RecipeError(f"{place}: {parent}: makes a circle ({circle}); remove one link")
    if not target.is_file():
        raise RecipeError(f"{place}: {parent}: no such recipe; check the path")
    under, under_places = read_tree(target, (*above, path))
    for key in ("base", "evaluate", "data", "train", "phases"):
        _rebase_paths(under.get(key), target.parent, path.parent)
    if isinstance(under.get("base"), str):
        under["base"] = _moved(under["base"], target.parent, path.parent)
    return _merged(under, tree), {**under_places, **places}


def _rebase_paths(tree: Any, old: Path, new: Path, above: str = "") -> None:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if is_path_key(f"{above}.{key}") and isinstance(value, str):
                tree[key] = _moved(value, old, new)
            else:
                _rebase_paths(value, old, new, str(key))
    elif isinstance(tree, list):
        for value in tree:
            _rebase_paths(value, old, new, above)


def _moved(value: str, old: Path, new: Path) -> str:
    return str((old / value).resolve()) if old != new and (old / value).exists() else value


def _merged(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        joined = dict(under)
        for key, value in over.items():
            joined[key] = _merged(under[key], value) if key in under else value
        return joined
    return over


def parsed(text: str, file: str, places: dict[str, str]) -> Any:
    """One YAML document; ``places`` learns where each of its keys was written.

    Raises:
        yaml.YAMLError: the text is not YAML.
        RecipeError: it is, and says a key twice, unfolds without end or is out of range.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _note_places(loader, node, "", file, places)
        return loader.construct_document(node)
    except RecursionError:
        raise RecipeError(f"{file}: nested too deep for a recipe; write it flat") from None


def _note_places(
    loader: _Loader, node: yaml.Node, key: str, file: str, places: dict[str, str]
) -> None:
    place = f"{file}:{node.start_mark.line + 1}: {key or 'value'}"
    # An alias is visited wherever it stands, so this bounds what a few nested ones unfold to.
    if len(places) > _MOST_VALUES:
        top = key.partition(".")[0]
        raise RecipeError(
            f"{places.get(top, file)}: {top}: unfolds to more than {_MOST_VALUES} values; "
            "use fewer aliases or values"
        )
    if isinstance(node, yaml.ScalarNode):
        try:
            loader.construct_object(node)
        except (ValueError, OverflowError):
            raise RecipeError(
                f"{place}: {node.value[:40]!r} is out of range; change it or put it in quotes"
            ) from None
    elif isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            text = str(getattr(name, "value", ""))
            line = name.start_mark.line + 1
            if text in seen:
                raise RecipeError(f"{file}:{line}: {text}: written twice; keep one")
            seen.add(text)
            inner = f"{key}.{text}" if key else text
            places[inner] = f"{file}:{line}"
            _note_places(loader, value, inner, file, places)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = f"{key}.{index}"
            places[inner] = f"{file}:{value.start_mark.line + 1}"
            _note_places(loader, value, inner, file, places)
