"""The part of a plan that judges: evaluations of a recipe, its ancestors and its control."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.core.recipe import LoadedRecipe
from pipeline.data_plan import suite_node
from pipeline.plan import Built, ModelRef, Node, Outcome, outcome_of

if TYPE_CHECKING:
    from pipeline.ladder import Ladder

ARMS = {"sft": "generative", "classify": "classifier"}
_MAY_DIFFER = {"name", "base", "revision", "level", "evaluate", "gates", "serve"}


@dataclass(frozen=True)
class _Judged:
    """One evaluate node and what the comparison must know of it."""

    node: str
    about: dict[str, Any]


def add_judgement(
    ladder: Ladder, built: Built, *, ungated: bool
) -> tuple[tuple[Outcome, ...], str]:
    """Adds evaluate, compare, merge and bundle nodes; the outcomes and the last node's id."""
    recipe = built.loaded.recipe
    if recipe.train is None:
        return (outcome_of(built, "fetch"),), built.start.root
    suites = _suites(ladder, built)
    _require_sound_gates(built.loaded, set(suites))
    report = _compare(ladder, built, suites) if suites else None
    outcomes = []
    for objective in recipe.train.objective:
        model = built.models[(objective, recipe.train.seeds[0])]
        merged = None
        if "merged" in recipe.serve.export and model.adapter is not None:
            inputs = {"root": model.root, "adapter": model.adapter}
            merged = ladder.add(Node(f"{model.name}/merge", "merge", {}, inputs))
        outcomes.append(outcome_of(built, objective, merged=merged, report=report))
    final = report or built.first.adapter or built.first.root
    if recipe.train.objective[0] in {"pretrain", "cpt", "sft"}:
        bundle = _bundle(ladder, built, report, ungated=ungated)
        outcomes[0] = outcome_of(
            built, outcomes[0].objective, merged=outcomes[0].merged, report=report, bundle=bundle
        )
    return tuple(outcomes), final


def _suites(ladder: Ladder, built: Built) -> dict[str, tuple[str | None, str]]:
    """Suite name to (Dataset node or None for the recipe's own test, format)."""
    recipe = built.loaded.recipe
    found: dict[str, tuple[str | None, str]] = {}
    if recipe.data is not None and recipe.data.test is not None:
        found["test"] = (None, recipe.data.test.format)
    for name in recipe.evaluate.suites:
        if name == "test":
            raise built.loaded.error("evaluate.suites.test", "is data.test; choose another name")
        found[name] = suite_node(ladder, built.loaded, name, built.start.root)
    return found


def _require_sound_gates(loaded: LoadedRecipe, suites: set[str]) -> None:
    """A gate that could never be judged is refused before anything runs."""
    recipe = loaded.recipe
    for index, gate in enumerate(recipe.gates):
        key = f"gates.{index}"
        if gate.suite not in suites:
            known = ", ".join(sorted(suites)) or "none; give data.test or evaluate.suites"
            raise loaded.error(f"{key}.suite", f"{gate.suite!r} is no suite here (known: {known})")
        if gate.against == "control" and recipe.evaluate.control is None:
            raise loaded.error(f"{key}.against", "there is no control; set evaluate.control")
        if gate.head is not None and recipe.train is not None:
            heads = {ARMS.get(objective) for objective in recipe.train.objective}
            if gate.head not in heads:
                raise loaded.error(f"{key}.head", f"no objective of this recipe is {gate.head}")


def _compare(ladder: Ladder, built: Built, suites: dict[str, tuple[str | None, str]]) -> str | None:
    recipe = built.loaded.recipe
    assert recipe.train is not None
    assert recipe.data is not None
    judged = _seeds(ladder, built, suites, "model")
    if recipe.evaluate.control is not None:
        control = _control(ladder, built)
        judged += _seeds(ladder, control, suites, "control")
    judged += _ancestors(ladder, built, suites)
    if not judged:
        return None
    inputs = {f"model{index}": item.node for index, item in enumerate(judged)}
    for objective, node in built.prepared.items():
        inputs[f"data.{objective}"] = node
    # Contamination is counted once more here, over everything that was trained on or judged.
    for index, below in enumerate(built.ancestors):
        for objective, node in below.prepared.items():
            inputs[f"below{index}.{objective}"] = node
    for name, (suite, _) in suites.items():
        if suite is not None:
            inputs[f"suite.{name}"] = suite
    names = set(suites)
    test_is_text = recipe.data.test is not None and recipe.data.test.format == "text"
    config = {
        "name": recipe.name,
        "level": recipe.level,
        "models": [item.about for item in judged],
        "gates": [gate.model_dump(exclude_none=True) for gate in recipe.gates],
        "general": "general" if "general" in names else None,
        "domain": "domain" if "domain" in names else ("test" if test_is_text else None),
        "task": "test" if "test" in names and not test_is_text else None,
    }
    return ladder.add(Node(f"{recipe.name}/compare", "compare", config, inputs))


def _control(ladder: Ladder, built: Built) -> Built:
    loaded = built.loaded
    control = loaded.local(loaded.recipe.evaluate.control or "")
    if not control.is_file():
        raise loaded.error("evaluate.control", f"{control.name}: no such recipe; check the path")
    if control == loaded.path:
        raise loaded.error("evaluate.control", "names this recipe itself; name its control")
    # The control is the same recipe over another base, so overrides reach it too.
    _require_paired(loaded, ladder.load(control, "control"))
    return ladder.build(control, (loaded.path,))


def _require_paired(loaded: LoadedRecipe, other: LoadedRecipe) -> None:
    mine, theirs = loaded.recipe.model_dump(), other.recipe.model_dump()
    for section in sorted(set(mine) - _MAY_DIFFER):
        left, right = mine[section], theirs[section]
        if isinstance(left, dict) and isinstance(right, dict):
            for key in left:
                if _resolved(loaded, left[key]) != _resolved(other, right.get(key)):
                    raise loaded.error(
                        "evaluate.control",
                        f"differs in {section}.{key}; a control may differ in its base only "
                        f"(write `extends: {loaded.path.name}` in {other.path.name})",
                    )


def _resolved(loaded: LoadedRecipe, value: Any) -> Any:
    """Values with local paths made absolute, so that two folders can be compared."""
    if isinstance(value, dict):
        return {key: _resolved(loaded, inner) for key, inner in value.items()}
    if isinstance(value, str) and loaded.local(value).exists():
        return str(loaded.local(value))
    return value


def _seeds(
    ladder: Ladder, built: Built, suites: dict[str, tuple[str | None, str]], role: str
) -> list[_Judged]:
    train = built.loaded.recipe.train
    assert train is not None
    found = []
    for (objective, seed), model in built.models.items():
        arm = ARMS.get(objective, "text")
        if objective == "mlm":
            # An encoder has no next-token loss; what stands over it is judged by its task.
            continue
        wanted = {}
        for name, (node, form) in suites.items():
            if arm == "classifier" and form == "text":
                continue
            # Texts are judged for one seed: the figure stands for these weights.
            if form == "text" and seed != train.seeds[0]:
                continue
            wanted[name] = node or built.prepared[objective]
        if not wanted:
            continue
        trained = f"{built.loaded.recipe.name}/train.{objective}.seed{seed}"
        item = _evaluate(ladder, built, model, arm, wanted, f"{objective}.seed{seed}", trained)
        found.append(_Judged(item, _about(model, arm, role, seed)))
    return found


def _ancestors(
    ladder: Ladder, built: Built, suites: dict[str, tuple[str | None, str]]
) -> list[_Judged]:
    """The base and the parent on every text suite: what forgetting is measured against."""
    recipe = built.loaded.recipe
    text = {
        name: node or next(iter(built.prepared.values()))
        for name, (node, form) in suites.items()
        if form == "text"
    }
    if not text or recipe.scratch is not None or not _reads_text(built):
        return []
    chain = _below(built)
    found = []
    for index, model in enumerate(chain):
        role = "base" if index == len(chain) - 1 else "parent"
        item = _evaluate(ladder, built, model, "text", text, f"as-{role}", None)
        found.append(_Judged(item, _about(model, "text", role, 0)))
    return found


def _reads_text(built: Built) -> bool:
    train = built.loaded.recipe.train
    return train is not None and bool({"pretrain", "cpt", "sft"} & set(train.objective))


def _below(built: Built) -> list[ModelRef]:
    """What the recipe's model stands on, nearest first, down to the L0 itself."""
    # What scratch starts from is random weights: the L0 is what was trained of them.
    starts = [b.start for b in built.ancestors if b.loaded.recipe.scratch is None]
    chain = [built.start, *starts]
    return [m for i, m in enumerate(chain) if m not in chain[:i] and m != built.first]


def _about(model: ModelRef, arm: str, role: str, seed: int) -> dict[str, Any]:
    return {"name": model.name, "level": model.level, "arm": arm, "role": role, "seed": seed}


def _evaluate(
    ladder: Ladder,
    built: Built,
    model: ModelRef,
    arm: str,
    suites: dict[str, str],
    label: str,
    trained: str | None,
) -> str:
    inputs = {"root": model.root, **{f"suite.{name}": node for name, node in suites.items()}}
    if model.adapter is not None:
        inputs["adapter"] = model.adapter
    if trained is not None and trained != model.root:
        inputs["trained"] = trained
    evaluate = built.loaded.recipe.evaluate
    config = {
        "arm": arm,
        "max_new_tokens": evaluate.max_new_tokens,
        "answer_after": evaluate.answer_after,
    }
    owner = model.name.removesuffix("-classifier") if trained else built.loaded.recipe.name
    node = Node(
        f"{owner}/evaluate.{label}",
        "evaluate",
        config,
        inputs,
        options={"batch_size": evaluate.batch_size},
    )
    return ladder.add(node)


def _bundle(ladder: Ladder, built: Built, report: str | None, *, ungated: bool) -> str:
    recipe = built.loaded.recipe
    chain = [built.first, *_below(built)]
    served = [m for m in chain if m.root == built.first.root and m.adapter is not None]
    inputs = {"root": built.first.root}
    if report is not None:
        inputs["report"] = report
    for model in served:
        inputs[f"adapter.{model.name}"] = model.adapter or ""
    root = next((m for m in chain if m.root == built.first.root and m.adapter is None), None)
    config = {
        "name": recipe.name,
        "base": {"name": root.name if root else built.first.root.partition("/")[0],
                 "level": root.level if root else recipe.level},
        "adapters": [
            {"name": m.name, "level": m.level, "rank": m.rank} for m in reversed(served)
        ],
        "max_model_len": recipe.serve.max_model_len,
        "system": recipe.data.system if recipe.data else None,
        "chat_template_kwargs": recipe.data.chat_template_kwargs if recipe.data else {},
        "ungated": ungated,
    }  # fmt: skip
    return ladder.add(Node(f"{recipe.name}/bundle", "bundle", config, inputs))
