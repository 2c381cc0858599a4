"""A running server follows promotions: the real vLLM, requests under way, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from golden_bundle import golden_bundle
from tiny_family import Family, another_version, make_adapter

from pipeline.core.artifact import scan_files
from pipeline.core.digest import tree_digest
from serve.bundle import read_bundle
from serve.releases import Releases
from serve.versions import register_all

pytestmark = pytest.mark.engine
NAME = "demo-l2"
PROMPT = "My card was declined"
TOKENS = 24
SYSTEM = "Answer in one word."


@dataclass
class Released:
    """A server, its file of releases, and the folders of three versions' weights."""

    server: Any
    releases: Releases
    weights: dict[int, Path]

    @property
    def client(self) -> openai.OpenAI:
        client: openai.OpenAI = self.server.client
        return client

    def ask(self, name: str = NAME, system: str | None = None) -> Any:
        opened: Any = [] if system is None else [{"role": "system", "content": system}]
        return self.client.chat.completions.create(
            model=name, messages=[*opened, {"role": "user", "content": PROMPT}], max_tokens=TOKENS,
            temperature=0, logprobs=True,
        )  # fmt: skip

    def said(self, name: str = NAME, system: str | None = None) -> list[float]:
        return [token.logprob for token in self.ask(name, system).choices[0].logprobs.content]

    def live(self) -> int:
        card = self.client.models.retrieve(NAME)
        number: int = card.metadata["release"]["number"]  # type: ignore[attr-defined]
        return number

    def wait_live(self, number: int, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while self.live() != number:
            assert time.monotonic() < deadline, "\n".join(self.server.lines[-20:])
            time.sleep(0.1)


@pytest.fixture(scope="module")
def released(
    family: Family, serve_vllm: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Released]:
    """Version 1 is served; 2 and 3 wait, 4 holds other weights than its golden answers, and 5 is
    the weights of 1 with another system text."""
    root = tmp_path_factory.mktemp("releases")
    first = golden_bundle(family, root / "first")
    releases = Releases(root / "releases.json")
    weights = {1: family.adapters[NAME]}
    bundles = {1: first}
    for number, rank, seed in ((2, 8, 22), (3, 12, 33), (4, 4, 44)):
        copy = another_version(family, first, root / f"made{number}", rank, seed)
        bundle = bundles[number] = golden_bundle(family, root / f"v{number}", bundle=copy)
        entry = json.loads((bundle / "bundle.json").read_text())["adapters"][-1]
        weights[number] = bundle / entry["path"]
    wrong = weights[4] / "adapter_model.safetensors"
    shutil.copyfile(another_weights(family, root / "wrong"), wrong)
    tree = json.loads((bundles[4] / "bundle.json").read_text())
    tree["adapters"][-1]["digest"] = tree_digest(scan_files(weights[4]))
    (bundles[4] / "bundle.json").write_text(json.dumps(tree))
    bundles[5] = golden_bundle(family, root / "v5", bundle=first, system=SYSTEM)
    for number, bundle in bundles.items():
        made = register_all(releases, read_bundle(bundle), served=number == 1)
        assert made[NAME] == number
    with serve_vllm(first, releases.path) as server:
        yield Released(server, releases, weights)


def another_weights(family: Family, folder: Path) -> Path:
    make_adapter(family.base, folder, 4, 45)
    return folder / "adapter_model.safetensors"


@pytest.fixture
def expected(released: Released, offline: Callable[[str, str, int], Any]) -> dict[int, list[float]]:
    """Each version's own log-probabilities, by transformers and peft."""
    return {
        number: offline(str(folder), PROMPT, TOKENS).logprobs
        for number, folder in released.weights.items()
        if number in {1, 2, 3}
    }


def near(said: list[float], offline: list[float]) -> bool:
    return said == pytest.approx(offline[: len(said)], abs=1e-3)


def test_a_promotion_is_followed_without_a_restart_and_a_rollback_too(
    released: Released, expected: dict[int, list[float]]
) -> None:
    assert near(released.said(), expected[1])
    pid = released.server.folder()
    released.releases.promote(NAME, 2)
    released.wait_live(2)
    answer = released.ask()
    assert answer.model == NAME
    assert near(released.said(), expected[2])
    assert released.ask(f"{NAME}@2").model == f"{NAME}@2"
    line = released.server.line(f"{NAME}: version 2: parity: 16 conversations, 1 models", 5)
    assert "ids equal" in line
    released.releases.rollback(NAME)
    released.wait_live(1)
    assert near(released.said(), expected[1])
    assert released.server.folder() == pid


def test_a_trial_is_shown_and_both_versions_answer_by_their_own_names(
    released: Released, expected: dict[int, list[float]]
) -> None:
    released.releases.promote(NAME, 3, 10)
    deadline = time.monotonic() + 30
    while (card := released.client.models.retrieve(NAME).metadata["release"])["canary"] is None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert card == {"number": 1, "canary": {"number": 3, "percent": 10}}
    assert near(released.said(f"{NAME}@1"), expected[1])
    assert near(released.said(f"{NAME}@3"), expected[3])
    # The caller is this address: always the same one of the two.
    given = {near(released.said(), expected[3]) for _ in range(5)}
    assert len(given) == 1
    released.releases.rollback(NAME)
    deadline = time.monotonic() + 30
    while released.client.models.retrieve(NAME).metadata["release"]["canary"] is not None:  # type: ignore[attr-defined]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(openai.NotFoundError):
        released.ask(f"{NAME}@3")


def test_a_version_that_says_something_else_than_its_golden_answers_is_not_served(
    released: Released, expected: dict[int, list[float]]
) -> None:
    released.releases.promote(NAME, 4)
    line = released.server.line(f"{NAME}: version 4 is refused, and version 1 is served", 60)
    assert f"parity: {NAME}" in line
    assert released.live() == 1
    assert near(released.said(), expected[1])
    ends = time.monotonic() + 10
    while 4 not in released.releases.refused(NAME) and time.monotonic() < ends:
        time.sleep(0.1)
    last = released.releases.log()[-1]
    assert (last["what"], last["from"], last["to"]) == ("refused", 4, 1)
    released.releases.rollback(NAME)


def test_the_same_weights_with_another_system_text_are_a_version_of_their_own(
    released: Released, expected: dict[int, list[float]]
) -> None:
    opened = released.said(system=SYSTEM)
    assert not near(opened, expected[1])
    released.releases.promote(NAME, 5)
    released.wait_live(5)
    line = released.server.line(f"{NAME}: version 5: parity: 16 conversations, 1 models", 5)
    assert "ids equal" in line
    assert near(released.said(), opened)
    released.releases.rollback(NAME)
    released.wait_live(1)
    assert near(released.said(), expected[1])


def test_a_hundred_changes_under_load_lose_nothing_and_mix_nothing(
    released: Released, expected: dict[int, list[float]], offline: Callable[[str, str, int], Any]
) -> None:
    """Streams of all names: each is whole, and all of it of one version (vllm #47724, #48421)."""
    own = {name: offline(name, PROMPT, TOKENS).logprobs for name in ("demo-l0", "demo-l1")}
    stop = threading.Event()
    seen: Counter[str] = Counter()
    wrong: list[str] = []

    def load(name: str) -> None:
        while not stop.is_set():
            try:
                said, ended = [], None
                with released.client.chat.completions.create(
                    model=name, messages=[{"role": "user", "content": PROMPT}], logprobs=True,
                    max_tokens=TOKENS, temperature=0, stream=True,
                ) as stream:  # fmt: skip
                    for chunk in stream:
                        for choice in chunk.choices:
                            ended = choice.finish_reason or ended
                            if choice.logprobs is not None and choice.logprobs.content:
                                said += [token.logprob for token in choice.logprobs.content]
            except openai.OpenAIError as error:
                wrong.append(f"{name}: {error!r}")
                continue
            of = (
                {1: expected[1], 2: expected[2], 3: expected[3]} if name == NAME else {0: own[name]}
            )
            which = [number for number, values in of.items() if near(said, values)]
            if ended is None or not said or not which:
                wrong.append(f"{name}: {ended} {said}")
            else:
                seen[f"{name}@{which[0]}"] += 1

    threads = [threading.Thread(target=load, args=(n,)) for n in ("demo-l0", "demo-l1", NAME, NAME)]
    for thread in threads:
        thread.start()
    try:
        for change in range(50):
            released.releases.promote(NAME, 2 + change % 2)
            time.sleep(0.25)
            released.releases.rollback(NAME)
            time.sleep(0.25)
        released.releases.promote(NAME, 3)
        released.wait_live(3)
        time.sleep(2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not wrong, wrong[:3]
    assert seen["demo-l0@0"] > 10
    assert seen["demo-l1@0"] > 10
    assert {f"{NAME}@{number}" for number in (1, 2, 3)} <= seen.keys(), seen
    assert len([line for line in released.releases.log() if line["what"] == "rolled back"]) >= 50
    assert released.live() == 3


def test_an_engine_that_fell_comes_back_with_the_promoted_version(
    released: Released,
    expected: dict[int, list[float]],
    offline: Callable[[str, str, int], Any],
    descendants: Callable[[int], set[tuple[int, str]]],
) -> None:
    released.releases.promote(NAME, 2)
    released.wait_live(2)
    for pid, _ in descendants(released.server.process.pid):
        if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    released.server.line("engine vllm: is back", 180)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert near(released.said(), expected[2])
            break
        except openai.APIStatusError:
            # Its health is looked at once a second.
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert near(released.said("demo-l1"), offline("demo-l1", PROMPT, TOKENS).logprobs)
