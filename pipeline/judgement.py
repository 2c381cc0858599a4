"""The part of a plan that judges: evaluations of a recipe, its ancestors and its control."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.core.recipe import LoadedRecipe
from pipeline.data_plan import suite_node
from pipeline.data_sources import suite_source, test_form
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
) -> tuple[tuple[Outcome, ...], tuple[str, ...]]:
    """Adds evaluate, compare, merge and bundle nodes.

    Recipes below are judged too where they have gates: a level that did not pass its own is
    not served because of the one above it.

    Returns:
        Outcomes, the recipe's own first, and the reports whose gates decide.
    """
    recipe = built.loaded.recipe
    if recipe.train is None:
        return (outcome_of(built, "fetch"),), ()
    reports = {built.loaded.path: _report(ladder, built)}
    for below in built.ancestors:
        if below.loaded.recipe.gates:
            reports[below.loaded.path] = _report(ladder, below)
    deciding = tuple(report for report in reports.values() if report is not None)
    outcomes = list(_outcomes(ladder, built, reports[built.loaded.path]))
    if recipe.train.objective[0] in {"pretrain", "cpt", "sft"}:
        bundle = _bundle(ladder, built, deciding, ungated=ungated)
        outcomes[0] = replace(outcomes[0], bundle=bundle)
    others = list(built.ancestors)
    if recipe.evaluate.control is not None:
        others.append(_control(ladder, built))
    for other in others:
        outcomes += _outcomes(ladder, other, reports.get(other.loaded.path))
    return tuple(outcomes), deciding


def _report(ladder: Ladder, built: Built) -> str | None:
    suites = _suites(built)
    _require_sound_gates(built.loaded, suites)
    return _compare(ladder, built, suites) if suites else None


def _outcomes(ladder: Ladder, built: Built, report: str | None) -> Iterator[Outcome]:
    """The named models of one recipe."""
    recipe = built.loaded.recipe
    if recipe.train is None:
        yield outcome_of(built, "fetch")
        return
    for objective in recipe.train.objective:
        model = built.models[(objective, recipe.train.seeds[0])]
        merged = None
        if "merged" in recipe.serve.export and model.adapter is not None:
            inputs = {"root": model.root, "adapter": model.adapter}
            merged = ladder.add(Node(f"{model.name}/merge", "merge", {}, inputs))
        yield outcome_of(built, objective, merged=merged, report=report)


def _suites(built: Built) -> dict[str, str]:
    """Suite name to its format; `test` is the recipe's own."""
    recipe = built.loaded.recipe
    found: dict[str, str] = {}
    own = test_form(built.loaded)
    if own is not None:
        found["test"] = own
    for name in recipe.evaluate.suites:
        if name == "test":
            raise built.loaded.error("evaluate.suites.test", "is data.test; choose another name")
        found[name] = suite_source(built.loaded, name).form
    return found


def _suite(ladder: Ladder, built: Built, name: str, objective: str) -> str:
    """The Dataset node of a suite, rendered as the objective's model is asked."""
    if name == "test":
        return built.prepared[objective]
    return suite_node(ladder, built.loaded, name, built.tokenizer, objective)


def _require_sound_gates(loaded: LoadedRecipe, suites: dict[str, str]) -> None:
    """A gate that could never be judged is refused before anything runs."""
    recipe = loaded.recipe
    for index, gate in enumerate(recipe.gates):
        key = f"gates.{index}"
        if gate.suite not in suites:
            known = ", ".join(sorted(suites)) or "none; give data.test or evaluate.suites"
            raise loaded.error(f"{key}.suite", f"{gate.suite!r} is no suite here (known: {known})")
        text = suites[gate.suite] == "text"
        if gate.metric != "contamination" and text != (gate.metric == "loss"):
            wanted = "a task" if text else "text"
            raise loaded.error(f"{key}.metric", f"{gate.metric} needs a suite of {wanted}")
        if gate.against == "control" and recipe.evaluate.control is None:
            raise loaded.error(f"{key}.against", "there is no control; set evaluate.control")
        if gate.head is not None and recipe.train is not None:
            heads = {ARMS.get(objective) for objective in recipe.train.objective}
            if gate.head not in heads:
                raise loaded.error(f"{key}.head", f"no objective of this recipe is {gate.head}")


def _compare(ladder: Ladder, built: Built, suites: dict[str, str]) -> str | None:
    recipe = built.loaded.recipe
    assert recipe.train is not None
    assert recipe.data is not None
    judged = _seeds(ladder, built, built, suites, "model")
    if recipe.evaluate.control is not None:
        judged += _seeds(ladder, _control(ladder, built), built, suites, "control")
    judged += _ancestors(ladder, built, suites)
    if not judged:
        return None
    inputs = {f"model{index}": item.node for index, item in enumerate(judged)}
    # Its `prepare` has compared its rows with all suites, and those with all rows below.
    for objective, node in built.prepared.items():
        inputs[f"data.{objective}"] = node
    names = set(suites)
    test_is_text = suites.get("test") == "text"
    config = {
        "name": recipe.name,
        "level": recipe.level,
        "models": [item.about for item in judged],
        "gates": [gate.model_dump(exclude_none=True) for gate in recipe.gates],
        "general": "general" if "general" in names else None,
        "domain": "domain" if "domain" in names else ("test" if test_is_text else None),
        "task": "test" if "test" in names and not test_is_text else None,
        "through_l1": "L1" in {recipe.level, *(m.level for m in _below(built))},
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
    ladder: Ladder, built: Built, asked: Built, suites: dict[str, str], role: str
) -> list[_Judged]:
    """Every trained model of ``built``, evaluated as the recipe ``asked`` says."""
    train = built.loaded.recipe.train
    assert train is not None
    found = []
    for (objective, seed), model in built.models.items():
        arm = ARMS.get(objective, "text")
        if objective == "mlm":
            # An encoder has no next-token loss; what stands over it is judged by its task.
            continue
        wanted = {}
        for name, form in suites.items():
            if arm == "classifier" and form == "text":
                continue
            # Texts are judged for one seed: the figure stands for these weights.
            if form == "text" and seed != train.seeds[0]:
                continue
            owner = built if name == "test" else asked
            wanted[name] = _suite(ladder, owner, name, objective)
        if not wanted:
            continue
        trained = f"{built.loaded.recipe.name}/train.{objective}.seed{seed}"
        item = _evaluate(ladder, asked, model, arm, wanted, f"{objective}.seed{seed}", trained)
        found.append(_Judged(item, _about(model, arm, role, seed)))
    return found


def _ancestors(ladder: Ladder, built: Built, suites: dict[str, str]) -> list[_Judged]:
    """The base and the parent on every text suite: what forgetting is measured against."""
    recipe = built.loaded.recipe
    assert recipe.train is not None
    text = {
        name: _suite(ladder, built, name, recipe.train.objective[0])
        for name, form in suites.items()
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


def _bundle(ladder: Ladder, built: Built, reports: tuple[str, ...], *, ungated: bool) -> str:
    recipe = built.loaded.recipe
    chain = [built.first, *_below(built)]
    served = [m for m in chain if m.root == built.first.root and m.adapter is not None]
    assert recipe.train is not None
    # How its rows were rendered is how it has to be asked.
    data = built.prepared[recipe.train.objective[0]]
    inputs = {"root": built.first.root, "data": data}
    for index, report in enumerate(reports):
        inputs[f"report{index}"] = report
    for model in served:
        inputs[f"adapter.{model.name}"] = model.adapter or ""
    root = next((m for m in chain if m.root == built.first.root and m.adapter is None), None)
    config = {
        "name": recipe.name,
        "base": {
            "name": _plain_name(root.name if root else built.first.root.partition("/")[0]),
            "level": root.level if root else recipe.level,
        },
        "adapters": [
            {"name": m.name, "level": m.level, "rank": m.rank} for m in reversed(served)
        ],
        "max_model_len": recipe.serve.max_model_len,
        "system": recipe.data.system if recipe.data else None,
        "chat_template_kwargs": recipe.data.chat_template_kwargs if recipe.data else {},
        "ungated": ungated,
    }  # fmt: skip
    return ladder.add(Node(f"{recipe.name}/bundle", "bundle", config, inputs))


def _plain_name(name: str) -> str:
    """A name that a client can ask for: Qwen/Qwen3-0.6B is served as Qwen3-0.6B."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2]).strip(".-_") or "base"
