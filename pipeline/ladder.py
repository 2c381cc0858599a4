"""Recipes -> the nodes of a plan: bases first, then data, training, export, judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.base_look import look_at_bases
from pipeline.core.errors import LockError, RecipeError
from pipeline.core.lock import LockFile, RepoType
from pipeline.core.recipe import (
    LoadedRecipe,
    level_above,
    load_recipe,
    looks_like_hub_id,
    shown,
)
from pipeline.core.recipe_problems import said
from pipeline.core.schema import Recipe
from pipeline.core.store import Store
from pipeline.data_plan import prepare_node
from pipeline.data_sources import train_sources
from pipeline.judgement import add_judgement
from pipeline.phases import phase_recipes
from pipeline.plan import UNLOCKED, Built, ModelRef, Node, Plan, with_keys
from pipeline.servable import require_exportable, serving_notes
from pipeline.train_plan import trained_model

Resolve = Callable[[RepoType, str, str | None], str]


class Ladder:
    """Collects the nodes of a recipe, of what it stands on and of its control."""

    def __init__(
        self, overrides: Sequence[str], *, locked: bool = False, resolve: Resolve | None = None
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self._overrides = tuple(overrides)
        self._locked = locked
        self._resolve = resolve
        self.notes: list[str] = []
        self._built: dict[Path, Built] = {}
        self._loaded: dict[Path, LoadedRecipe] = {}

    def add(self, node: Node) -> str:
        """Adds a node once.

        Raises:
            RecipeError: the same id for something else: two recipes of one name.
        """
        known = self.nodes.setdefault(node.id, node)
        if known != node:
            raise RecipeError(
                f"{node.id}: two recipes of this plan make it, each in its own way; "
                "give each recipe a name of its own"
            )
        return node.id

    def load(self, path: Path, scope: str = "other") -> LoadedRecipe:
        """Reads a recipe.

        Args:
            scope: which overrides without ``NAME:`` reach it: ``mine`` all of them,
                ``control`` those on what a control shares (data, train), ``other`` none.
        """
        if path not in self._loaded:
            keys = {text: text.partition("=")[0] for text in self._overrides}
            self._loaded[path] = load_recipe(
                path,
                [
                    text
                    for text, key in keys.items()
                    if ":" in key
                    or scope == "mine"
                    or (scope == "control" and key.startswith(("data.", "train.")))
                ],
            )
        return self._loaded[path]

    @property
    def built(self) -> tuple[Built, ...]:
        """What each recipe of the plan came to."""
        return tuple(self._built.values())

    def require_known_names(self) -> None:
        """Refuses a ``--set NAME:...`` whose NAME is no recipe of the plan."""
        known = {loaded.recipe.name for loaded in self._loaded.values()}
        for text in self._overrides:
            name, colon, _ = text.partition("=")[0].partition(":")
            if colon and name not in known:
                raise RecipeError(
                    f"--set {text}: no recipe {name!r} in this plan; "
                    f"use one of {', '.join(sorted(known))}"
                )

    def build(self, path: Path, above: tuple[Path, ...] = (), scope: str = "other") -> Built:
        """The recipe at ``path`` and all that it stands on."""
        if path in self._built:
            return self._built[path]
        loaded = self.load(path, scope)
        if path in above:
            circle = " -> ".join(shown(p) for p in (*above, path))
            raise loaded.error("base", f"the bases make a circle ({circle}); remove one link")
        start, ancestors = self._base(loaded, (*above, path))
        # Training never changes a tokenizer: it is that of the L0's first node.
        tokenizer = ancestors[0].tokenizer if ancestors else start.root
        for phase in phase_recipes(loaded):
            before = self._trained(phase, start, ancestors, tokenizer)
            start, ancestors = before.first, (before, *ancestors)
        built = self._trained(loaded, start, ancestors, tokenizer)
        self._built[path] = built
        return built

    def _base(
        self, loaded: LoadedRecipe, above: tuple[Path, ...]
    ) -> tuple[ModelRef, tuple[Built, ...]]:
        recipe = loaded.recipe
        if recipe.scratch is not None:
            return self._scratch(loaded), ()
        base = recipe.base or ""
        target = loaded.local(base)
        if base.endswith((".yaml", ".yml")):
            if not target.is_file():
                raise loaded.error("base", f"{base}: no such recipe; check the path")
            if recipe.trust_remote_code:
                raise loaded.error(
                    "trust_remote_code", f"is for the recipe that fetches a base; set it in {base}"
                )
            below = self.build(target, above)
            level = below.loaded.recipe.level
            if not level_above(recipe.level, level):
                raise loaded.error(
                    "base",
                    f"{base} is {level}, and this recipe is {recipe.level}; "
                    f"point base at a recipe of level {recipe.level} or lower",
                )
            return below.first, (below, *below.ancestors)
        return self.fetched(loaded, base, "base", recipe.revision, _own_code(recipe)), ()

    def fetched(
        self,
        loaded: LoadedRecipe,
        base: str,
        key: str,
        revision: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> ModelRef:
        """A model from elsewhere: a folder, or a repository of the hub.

        Args:
            key: of the recipe, where it is named.
            more: further settings of the fetch.

        Raises:
            RecipeError: it is neither.
        """
        target = loaded.local(base)
        if target.is_dir():
            if not (target / "config.json").is_file():
                raise loaded.error(key, f"{base}: no config.json there; point at a model folder")
            config = {"folder": True, **(more or {})}
            node = Node(f"{target.name}/fetch", "fetch", config, files={"folder": target})
            return ModelRef(target.name, "L0", self.add(node))
        if not looks_like_hub_id(base):
            known = "recipe, no folder" if key == "base" else "folder"
            raise loaded.error(key, f"{base!r} is no {known} and no hub id; check the path")
        commit, blocked = self.commit(loaded, "model", base, revision, key)
        name = f"{base}@{(commit or 'unlocked')[:7]}/fetch"
        config = {"repo": base, "commit": commit, **(more or {})}
        return ModelRef(base, "L0", self.add(Node(name, "fetch", config, blocked=blocked)))

    def commit(
        self, loaded: LoadedRecipe, repo_type: RepoType, repo: str, revision: str | None, key: str
    ) -> tuple[str | None, str | None]:
        """The locked commit, or None and why not.

        Raises:
            LockError: under ``--locked`` where the lock file has no commit.
        """
        lock = LockFile.load(loaded.path)
        commit = lock.get(repo_type, repo, revision)
        if commit is not None:
            return commit, None
        if self._locked:
            raise LockError(
                said(
                    loaded.place(key),
                    f"{key}: {repo} is not locked in {loaded.path.with_suffix('.lock').name}; "
                    "run once without --locked",
                )
            )
        if self._resolve is None:
            return None, UNLOCKED
        commit = self._resolve(repo_type, repo, revision)
        lock.with_entry(repo_type, repo, revision, commit).save()
        return commit, None

    def _scratch(self, loaded: LoadedRecipe) -> ModelRef:
        recipe = loaded.recipe
        assert recipe.scratch is not None
        inputs: dict[str, str] = {}
        files: dict[str, Path] = {}
        sources = train_sources(self, loaded, inputs, files)
        node = Node(
            f"{recipe.name}/scratch",
            "scratch",
            {"shape": recipe.scratch.model_dump(), "sources": sources},
            inputs,
            files,
            note=f"{recipe.scratch.num_hidden_layers} layers, hidden {recipe.scratch.hidden_size}",
        )
        return ModelRef(recipe.name, "L0", self.add(node))

    def _trained(
        self,
        loaded: LoadedRecipe,
        start: ModelRef,
        ancestors: tuple[Built, ...],
        tokenizer: str,
    ) -> Built:
        train = loaded.recipe.train
        if train is None:
            return Built(loaded, start, {}, {}, ancestors, tokenizer)
        require_exportable(loaded, start, ancestors)
        self.notes += serving_notes(loaded)
        first = (loaded, *(below.loaded for below in ancestors))[-1].recipe
        fetched = () if first.scratch is not None else (str(first.base),)
        prepared: dict[str, str] = {
            objective: prepare_node(self, loaded, tokenizer, objective, ancestors, fetched)
            for objective in train.objective
        }
        models: dict[tuple[str, int], ModelRef] = {
            (objective, seed): trained_model(
                self, loaded, start, prepared[objective], objective, seed
            )
            for objective in train.objective
            for seed in train.seeds
        }
        return Built(loaded, start, models, prepared, ancestors, tokenizer)


def _own_code(recipe: Recipe) -> dict[str, Any]:
    """Said only where the base's code may run: all other keys stay as they were."""
    return {"trust_remote_code": True} if recipe.trust_remote_code else {}


def make_plan(
    path: Path,
    store: Store,
    overrides: Sequence[str] = (),
    *,
    locked: bool = False,
    resolve: Resolve | None = None,
    ungated: bool = False,
) -> Plan:
    """Plans the recipe at ``path``.

    Args:
        overrides: texts of ``--set``.
        locked: refuse hub revisions that the lock file does not have.
        resolve: (repo type, id, revision) -> commit; None: leave unlocked ones blocked.
        ungated: make the bundle although gates do not pass; its manifest says so.

    Raises:
        RecipeError, LockError, HubError: one line with place and remedy.
    """
    ladder = Ladder(overrides, locked=locked, resolve=resolve)
    built = ladder.build(path.resolve(), scope="mine")
    outcomes, gates = add_judgement(ladder, built, ungated=ungated)
    ladder.require_known_names()
    nodes = with_keys(ladder.nodes.values(), store)
    notes = (*dict.fromkeys(ladder.notes), *look_at_bases(ladder.built, nodes, store))
    return Plan(built.loaded, nodes, outcomes, gates, notes)
