"""The serving benchmark measures what it says, on tiny settings and without LiteLLM."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stub_engine import Stub
from stub_gateway import serving_stub

from benchmarks import gateway_family, gateway_stub, gateway_vllm
from benchmarks.gateway import PARTS, TARGETS
from benchmarks.gateway_client import Broken, drive, fetch, request_bytes, stream_of, words_in
from benchmarks.gateway_model import bundle_of, write_adapter, write_base
from benchmarks.gateway_sides import MODEL, chat_body, pinned, pss_bytes
from benchmarks.gateway_stub import Measured
from benchmarks.peer import ROOT

TINY: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 600, "tie_word_embeddings": True,
}  # fmt: skip


def test_stub_part_gives_every_quotient_that_needs_no_litellm(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It fails by itself where an answer is not whole, or our usage and log lack a request."""
    found = gateway_stub.measure(1, 0.3, ("bare",))
    assert set(found) == {"rps_vs_direct", "chunks_vs_direct", "added_p50_vs_bare"}
    assert found["rps_vs_direct"] > 0
    assert found["chunks_vs_direct"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["direct", "ours", "bare"]


def test_quotients_are_medians_of_turns_against_the_same_turn() -> None:
    found = {
        "direct": Measured([1.0, 2.0, 3.0], [100.0, 80.0, 60.0], [50.0, 50.0, 50.0]),
        "ours": Measured([2.0, 3.0, 4.0], [50.0, 40.0, 60.0], [25.0, 20.0, 30.0], pss_bytes=7.0),
        "bare": Measured([1.5, 2.5, 3.5], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], pss_bytes=5.0),
        "litellm": Measured([11.0, 12.0, 13.0], [5.0, 2.0, 2.0], [1.0] * 3, pss_bytes=28.0),
    }
    assert gateway_stub._quotients(found) == {
        "rps_vs_direct": 0.5, "chunks_vs_direct": 0.5, "added_p50_vs_bare": 2.0,
        "added_p50_vs_litellm": 0.1, "rps_vs_litellm": 20.0, "memory_vs_litellm": 0.25,
    }  # fmt: skip


def test_every_figure_of_a_part_has_a_target_and_none_stands_twice() -> None:
    figures = [figure for part in PARTS.values() for figure in part.FIGURES]
    assert sorted(figures) == sorted(TARGETS)


def asked(stub: Stub, body: dict[str, Any]) -> bytes:
    with serving_stub(stub) as port:
        return asyncio.run(fetch(port, request_bytes(port, body, "key")))


def test_client_counts_every_word_of_a_stream() -> None:
    events = stream_of(asked(Stub(tokens=50), chat_body(50, stream=True)))
    assert words_in(events) == 50
    # Oracle: the events read one by one as JSON.
    told = [json.loads(e[6:]) for e in events.decode().split("\n\n") if e.startswith("data: {")]
    assert len(told) == 50
    assert all(each["choices"][0]["delta"]["content"] for each in told)


def test_client_takes_nothing_but_whole_answers() -> None:
    with pytest.raises(Broken, match="answered 404"):
        asked(Stub(), {**chat_body(1, stream=False), "model": "unknown"})
    with pytest.raises(Broken, match="in the middle"):
        asked(Stub(die_after=3), chat_body(8, stream=True))


def test_load_counts_answers_that_end_in_time_and_the_words_of_streams() -> None:
    stub = Stub(tokens=4, delay_s=0.05)
    with serving_stub(stub) as port:
        whole = request_bytes(port, chat_body(4, stream=False), "key")
        load = asyncio.run(drive(port, whole, connections=3, seconds=0.5))
        streamed = request_bytes(port, chat_body(4, stream=True), "key")
        streams = asyncio.run(drive(port, streamed, connections=2, seconds=0.3))
    # Three at once, each 50 ms and more; those that ended too late are the stub's, not the load's.
    assert 3 <= len(load.latencies_s) <= 3 * 0.5 / 0.05
    assert min(load.latencies_s) >= 0.05
    assert len(stub.seen) >= len(load.latencies_s) + 3
    assert load.words == 0
    assert streams.words >= 4 * len(streams.latencies_s)


def test_pinning_is_undone_and_memory_is_read() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    assert 1e6 < pss_bytes(os.getpid()) < 1e11


def test_missing_engine_is_one_line_and_its_figures_are_null(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gateway", "--json", "--parts", "vllm", "family"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "GRADUS_ENGINE_HOME": str(tmp_path / "none")},
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2, done.stderr
    assert all("gradus engine install" in line for line in lines)
    figures = [*gateway_vllm.FIGURES, *gateway_family.FIGURES]
    assert json.loads(done.stdout.splitlines()[-1]) == dict.fromkeys(figures)


def test_random_family_is_what_transformers_and_peft_read(tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_base(tmp_path / "base", TINY, 128)
    write_adapter(tmp_path / "demo-l1", TINY, 128, 8)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert base.dtype == torch.bfloat16
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    ids = torch.tensor([tokenizer.encode("bada fegi")])
    with torch.inference_mode():
        plain = base(ids).logits.clone()
        adapted = PeftModel.from_pretrained(base, str(tmp_path / "demo-l1"))(ids).logits
    assert int(plain.argmax(-1).max()) < len(tokenizer)
    assert not torch.equal(plain, adapted)
    bundle = bundle_of(tmp_path / "base", {"demo-l1": 8}, tmp_path, 128)
    assert [(model.name, model.level) for model in bundle.models] == [
        (MODEL, "L0"), ("demo-l1", "L1")
    ]  # fmt: skip


@pytest.mark.engine
@pytest.mark.long
def test_vllm_part_runs_whole_on_a_tiny_shape() -> None:
    size = gateway_vllm.Size(TINY, {1: 2, 4: 4}, 32, 8, 128)
    found = gateway_vllm.measure(1, size)
    assert set(found) == set(gateway_vllm.FIGURES)
    assert all(0.2 < value < 5 for value in found.values()), found


@pytest.mark.engine
@pytest.mark.long
def test_family_part_runs_whole_on_a_tiny_shape() -> None:
    found = gateway_family.measure(1, gateway_family.Size(TINY, 6, 16, 8, 3, 128))
    assert set(found) == set(gateway_family.FIGURES)
    # The engines' own code is most of it here; the adapters hardly show.
    assert 0.95 < found["family_memory_ratio"] < 1.3, found
    assert found["family_throughput_ratio"] > 0
