"""The parity gate before the real vLLM: the bundle passes, and each deliberate break is caught."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from golden_bundle import golden_bundle, rows
from tiny_family import HEAD, TEMPLATE, Family, make_headed

from pipeline.core.errors import EngineError
from serve.bundle import Bundle, read_bundle
from serve.engine import head_engines
from serve.golden_file import GOLDEN_FILE
from serve.parity import announce, check, check_heads
from serve.parity_heads import served_heads
from serve.vllm_engine import VllmEngine

pytestmark = pytest.mark.engine
CHANGED = "demo-l2-changed"


@contextmanager
def serving(bundle: Bundle) -> Iterator[VllmEngine]:
    from serve.engine_install import find_home

    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    engine = VllmEngine(bundle, home)
    engine.start()
    try:
        engine.wait_ready(300)
        yield engine
    finally:
        engine.stop()


def rewritten(bundle: Path, **more: Any) -> Path:
    place = bundle / "bundle.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **more}))
    return bundle


@pytest.fixture(scope="module")
def golden(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations with a system text, in float32."""
    return golden_bundle(family, tmp_path_factory.mktemp("golden"), system="Be brief.")


@pytest.fixture(scope="module")
def engine(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmEngine]:
    """Serves the family, and beside it an adapter of which one weight is another."""
    from safetensors.torch import load_file, save_file

    served = tmp_path_factory.mktemp("served") / "bundle"
    shutil.copytree(golden, served)
    tree = json.loads((served / "bundle.json").read_text())
    entry = tree["adapters"][-1]
    shutil.copytree(served / entry["path"], served / "adapters" / CHANGED)
    file = served / "adapters" / CHANGED / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(name for name in sorted(weights) if "down_proj.lora_B" in name)
    weights[name][3, 5] += 0.5
    save_file(weights, file)
    added = {**entry, "name": CHANGED, "path": f"adapters/{CHANGED}"}
    rewritten(served, adapters=[*tree["adapters"], added])
    with serving(read_bundle(served)) as running:
        yield running


@pytest.fixture
def models(family: Family) -> dict[str, str]:
    return {name: name for name in family.names}


def refused(bundle: Bundle, engine: VllmEngine, models: Mapping[str, str]) -> list[str]:
    """Lines of the error with which the start would stop."""
    with pytest.raises(EngineError) as caught:
        check(bundle, engine.base_url, models)
    return str(caught.value).splitlines()


def test_the_bundles_own_engine_passes_far_inside_the_tolerance(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    report = check(read_bundle(golden), engine.base_url, models)
    assert (report.conversations, report.models) == (16, 3)
    assert report.tokens > 400
    assert report.greedy > 100
    assert report.largest < 1e-3
    assert report.mean < 1e-4
    line = report.line()
    assert "\n" not in line
    assert f"{report.largest:.2g} at most, {report.mean:.2g} on average" in line


def test_mixed_batches_give_each_models_own_offline_log_probabilities(
    engine: VllmEngine, family: Family, offline: Callable[[str, str, int], Any]
) -> None:
    """vllm #48421, through the official client, every token of every answer."""
    client = openai.OpenAI(base_url=f"{engine.base_url}/v1", api_key="none", max_retries=0)
    prompts = [f"{word} My card was declined" for word in ("So", "Now", "Then", "But", "And", "Or")]
    jobs = [(name, prompt) for prompt in prompts for name in family.names]

    def ask(job: tuple[str, str]) -> Any:
        name, prompt = job
        return client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": prompt}], max_tokens=8,
            temperature=0, logprobs=True, extra_body={"return_token_ids": True},
        )  # fmt: skip

    with client, ThreadPoolExecutor(len(jobs)) as pool:
        answers = list(pool.map(ask, jobs))
    for (name, prompt), answer in zip(jobs, answers, strict=True):
        expected = offline(name, prompt, 8)
        (choice,) = answer.choices
        served = [token.logprob for token in choice.logprobs.content]
        assert choice.token_ids == expected.ids[: len(choice.token_ids)], name
        assert served == pytest.approx(expected.logprobs[: len(served)], abs=1e-3), name


def test_another_system_text_is_shown_token_by_token(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    told = refused(replace(read_bundle(golden), system="Be kind."), engine, models)
    assert "the server makes other ids than training of 16 of 16 golden conversations" in told[0]
    assert told[1].split() == ["position", "training", "server"]
    (first, *_) = [line for line in told if line.endswith("<-- differs")]
    assert first.split()[2] != first.split()[4]


def test_no_system_text_is_caught(golden: Path, engine: VllmEngine, models: dict[str, str]) -> None:
    told = refused(replace(read_bundle(golden), system=None), engine, models)
    assert "the server makes other ids than training" in told[0]


def test_controls_that_no_longer_neutralise_are_caught(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    bundle = read_bundle(golden)
    told = refused(replace(bundle, controls=type(bundle.controls)()), engine, models)
    assert "of 1 of 16 golden conversations, 'control tokens in a text' first" in told[0]


def test_a_swapped_adapter_is_caught(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    swapped = {**models, "demo-l1": "demo-l2", "demo-l2": "demo-l1"}
    told = refused(read_bundle(golden), engine, swapped)
    assert told[0].startswith("parity: demo-l")
    assert "log-probabilities of golden conversation" in told[0]
    assert "the server does not serve the bundle's weights under this name" in told[0]
    assert told[1].split() == ["position", "token", "offline", "server", "difference"]
    assert len(told) > 3


def test_an_adapter_in_the_bases_place_is_caught(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    told = refused(read_bundle(golden), engine, {**models, "demo-l0": "demo-l1"})
    assert told[0].startswith("parity: demo-l0, ")


def test_one_changed_weight_is_caught(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    told = refused(read_bundle(golden), engine, {**models, "demo-l2": CHANGED})
    assert told[0].startswith("parity: demo-l2, ")
    assert "differ from offline by" in told[0]


def test_a_model_that_the_golden_file_does_not_know_is_refused(
    golden: Path, engine: VllmEngine
) -> None:
    told = refused(read_bundle(golden), engine, engine.models)
    assert f"golden.json does not know {CHANGED}" in told[0]


def test_an_engine_that_does_not_hold_a_model_is_refused(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    told = refused(read_bundle(golden), engine, {**models, "demo-l2": "elsewhere"})
    assert "answered with 404" in told[0]


def test_a_greedy_answer_that_is_another_is_shown(
    golden: Path, engine: VllmEngine, models: dict[str, str], tmp_path: Path
) -> None:
    """As from an engine that picks otherwise than by the likeliest token."""
    shutil.copytree(golden, tmp_path / "bundle")
    place = tmp_path / "bundle" / GOLDEN_FILE
    tree = json.loads(place.read_text())
    said = tree["conversations"][4]["models"]["demo-l1"]
    said["greedy"][0] += 1
    place.write_text(json.dumps(tree))
    told = refused(read_bundle(tmp_path / "bundle"), engine, models)
    assert "demo-l1: the server's greedy continuation of golden conversation" in told[0]
    assert told[-1]
    assert any(line.endswith("<-- differs") for line in told)


def test_an_engine_that_others_ask_too_is_checked_and_goes_on(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    client = openai.OpenAI(base_url=f"{engine.base_url}/v1", api_key="none", max_retries=0)

    def ask(number: int) -> str:
        name = list(models)[number % 3]
        made = client.completions.create(model=name, prompt=[5 + number], max_tokens=40)
        return str(made.choices[0].finish_reason)

    with client, ThreadPoolExecutor(6) as pool:
        others = [pool.submit(ask, number) for number in range(60)]
        report = check(read_bundle(golden), engine.base_url, models, alone=False)
        assert {other.result() for other in others} <= {"stop", "length"}
    assert report.largest < 1e-3
    assert report.tokens == report.greedy > 100
    swapped = {**models, "demo-l1": "demo-l2", "demo-l2": "demo-l1"}
    with pytest.raises(EngineError, match="parity: demo-l"):
        check(read_bundle(golden), engine.base_url, swapped, alone=False)


def test_a_bundle_without_golden_conversations_is_said_to_have_none(
    family: Family, engine: VllmEngine, models: dict[str, str]
) -> None:
    report = check(read_bundle(family.bundle), engine.base_url, models)
    assert report.line().endswith("nothing was compared")


def test_an_engine_that_is_away_is_named(golden: Path, models: dict[str, str]) -> None:
    with pytest.raises(EngineError, match="no answer"):
        check(read_bundle(golden), "http://127.0.0.1:9", models, timeout=5)


def test_a_start_says_one_line_and_stops_where_the_engine_serves_something_else(
    golden: Path, engine: VllmEngine, models: dict[str, str]
) -> None:
    told: list[str] = []
    ready: Any = SimpleNamespace(name="vllm", base_url=engine.base_url, models=models)
    bundle = read_bundle(golden)
    announce(bundle, [ready], told.append)
    (line,) = told
    assert line.startswith("parity: 16 conversations, 3 models: ids equal; ")
    ready.models = {**models, "demo-l2": CHANGED}
    with pytest.raises(EngineError, match="does not serve the bundle's weights"):
        announce(bundle, [ready], told.append)


def test_an_engine_that_tells_no_ids_is_said_not_to_be_compared(golden: Path) -> None:
    told: list[str] = []
    other: Any = SimpleNamespace(name="transformers")
    announce(read_bundle(golden), [other], told.append)
    assert told == ["parity: not compared: transformers tells no ids and no log-probabilities"]


@pytest.fixture(scope="module")
def broken(
    family: Family, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, VllmEngine]]:
    """Documents and conversations, before an engine whose base has another template and end."""
    folder = tmp_path_factory.mktemp("broken")
    texts = [{"id": str(n), "text": f"My card was declined {n} times, " * 3} for n in range(20)]
    made = golden_bundle(
        family, folder, render="text", splits={"train": [{"text": "a"}], "test": texts}
    )
    base = folder / "base"
    shutil.copytree(family.base, base)
    template = base / "chat_template.jinja"
    assert template.read_text() == TEMPLATE
    template.write_text(TEMPLATE.replace("assistant\n", "assistant: "))
    for name in ("config.json", "generation_config.json"):
        told = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps({**told, "eos_token_id": 0}))
    told = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**told, "eos_token": "<|endoftext|>"}))
    tree = json.loads((made / "bundle.json").read_text())
    served = folder / "served"
    served.mkdir()
    shutil.copyfile(made / "bundle.json", served / "bundle.json")
    named = {**tree["base"], "path": str(base)}
    rewritten(served, base=named, adapters=[])
    rewritten(made, stop_token_ids=[])
    with serving(read_bundle(served)) as running:
        yield made, running


def test_another_chat_template_is_caught(broken: tuple[Path, VllmEngine]) -> None:
    made, engine = broken
    told = refused(read_bundle(made), engine, engine.models)
    assert "the server makes other ids than training of 2 of 16 golden conversations" in told[0]
    assert "start it with the bundle's own chat template" in told[0]


def test_an_end_at_which_the_server_goes_on_is_caught(
    broken: tuple[Path, VllmEngine], tmp_path: Path
) -> None:
    made, engine = broken
    shutil.copytree(made, tmp_path / "bundle")
    place = tmp_path / "bundle" / GOLDEN_FILE
    tree = json.loads(place.read_text())
    # Documents alone: their ids and log-probabilities are right whatever the template.
    documents = [each for each in tree["conversations"] if each["messages"] is None]
    assert len(documents) == 14
    place.write_text(json.dumps({**tree, "conversations": documents}))
    told = refused(read_bundle(tmp_path / "bundle"), engine, engine.models)
    assert "the server stops at token id 0" in told[0] or "goes on after token id 2" in told[0]
    assert "an answer ends with [2] alone" in told[0]


def test_bfloat16_passes_and_still_catches_a_swapped_adapter(
    family: Family, models: dict[str, str], tmp_path: Path
) -> None:
    made = read_bundle(golden_bundle(family, tmp_path, dtype="bfloat16"))
    with serving(made) as engine:
        report = check(made, engine.base_url, models)
        assert 1e-3 < report.largest < report.allowed.largest
        assert report.mean < report.allowed.mean
        assert report.undecided > 0
        swapped = {**models, "demo-l1": "demo-l2", "demo-l2": "demo-l1"}
        assert "differ from offline" in refused(made, engine, swapped)[0]


def test_heads_answer_as_offline_and_another_head_is_caught(family: Family, tmp_path: Path) -> None:
    from serve.engine_install import find_home

    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed; run `gradus engine install` first")
    headed = make_headed(family, tmp_path / "headed")
    bundle = read_bundle(golden_bundle(family, tmp_path, bundle=headed, splits={
        "train": rows(6), "validation": rows(6, 100),
    }))  # fmt: skip
    (engine,) = head_engines(bundle, VllmEngine(bundle, home))
    engine.start()
    ask = served_heads(bundle, [engine])

    def halved(name: str, messages: Any) -> Mapping[str, float]:
        """A head over states that are not its own."""
        return {label: p**2 for label, p in ask(name, messages).items()}

    try:
        engine.wait_ready(300)
        report = check_heads(bundle, ask)
        assert report.answers == len(
            json.loads((bundle.root / GOLDEN_FILE).read_text())["conversations"]
        )
        assert report.largest < 1e-3
        assert HEAD in bundle.heads[0].name
        with pytest.raises(EngineError, match=f"head {HEAD}: its answer to golden conversation"):
            check_heads(bundle, halved)
        with pytest.raises(EngineError, match="it serves another head"):
            check_heads(bundle, lambda _name, _messages: {"other": 1.0})
    finally:
        engine.stop()
