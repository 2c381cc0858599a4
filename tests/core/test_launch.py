"""What is refused of an accelerate configuration before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.core.errors import RecipeError
from pipeline.core.launch import LaunchSettings, launch_settings

FSDP = {"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2}}
DEEPSPEED = {"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 3}}
NONSENSE: dict[str, tuple[dict[str, Any], str]] = {
    "word for a number of machines": ({"num_machines": "two"}, "num_machines: .*'two'"),
    "more machines than processes": ({"num_machines": 5}, "cannot share 4 processes evenly"),
    "machines that do not divide": ({"num_machines": 3}, "cannot share 4 processes evenly"),
    "negative machines": ({"num_machines": -1}, "num_machines: .*-1"),
    "word for a rank": ({"machine_rank": "x"}, "machine_rank: .*'x'"),
    "rank outside": ({"num_machines": 2, "machine_rank": 2}, "machine_rank 2 of 2 machines"),
    "negative rank": ({"num_machines": 2, "machine_rank": -1}, "machine_rank: .*-1"),
    "word for a port": ({"main_process_port": "a"}, "main_process_port: "),
    "list for a mapping": ({**FSDP, "fsdp_config": [1]}, "fsdp_config: .*dictionary"),
    "word for a version": ({**FSDP, "fsdp_config": {"fsdp_version": "abc"}}, "_version: .*abc"),
    "FSDP1": ({**FSDP, "fsdp_config": {}}, "fsdp_version 1; .* set fsdp_version: 2"),
    "word for resharding": (
        {**FSDP, "fsdp_config": {"fsdp_version": 2, "fsdp_reshard_after_forward": "FULL_SHARD"}},
        "fsdp_reshard_after_forward: .*FULL_SHARD",
    ),
    "word for a mapping": ({**DEEPSPEED, "deepspeed_config": "abc"}, "deepspeed_config: "),
    "word for a stage": ({**DEEPSPEED, "deepspeed_config": {"zero_stage": "x"}}, "zero_stage: .*x"),
    "stage 1": ({**DEEPSPEED, "deepspeed_config": {"zero_stage": 1}}, "zero_stage: .*2 or 3"),
    "kind that is not offered": ({"distributed_type": "MEGATRON_LM"}, "MEGATRON_LM is not offered"),
}  # fmt: skip
UNREAD: dict[str, tuple[dict[str, Any], str]] = {
    "precision": ({"mixed_precision": "bf16"}, r"train\.precision"),
    "offloading": (
        {**FSDP, "fsdp_config": {"fsdp_version": 2, "fsdp_offload_params": True}},
        r"train\.micro_batch_size",
    ),
    "checkpointing": (
        {**FSDP, "fsdp_config": {"fsdp_version": 2, "fsdp_activation_checkpointing": True}},
        r"train\.gradient_checkpointing: true",
    ),
}  # fmt: skip


def read(folder: Path, tree: Any, processes: int = 4) -> LaunchSettings:
    file = folder / "launch.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return launch_settings({"num_processes": processes, "config": str(file)})


@pytest.mark.parametrize("name", NONSENSE | UNREAD)
def test_nonsense_and_what_nothing_reads_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    tree, words = (NONSENSE | UNREAD)[name]
    with pytest.raises(RecipeError, match=words) as caught:
        read(tmp_path, tree)
    assert str(caught.value).startswith("train.launch.config: ")
    assert "\n" not in str(caught.value)


def test_words_that_yaml_reads_as_something_else_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "launch.yaml"
    file.write_text(
        "distributed_type: NO\nmixed_precision: no\nfsdp_config: {}\nmain_process_ip:\n"
    )
    found = launch_settings({"num_processes": 1, "config": str(file)})
    assert (found.wrapper, found.machines) == ("single", 1)


def test_text_of_a_number_or_a_switch_counts_as_what_it_says(tmp_path: Path) -> None:
    tree = {"fsdp_version": "2", "fsdp_reshard_after_forward": "false"}
    found = read(tmp_path, {**FSDP, "num_machines": "2", "fsdp_config": tree})
    assert (found.machines, found.reshard_after_forward) == (2, False)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])
def test_the_files_of_the_repository_are_taken(name: str) -> None:
    file = Path(__file__).parents[2] / "recipes/accelerate" / f"{name}.yaml"
    assert launch_settings({"num_processes": 8, "config": str(file)}).wrapper == name
