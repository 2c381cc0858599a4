"""Recipes -> the nodes of a plan: bases first, then data, training, export, judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import LockError, RecipeError
from pipeline.core.lock import LockFile, RepoType
from pipeline.core.recipe import (
    LoadedRecipe,
    level_above,
    load_recipe,
    looks_like_hub_id,
    shown,
)
from pipeline.core.schema import Carve, RecipeSuite, Source
from pipeline.core.schema import Train as TrainSection
from pipeline.core.store import Store
from pipeline.judgement import add_judgement
from pipeline.plan import UNLOCKED, ModelRef, Node, Outcome, Plan, with_keys
from pipeline.preflight import launch_problem

TEXT_OBJECTIVES = ("pretrain", "cpt", "mlm")
RENDERS = {"pretrain": "text", "cpt": "text", "mlm": "text", "sft": "sft", "classify": "classify"}
_NOT_IN_KEY = {"micro_batch_size", "save_steps", "launch", "gradient_checkpointing", "seeds"}
_LORA_ONLY = {
    "lora_r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "rank_pattern",
}  # fmt: skip
_DATA_ONLY = {"objective", "over_length", "packing"}

Resolve = Callable[[RepoType, str, str | None], str]


@dataclass(frozen=True)
class Built:
    """What one recipe came to.

    Attributes:
        start: what its training starts from (its base as served).
        models: (objective, seed) to the trained model as served.
        prepared: objective to its Dataset node.
        ancestors: recipes below it, nearest first.
    """

    loaded: LoadedRecipe
    start: ModelRef
    models: Mapping[tuple[str, int], ModelRef]
    prepared: Mapping[str, str]
    ancestors: tuple[Built, ...]

    @property
    def first(self) -> ModelRef:
        """The model that a recipe above stands on: first objective, first seed."""
        train = self.loaded.recipe.train
        if train is None:
            return self.start
        return self.models[(train.objective[0], train.seeds[0])]


class Ladder:
    """Collects the nodes of a recipe, of what it stands on and of its control."""

    def __init__(
        self, overrides: Sequence[str], *, locked: bool = False, resolve: Resolve | None = None
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self._overrides = tuple(overrides)
        self._locked = locked
        self._resolve = resolve
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

    def build(self, path: Path, above: tuple[Path, ...] = (), scope: str = "other") -> Built:
        """The recipe at ``path`` and all that it stands on."""
        if path in self._built:
            return self._built[path]
        loaded = self.load(path, scope)
        if path in above:
            circle = " -> ".join(shown(p) for p in (*above, path))
            raise loaded.error("base", f"the bases make a circle ({circle}); remove one link")
        start, ancestors = self._base(loaded, (*above, path))
        built = self._trained(loaded, start, ancestors)
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
            below = self.build(target, above)
            level = below.loaded.recipe.level
            if not level_above(recipe.level, level):
                raise loaded.error(
                    "base",
                    f"{base} is {level}, and this recipe is {recipe.level}; "
                    f"point base at a recipe of level {recipe.level} or lower",
                )
            return below.first, (below, *below.ancestors)
        if target.is_dir():
            if not (target / "config.json").is_file():
                raise loaded.error("base", f"{base}: no config.json there; point at a model folder")
            node = Node(f"{target.name}/fetch", "fetch", {"folder": True}, files={"folder": target})
            return ModelRef(target.name, "L0", self.add(node)), ()
        if not looks_like_hub_id(base):
            raise loaded.error(
                "base", f"{base!r} is no recipe, no folder and no hub id; check the path"
            )
        commit, blocked = self.commit(loaded, "model", base, recipe.revision, "base")
        name = f"{base}@{(commit or 'unlocked')[:7]}/fetch"
        node = Node(name, "fetch", {"repo": base, "commit": commit}, blocked=blocked)
        return ModelRef(base, "L0", self.add(node)), ()

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
                f"{loaded.place(key)}: {key}: {repo} is not locked in "
                f"{loaded.path.with_suffix('.lock').name}; run once without --locked"
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
        sources = self.train_sources(loaded, inputs, files)
        node = Node(
            f"{recipe.name}/scratch",
            "scratch",
            {"shape": recipe.scratch.model_dump(), "sources": sources},
            inputs,
            files,
            note=f"{recipe.scratch.num_hidden_layers} layers, hidden {recipe.scratch.hidden_size}",
        )
        return ModelRef(recipe.name, "L0", self.add(node))

    def source(
        self,
        loaded: LoadedRecipe,
        key: str,
        source: Source,
        role: str,
        inputs: dict[str, str],
        files: dict[str, Path],
    ) -> dict[str, Any]:
        """What of a source goes into a key; adds its file or fetch node under ``role``."""
        config = source.model_dump(exclude={"path", "revision"}, exclude_none=True)
        if source.generator is not None:
            from pipeline.data.generators import generator_identity

            return {**config, "generator": generator_identity(source.generator)}
        path = source.path or ""
        local = loaded.local(path)
        if local.is_file():
            files[role] = local
            return {**config, "suffix": local.suffix}
        if not looks_like_hub_id(path):
            raise loaded.error(f"{key}.path", f"{path}: no such file; check the path")
        commit, blocked = self.commit(loaded, "dataset", path, source.revision, f"{key}.path")
        inputs[role] = self.add(
            Node(
                f"{path}@{(commit or 'unlocked')[:7]}/fetch-data{'.' if source.files else ''}"
                f"{'+'.join(source.files)}",
                "fetch-data",
                {"repo": path, "commit": commit, "files": list(source.files)},
                blocked=blocked,
            )
        )
        return {**config, "repo": path}

    def train_sources(
        self, loaded: LoadedRecipe, inputs: dict[str, str], files: dict[str, Path]
    ) -> list[dict[str, Any]]:
        """Every source of the training rows, as it goes into a key."""
        assert loaded.recipe.data is not None
        return [
            self.source(loaded, "data.train", source, f"train{index}", inputs, files)
            for index, source in enumerate(loaded.recipe.data.train)
        ]

    def prepare(
        self, loaded: LoadedRecipe, root: str, objective: str, ancestors: tuple[Built, ...]
    ) -> str:
        """The Dataset node of one objective: rows, splits, contamination, ids."""
        recipe = loaded.recipe
        assert recipe.data is not None
        assert recipe.train is not None
        inputs = {"tokenizer": root}
        files: dict[str, Path] = {}
        data, train = recipe.data, recipe.train
        sources: dict[str, Any] = {"train": self.train_sources(loaded, inputs, files)}
        carve = None
        if isinstance(data.validation, Carve):
            carve = data.validation.model_dump()
        else:
            sources["validation"] = self.source(
                loaded, "data.validation", data.validation, "validation", inputs, files
            )
        if data.test is not None:
            sources["test"] = self.source(loaded, "data.test", data.test, "test", inputs, files)
        replay = None
        if data.replay is not None:
            path = loaded.local(data.replay.recipe)
            replay = {"share": data.replay.share, "seed": train.seeds[0]}
            inputs["replay"] = self._prepared_of(loaded, path, "data.replay.recipe")
        if data.chat_template is not None:
            files["chat_template"] = loaded.local(data.chat_template)
            if not files["chat_template"].is_file():
                raise loaded.error("data.chat_template", f"{data.chat_template}: no such file")
        for index, below in enumerate(ancestors):
            for name in below.prepared.values():
                inputs[f"ancestor{index}"] = name
        config = {
            "sources": sources,
            "carve": carve,
            "replay": replay,
            "render": RENDERS[objective],
            "system": data.system,
            "chat_template_kwargs": data.chat_template_kwargs,
            "contamination": data.contamination,
            "max_length": train.max_length,
            "over_length": train.over_length,
            "packing": train.packing,
        }
        return self.add(
            Node(f"{recipe.name}/prepare.{RENDERS[objective]}", "prepare", config, inputs, files)
        )

    def _prepared_of(self, loaded: LoadedRecipe, path: Path, key: str) -> str:
        if not path.is_file():
            raise loaded.error(key, f"{path.name}: no such recipe; check the path")
        other = self.build(path)
        if not other.prepared:
            raise loaded.error(key, f"{path.name} prepares no data; name a recipe that trains")
        return next(iter(other.prepared.values()))

    def suite(self, loaded: LoadedRecipe, name: str, root: str) -> tuple[str, str]:
        """The Dataset node of an extra suite under our tokenizer, and the suite's format."""
        spec = loaded.recipe.evaluate.suites[name]
        owner, key = loaded, f"evaluate.suites.{name}"
        if isinstance(spec, RecipeSuite):
            path = loaded.local(spec.recipe)
            if not path.is_file():
                raise loaded.error(key, f"{spec.recipe}: no such recipe; check the path")
            owner = self.load(path)
            if owner.recipe.data is None or owner.recipe.data.test is None:
                raise loaded.error(key, f"{spec.recipe} has no data.test; name one that has")
            source, system = owner.recipe.data.test, owner.recipe.data.system
        else:
            source, system = spec, None
        inputs = {"tokenizer": root}
        files: dict[str, Path] = {}
        config = {
            "sources": {"test": self.source(owner, key, source, "test", inputs, files)},
            "carve": None,
            "replay": None,
            "render": "text" if source.format == "text" else "sft",
            "system": system,
            "chat_template_kwargs": {},
            "contamination": "drop",
            "max_length": 1 << 20,
            "over_length": "error",
            "packing": False,
        }
        node = Node(f"{root.partition('/')[0]}/suite.{name}", "prepare", config, inputs, files)
        return self.add(node), source.format

    def _trained(
        self, loaded: LoadedRecipe, start: ModelRef, ancestors: tuple[Built, ...]
    ) -> Built:
        train = loaded.recipe.train
        if train is None:
            return Built(loaded, start, {}, {}, ancestors)
        prepared: dict[str, str] = {
            objective: self.prepare(loaded, start.root, objective, ancestors)
            for objective in train.objective
        }
        models: dict[tuple[str, int], ModelRef] = {
            (objective, seed): self._one_model(loaded, start, prepared[objective], objective, seed)
            for objective in train.objective
            for seed in train.seeds
        }
        return Built(loaded, start, models, prepared, ancestors)

    def _one_model(
        self, loaded: LoadedRecipe, start: ModelRef, data: str, objective: str, seed: int
    ) -> ModelRef:
        recipe, train = loaded.recipe, loaded.recipe.train
        assert train is not None
        name = recipe.name + ("-classifier" if objective == "classify" else "")
        inputs = {"root": start.root, "data": data}
        if start.adapter is not None:
            inputs["parent"] = start.adapter
        launch = self._launch(loaded, train)
        options = {
            "micro_batch_size": train.micro_batch_size,
            "save_steps": train.save_steps,
            "gradient_checkpointing": train.gradient_checkpointing,
            "launch": launch,
        }
        stem = f"{recipe.name}/{{}}.{objective}.seed{seed}"
        full = train.method == "full"
        node = Node(
            stem.format("train"),
            "train-full" if full else "train",
            {**train_config(train, objective), "seed": seed},
            inputs,
            options=options,
            blocked=launch_problem(launch),
            note="full weights: a new engine root" if full and start.level != recipe.level else "",
        )
        trained = self.add(node)
        if full:
            return ModelRef(name, recipe.level, trained)
        rank = start.rank + max((train.lora_r, *train.rank_pattern.values()))
        over = {"root": start.root, "own": trained}
        if start.adapter is not None:
            over["parent"] = start.adapter
        export = Node(stem.format("export"), "export", {}, over, note=f"rank {rank}")
        return ModelRef(name, recipe.level, start.root, self.add(export), rank)

    def _launch(self, loaded: LoadedRecipe, train: TrainSection) -> dict[str, Any]:
        config = train.launch.config
        if config is None:
            return {"num_processes": train.launch.num_processes, "config": None}
        path = loaded.local(config)
        if not path.is_file():
            raise loaded.error("train.launch.config", f"{config}: no such file; check the path")
        return {"num_processes": train.launch.num_processes, "config": str(path)}


def train_config(train: TrainSection, objective: str) -> dict[str, Any]:
    """The training settings that change the result of ``objective``; no others."""
    unused = _NOT_IN_KEY | _DATA_ONLY
    if train.method == "full":
        unused = unused | _LORA_ONLY
    if objective != "classify":
        unused = unused | {"head", "head_learning_rate"}
    if objective != "mlm":
        unused = unused | {"mlm_probability"}
    if train.max_steps is not None:
        unused = unused | {"num_train_epochs"}
    return {**train.model_dump(mode="json", exclude=unused), "objective": objective}


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
    outcomes, final = add_judgement(ladder, built, ungated=ungated)
    nodes = with_keys(ladder.nodes.values(), store)
    return Plan(built.loaded, nodes, outcomes, final)


def outcome_of(built: Built, objective: str, **refs: str | None) -> Outcome:
    """The named model of one objective: its first seed."""
    train = built.loaded.recipe.train
    model = built.start if train is None else built.models[(objective, train.seeds[0])]
    return Outcome(model, objective, built.start.name, built.loaded.path, **refs)
