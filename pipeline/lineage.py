"""Lineage: manifests followed from a model down to its L0 and to every source of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.artifact import Artifact, read_artifact
from pipeline.core.errors import UserError
from pipeline.core.nearest import nearest
from pipeline.core.store import Store


def lineage_of(store: Store, name: str) -> dict[str, Any]:
    """The tree of artifacts below a named model.

    Args:
        name: a model's name, or the first digits of an artifact's key.

    Returns:
        {kind, key, digest, stage, made, facts, inputs: {role: the same}}; an artifact that
        stands under several is given in full once and by its key after that.

    Raises:
        UserError: no such model.
    """
    seen: set[str] = set()
    return _node(store, _artifact(store, name), seen)


def verify_store(store: Store) -> tuple[int, list[str]]:
    """Recomputes every digest, and looks for what is missing altogether.

    Returns:
        (artifacts checked, one line for each file, folder or input that is not as it was).
    """
    folder = store.root / "objects"
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    problems: list[str] = []
    inputs: dict[str, str] = {}
    for path in paths:
        artifact = read_artifact(path)
        if artifact is None:
            problems.append(f"{path}: no manifest; delete that folder and run again")
            continue
        problems += artifact.check()
        if artifact.key != path.name:
            problems.append(f"{path}: its manifest is that of {artifact.key[:12]}")
        for role, ref in artifact.manifest.inputs.items():
            inputs[ref["key"]] = f"{path.name[:12]} ({role})"
    present = {path.name for path in paths}
    problems += [
        f"{store.path_of(key)}: missing, and {user} was made from it"
        for key, user in inputs.items()
        if key not in present
    ]
    return len(paths), problems


def _artifact(store: Store, name: str) -> Artifact:
    model = store.model(name)
    if model is not None:
        keys = model["keys"]
        if not keys.keys() & {"adapter", "root"}:
            raise UserError(f"{name}: its entry names no weights; run {model['recipe']} again")
        return store.need(keys.get("adapter") or keys["root"])
    found = [a for a in store.all() if len(name) >= 6 and a.key.startswith(name)]
    if len(found) == 1:
        return found[0]
    names = [m["name"] for m in store.models()]
    raise UserError(
        f"{name}: no such model in {store.root}{nearest(name, names)} "
        f"(known: {', '.join(names) or 'none yet'}); see `gradus models`"
    )


def _node(store: Store, artifact: Artifact, seen: set[str]) -> dict[str, Any]:
    manifest = artifact.manifest
    tree: dict[str, Any] = {
        "kind": manifest.kind,
        "stage": manifest.stage,
        "node": manifest.run.get("node"),
        "key": manifest.key,
        "digest": manifest.digest,
    }
    if manifest.key in seen:
        return tree
    seen.add(manifest.key)
    tree["made"] = {k: manifest.run.get(k) for k in ("at", "seconds", "git")}
    tree["packages"] = dict(manifest.packages)
    tree["local_files"] = dict(manifest.local_files)
    tree["facts"] = dict(manifest.facts)
    tree["inputs"] = {
        role: _node(store, store.need(ref["key"]), seen)
        for role, ref in sorted(manifest.inputs.items())
    }
    return tree


def print_lineage(tree: Mapping[str, Any]) -> None:
    """The tree, an artifact a line."""
    from rich.console import Console
    from rich.tree import Tree

    def words(node: Mapping[str, Any], role: str) -> str:
        facts = node.get("facts", {})
        sources = "; ".join(_source(s) for s in facts.get("sources", ()))
        origin = facts.get("origin", "")
        told = f" from {sources or origin}" if sources or origin else ""
        told += _numerics(facts)
        told += "; runs the base's own code" if facts.get("trust_remote_code") else ""
        return f"{role}{node['node']} [dim]{node['kind']} {node['digest'][:12]}{told}[/dim]"

    def grow(under: Tree, node: Mapping[str, Any]) -> None:
        for role, below in node.get("inputs", {}).items():
            grow(under.add(words(below, f"{role}: ")), below)

    root = Tree(words(tree, ""))
    grow(root, tree)
    Console(width=140).print(root)


def _numerics(facts: Mapping[str, Any]) -> str:
    """What an adapter was trained over and is served over, where the two differ."""
    numerics = facts.get("numerics") or {}
    if not numerics or numerics["trained"] == numerics["served"]:
        return ""
    losses = [numerics["golden_loss"][side] for side in ("trained", "served")]
    figures = "" if None in losses else f": golden loss {losses[0]:.3f}, {losses[1]:.3f}"
    return f", trained over {numerics['trained']} and served over {numerics['served']}{figures}"


def _source(source: Mapping[str, Any]) -> str:
    generator = source.get("generator")
    named = (source.get(key) for key in ("repo", "url", "name"))
    name = generator["generator"] if generator else next(filter(None, named), "a local file")
    part = f"/{source['part']}" if "part" in source else ""
    origin = f", {source['origin']}" if source.get("origin") else ""
    return f"{name}{part} ({source.get('licence') or 'licence not given'}{origin})"
