"""A recipe's `serve`: what may be said, what is made of it, and who reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_ins import artifact, serve
from tiny_family import Family

from pipeline.core.engine_limits import REASONING_PARSERS, TOOL_PARSERS
from pipeline.core.errors import ModelError, UserError
from pipeline.core.generation_config import sampling_of, sampling_over
from pipeline.core.schema_serve import EngineArguments, Sampling
from serve.attached import AttachedEngine
from serve.bundle import Bundle, read_bundle
from serve.engine_install import EngineHome, find_home
from serve.gateway.bodies import check_body
from serve.gateway.defaults import Defaults
from serve.gateway.directory import Route, chat_route
from serve.gateway.forward import rebuilt
from serve.gateway.upstreams import UpstreamGroup
from serve.made_of import lineage_of
from serve.serving_words import serving_words
from serve.transformers_engine import TransformersEngine
from serve.vllm_engine import command_line

CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
SAID = {"messages": [{"role": "user", "content": "hi"}]}
SAMPLING = {
    "temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05, "max_tokens": 50,
    "repetition_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": 0.25,
}  # fmt: skip
ARGUMENTS = {
    "tool_call_parser": "hermes", "reasoning_parser": "qwen3", "max_num_seqs": 8,
    "max_num_batched_tokens": 512, "gpu_memory_utilization": 0.5, "tensor_parallel_size": 2,
    "kv_cache_dtype": "fp8", "enable_prefix_caching": False,
}  # fmt: skip
# vLLM's own parser and its own checks, and the names that it has registered.
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
names = json.loads(sys.argv[1])
args = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[2:])
validate_parsed_serve_args(args)
print("TOLD" + json.dumps({
    "arguments": {name: getattr(args, name) for name in names},
    "tools": sorted(ToolParserManager.list_registered()),
    "reasoning": sorted(ReasoningParserManager.list_registered()),
}))
"""
HOME = EngineHome(Path("/home/engine"), "cuda", "0.32.0", current=True)


@pytest.fixture
def bundled(family: Family, tmp_path: Path) -> Callable[..., Bundle]:
    """The family's bundle with other words in bundle.json."""

    def make(**words: Any) -> Bundle:
        root = tmp_path / "bundle"
        shutil.copytree(family.bundle, root)
        place = root / "bundle.json"
        place.write_text(json.dumps({**json.loads(place.read_text()), **words}))
        return read_bundle(root)

    return make


def route(bundle: Bundle) -> Route:
    names = {model.name: model.name for model in bundle.models}
    engine = AttachedEngine("http://127.0.0.1:9", names)
    return chat_route(bundle, bundle.models[-1], engine, UpstreamGroup([]), "demo-l2")


def sent(bundle: Bundle, path: str, **body: Any) -> dict[str, Any]:
    """What the engine is asked where a client says ``body``."""
    given = {"model": "demo-l2", **body}
    made: dict[str, Any] = json.loads(rebuilt(path, check_body(path, given), route(bundle)))
    return made


def test_defaults_stand_where_the_client_says_nothing(bundled: Callable[..., Bundle]) -> None:
    bundle = bundled(sampling=SAMPLING, stop=["END"])
    made = sent(bundle, CHAT, **SAID)
    assert made.items() >= {**SAMPLING, "stop": ["END"], "stop_token_ids": [2]}.items()
    made = sent(bundle, TEXT, prompt="hi")
    assert made.items() >= {**SAMPLING, "stop": ["END"], "stop_token_ids": [2]}.items()
    made = sent(bundle, RESPONSES, input="hi")
    rest = {key: value for key, value in SAMPLING.items() if key != "max_tokens"}
    assert made.items() >= {**rest, "max_output_tokens": 50, "stop_token_ids": [2]}.items()
    assert "max_tokens" not in made


def test_what_the_client_says_stays(bundled: Callable[..., Bundle]) -> None:
    bundle = bundled(sampling=SAMPLING, stop=["END"])
    own = {"temperature": 0, "top_k": -1, "presence_penalty": 0, "max_tokens": 7}
    made = sent(bundle, CHAT, **SAID, **own, stop="mine")
    assert made.items() >= own.items()
    assert made["top_p"] == 0.95
    assert made["stop"] == ["mine", "END"]
    made = sent(bundle, CHAT, **SAID, max_completion_tokens=9)
    assert made["max_completion_tokens"] == 9
    assert "max_tokens" not in made
    assert sent(bundle, RESPONSES, input="hi", max_output_tokens=3)["max_output_tokens"] == 3


def test_an_answer_of_a_fixed_length_is_not_ended_by_an_id(bundled: Callable[..., Bundle]) -> None:
    bundle = bundled()
    assert sent(bundle, CHAT, **SAID)["stop_token_ids"] == [2]
    assert "stop_token_ids" not in sent(bundle, CHAT, **SAID, ignore_eos=True)


def test_a_bundle_that_says_nothing_adds_nothing(bundled: Callable[..., Bundle]) -> None:
    bundle = bundled(stop_token_ids=[], sampling={})
    assert Defaults.of(bundle).empty
    body = {"model": "demo-l2", **SAID}
    assert Defaults.of(bundle).added(CHAT, body) is body
    embedding = {"model": "demo-l2", "input": "x"}
    assert Defaults({"temperature": 1}).added("/v1/embeddings", embedding) is embedding


@pytest.mark.parametrize("name", Sampling.model_fields)
def test_what_a_recipe_may_say_of_sampling_a_client_may_say_too(name: str) -> None:
    from serve.gateway.bodies import ChatRequest

    def bounds(model: Any) -> Any:
        tree = model.model_json_schema()["properties"][name]["anyOf"][0]
        return {key: value for key, value in tree.items() if key != "description"}

    assert bounds(Sampling) == bounds(ChatRequest)


def test_the_bases_generation_config_is_what_transformers_reads_of_it(tmp_path: Path) -> None:
    """The oracle is vLLM's own way: transformers' reader, and the keys that vLLM takes."""
    from transformers import GenerationConfig

    told = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.05,
            "max_new_tokens": 99, "do_sample": True, "eos_token_id": [2, 5]}  # fmt: skip
    GenerationConfig(**told).save_pretrained(str(tmp_path))  # type: ignore[no-untyped-call]
    read = GenerationConfig.from_pretrained(str(tmp_path)).to_diff_dict()
    taken = ("repetition_penalty", "temperature", "top_k", "top_p", "min_p", "max_new_tokens")
    expected = {key: read[key] for key in taken if read.get(key) is not None}
    expected["max_tokens"] = expected.pop("max_new_tokens")
    assert sampling_of(tmp_path).stated() == expected
    own = Sampling(temperature=0, min_p=0.1)
    over = {**expected, "temperature": 0.0, "min_p": 0.1}
    assert sampling_over(tmp_path, own).stated() == over


@pytest.mark.parametrize("text", ["{", "[]", '{"temperature": 9}', '{"top_k": "many"}'])
def test_a_generation_config_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        sampling_of(tmp_path)


def test_a_bundle_of_an_older_version_has_the_bases_own_sampling(
    family: Family, bundled: Callable[..., Bundle], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    shutil.copytree(family.base, base)
    (base / "generation_config.json").write_text('{"temperature": 0.7, "eos_token_id": 2}')
    about = {"path": str(base), "name": "demo-l0", "level": "L0", "digest": "c0ffee11"}
    assert bundled(base=about).sampling == Sampling(temperature=0.7)


def test_the_length_is_the_bases_room_where_the_recipe_says_none(tmp_path: Path) -> None:
    config = serve()["serve"]
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 300}')
    assert serving_words(config, tmp_path)["max_model_len"] == 300
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 40960}')
    assert serving_words(config, tmp_path)["max_model_len"] == 1024
    with pytest.raises(ModelError, match=r"serve\.max_model_len: 40961"):
        serving_words({**config, "max_model_len": 40961}, tmp_path)


def words(line: list[str]) -> str:
    return " ".join(line)


def test_sampling_has_one_source_and_the_engine_none(bundled: Callable[..., Bundle]) -> None:
    line = words(command_line(bundled(sampling=SAMPLING), HOME, {}, 9))
    assert "--generation-config vllm" in line
    assert "temperature" not in line


def test_engine_arguments_are_vllms_options(bundled: Callable[..., Bundle]) -> None:
    bundle = bundled(engine=ARGUMENTS)
    line = words(command_line(bundle, HOME, {}, 9))
    for option in (
        "--tool-call-parser hermes", "--enable-auto-tool-choice", "--reasoning-parser qwen3",
        "--max-num-seqs 8", "--max-num-batched-tokens 512", "--gpu-memory-utilization 0.5",
        "--tensor-parallel-size 2", "--kv-cache-dtype fp8", "--no-enable-prefix-caching",
    ):  # fmt: skip
        assert option in line
    reads = words(command_line(bundle, HOME, {}, 9, "mean"))
    assert "--gpu-memory-utilization 0.5" in reads
    for option in ("parser", "--enable-auto", "kv-cache", "prefix-caching"):
        assert option not in reads
    assert "tool" not in words(command_line(bundled_without(bundle), HOME, {}, 9))


def bundled_without(bundle: Bundle) -> Bundle:
    from dataclasses import replace

    return replace(bundle, engine=EngineArguments())


@pytest.mark.engine
def test_vllm_reads_these_options_and_knows_these_parsers(
    bundled: Callable[..., Bundle],
) -> None:
    """vLLM's own parser and checks take the command line; nothing is started."""
    home = find_home()
    if home is None:
        pytest.skip("vLLM is not installed: `gradus engine install`")
    line = command_line(bundled(engine=ARGUMENTS), home, {}, 9)
    names = [*ARGUMENTS, "enable_auto_tool_choice", "generation_config"]
    found = subprocess.run(
        [str(home.python), "-c", PARSE, json.dumps(names), *line[line.index("serve") + 1 :]],
        capture_output=True, text=True, check=False, env={**os.environ, "VLLM_PLUGINS": ""},
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    told = json.loads(found.stdout.rpartition("TOLD")[2])
    assert told["tools"] == sorted(TOOL_PARSERS)
    assert told["reasoning"] == sorted(REASONING_PARSERS)
    assert told["arguments"] == {
        **ARGUMENTS, "enable_auto_tool_choice": True, "generation_config": "vllm",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("serve.sampling.temperature=3", "less than or equal to 2"),
        ("serve.sampling.top_q=1", "top_q"),
        ("serve.engine.tool_call_parser=nobody", "has no such tool call parser"),
        ("serve.engine.reasoning_parser=nobody", "has no such reasoning parser"),
        ("serve.engine.gpu_memory_utilization=1.5", "less than or equal to 1"),
        ("serve.engine.kv_cache_dtype=fp3", "kv_cache_dtype"),
        ("serve.engine.trust_remote_code=true", "trust_remote_code"),
        ("serve.engine={max_num_seqs: 9, max_num_batched_tokens: 8}", "fewer than max_num_seqs"),
        ("serve.sampling.max_tokens=128", "leave a prompt no room"),
        ("serve.stop_token_ids=[-1]", "stop_token_ids"),
        ("serve.stop=['']", "stop"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(
    refusal: Callable[..., str], ladder: Path, override: str, why: str
) -> None:
    told = refusal("plan", ladder, "--no-price", "--set", override)
    assert why in told
    assert "serve" in told


def test_the_transformers_engine_refuses_a_default_that_it_cannot_do(
    bundled: Callable[..., Bundle],
) -> None:
    with pytest.raises(UserError, match=r"sampling\.presence_penalty is 0\.5"):
        TransformersEngine(bundled(sampling=SAMPLING))


def test_lineage_holds_each_artifact_once_after_what_went_into_it(tmp_path: Path) -> None:
    from dataclasses import replace

    def put(name: str, *inputs: str) -> Any:
        made = artifact(tmp_path / name, f"digest of {name}")
        refs = {each: {"key": each, "digest": f"digest of {each}"} for each in inputs}
        return replace(made, manifest=replace(made.manifest, key=name, inputs=refs, stage=name))

    from pipeline.core.artifact import write_manifest

    for made in (put("base"), put("data"), put("trained", "base", "data", "gone")):
        made.path.mkdir()
        write_manifest(made.path, made.manifest)
    told = lineage_of({"root": put("base"), "adapter.x": put("export", "trained", "base")}, {})
    order = [stage["key"] for stage in told["stages"]]
    assert sorted(order) == ["base", "data", "export", "gone", "trained"]
    places = {key: place for place, key in enumerate(order)}
    for stage in told["stages"]:
        assert all(places[key] < places[stage["key"]] for key in stage["inputs"].values())
    gone = told["stages"][places["gone"]]
    assert (gone["digest"], gone["stage"]) == ("digest of gone", "")
    assert told["recipe"] != lineage_of({"root": put("base")}, {})["recipe"]
