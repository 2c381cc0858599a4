"""One side of one case of the GPU benchmark, in a process of its own.

python -m benchmarks.train_gpu_side CASE.json own|peer [uncompiled] -> one JSON line.
"""

from __future__ import annotations

import inspect
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.train_gpu_case import GpuCase, read_case, synchronise


class EnoughError(Exception):
    """All updates are timed; the result is of no use."""


class Clock:
    """Times updates once the warm-up is over."""

    def __init__(self, case: GpuCase) -> None:
        self._case, self._done = case, 0
        self._began = self.seconds = 0.0

    def updated(self) -> None:
        """One update is done.

        Raises:
            EnoughError: it was the last that is timed.
        """
        self._done += 1
        if self._done == self._case.warm:
            synchronise(self._case.device)
            if self._case.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            self._began = time.perf_counter()
        if self._done == self._case.warm + self._case.updates:
            synchronise(self._case.device)
            self.seconds = time.perf_counter() - self._began
            raise EnoughError


def main() -> None:
    """Trains one side and prints its figures."""
    case, side = read_case(sys.argv[1]), sys.argv[2]
    if "uncompiled" in sys.argv:
        case = replace(case, compiled=False)
    clock = Clock(case)
    if case.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    note = _own(case, clock) if side == "own" else _peer(case, clock)
    peak = (
        torch.cuda.max_memory_allocated()
        if case.device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    told = {
        "tokens_per_s": case.tokens_per_update * case.updates / clock.seconds,
        "flops_per_token": case.flops_per_token,
        "peak_bytes": peak,
        "note": note,
    }
    print(json.dumps(told))


def _own(case: GpuCase, clock: Clock) -> str:
    """The product's loop; what it chose."""
    from pipeline.train_plan import train_options
    from pipeline.training.loop import Training
    from pipeline.training.trainee import TrainJob

    section = case.section()
    out, work = Path(case.folder) / "out", Path(case.folder) / "work"
    for folder in (out, work):
        folder.mkdir(exist_ok=True)
    options = {**train_options(section), "launch": section.launch.model_dump()}
    job = TrainJob(
        str(case.root), None, str(case.data), str(out), str(work), case.settings(), options
    )

    def progress(event: Mapping[str, Any]) -> None:
        if "loss" in event:
            clock.updated()
        elif "message" in event:
            print(event["message"], file=sys.stderr)

    _shares_heads()
    with _weights_in_memory(case):
        training = Training(job, progress)
    with suppress(EnoughError):
        training.run()
    body = training.trainee.body
    model = body.get_base_model() if hasattr(body, "get_base_model") else body
    budget = section.activation_memory_budget
    compiled = f"layers compiled, budget {budget}" if case.compiled else "not compiled"
    kernel, apart = model.config._attn_implementation, kernel_difference(case.device)
    return f"{kernel} ({apart:.1e} off), {compiled}, packing {training.packing}"


def _shares_heads() -> None:
    """PyTorch before 2.13 has no word for shared heads; its kernel shares them unasked."""
    from torch.nn.attention import varlen

    kernel: Any = varlen.varlen_attn
    if "enable_gqa" in inspect.signature(kernel).parameters:
        return

    def attend(*tensors: Any, enable_gqa: bool = False, **settings: Any) -> Any:
        return kernel(*tensors, **settings)

    varlen.varlen_attn = attend  # type: ignore[assignment]


def kernel_difference(device: str) -> float:
    """How far the card's attention over segments is from each segment attended to alone.

    Of states and gradients in bf16, the largest difference as a share of the largest value.
    """
    from pipeline.modeling import segment_attention

    generator = torch.Generator(device).manual_seed(0)
    cut = torch.tensor([0, 90, 130, 200], dtype=torch.int32, device=device)

    def made() -> list[torch.Tensor]:
        shapes = ((1, 4, 200, 64), (1, 2, 200, 64), (1, 2, 200, 64))
        found = [torch.randn(s, generator=generator, device=device) for s in shapes]
        return [t.to(torch.bfloat16).requires_grad_() for t in found]

    generator.manual_seed(0)
    ours = made()
    states, _ = segment_attention.attend(torch.nn.Module(), *ours, None, segment_bounds=cut)
    generator.manual_seed(0)
    plain = made()
    wanted = segment_attention._one_by_one(*plain, cut, None, None)
    slope = torch.randn(states.shape, generator=generator, device=device, dtype=torch.bfloat16)
    states.backward(slope)
    wanted.backward(slope)
    pairs = [
        (states.detach(), wanted.detach()),
        *((a.grad, b.grad) for a, b in zip(ours, plain, strict=True)),
    ]
    shares = [(a - b).abs().max() / b.abs().max() for a, b in pairs]
    return float(torch.stack(shares).max())


@contextmanager
def _weights_in_memory(case: GpuCase) -> Iterator[None]:
    """Where the product reads weights from disk, random ones of that shape are made."""
    from pipeline.training import trainee

    reads = trainee.load_model

    def made(
        _folder: Path,
        *,
        bf16_weights: bool = False,
        quantisation: str | None = None,
        attention: str = "sdpa",
        **_settings: Any,
    ) -> Any:
        dtype = torch.bfloat16 if bf16_weights else torch.float32
        model = random_model(case, dtype, attention)
        if quantisation == "nf4":
            quantise(model, case.device)
        model.gradus_untrained, model.gradus_own_code = [], False
        return model

    trainee.load_model = made  # type: ignore[assignment]
    try:
        yield
    finally:
        trainee.load_model = reads


def random_model(case: GpuCase, dtype: torch.dtype, attention: str) -> Any:
    """A model of the case's shape, made on its device."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {name: value for name, value in case.config.items() if name != "model_type"}
    config = AutoConfig.for_model(case.config["model_type"], **settings)
    torch.manual_seed(0)
    with torch.device(case.device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def quantise(model: Any, device: str) -> None:
    """NF4 with double quantisation in place of every linear layer but the vocabulary's."""
    import bitsandbytes

    head = model.get_output_embeddings()
    compute = torch.bfloat16
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is not torch.nn.Linear or layer is head:
                continue
            made = bitsandbytes.nn.Linear4bit(
                layer.in_features, layer.out_features, bias=False, compute_dtype=compute,
                compress_statistics=True, quant_type="nf4", device="meta",
            )  # fmt: skip
            made.weight = bitsandbytes.nn.Params4bit(
                layer.weight.data, requires_grad=False, compress_statistics=True,
                quant_type="nf4", module=made,
            ).to(device)  # fmt: skip
            setattr(parent, name, made)
            del layer
    # PEFT asks for it.
    model.is_loaded_in_4bit = True


def _peer(case: GpuCase, clock: Clock) -> str:
    """transformers' Trainer with PEFT as their guides have it: bf16, fused AdamW."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Callback(TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            clock.updated()

    cuda = case.device == "cuda"
    trainer = Trainer(
        model=_peer_model(case),
        args=TrainingArguments(
            output_dir=str(Path(case.folder) / "peer"),
            per_device_train_batch_size=case.micro,
            gradient_accumulation_steps=case.blocks // case.micro,
            max_steps=case.updates + case.warm + 1,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            bf16=True,
            use_cpu=not cuda,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=cuda,
        ),
        train_dataset=_peer_rows(case),
        callbacks=[Callback()],
    )
    with suppress(EnoughError):
        trainer.train()
    return f"{trainer.model.config._attn_implementation}, {case.micro} at once"


def _peer_model(case: GpuCase) -> Any:
    dtype = torch.float32 if case.method == "full" else torch.bfloat16
    model = random_model(case, dtype, "sdpa")
    model.config.use_cache = False
    if case.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    if case.method == "qlora":
        quantise(model, case.device)
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))


def _peer_rows(case: GpuCase) -> list[dict[str, list[int]]]:
    from pipeline.data.arrow import Split

    rows = []
    for block in Split(case.data / "train.arrow"):
        lack = case.length - len(block["input_ids"])
        pairs = zip(block["input_ids"], block["supervised"], strict=True)
        rows.append(
            {
                "input_ids": [*block["input_ids"], *[0] * lack],
                "labels": [*(i if s else -100 for i, s in pairs), *[-100] * lack],
            }
        )
    return rows


if __name__ == "__main__":
    main()
