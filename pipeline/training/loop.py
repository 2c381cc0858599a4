"""The training loop: the same updates whatever the number of processes and micro-batches
(with dropout the draws differ between layouts, not between runs of one layout).

Everything random is a function of (seed, step): the order of rows, dropout, masks. So a
checkpoint holds weights and optimiser only, and a resumed run makes the same bytes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import TrainingError
from pipeline.data.arrow import Split
from pipeline.modeling.packing_probe import ProbeResult, probe
from pipeline.training.batches import BatchOrder, shares, steps_in_all
from pipeline.training.checkpoint import Checkpoint, load_newest, save_checkpoint
from pipeline.training.objectives import LabelModel
from pipeline.training.packed import is_packed, rows_for
from pipeline.training.targets import batch_of, target_count
from pipeline.training.trainee import TrainJob, build, write_result

Progress = Callable[[Mapping[str, Any]], None]
TOKENS_AT_ONCE = 16_384
VALIDATION_ROWS = 64
SHORT_ROWS = 64
_PLAIN = {"NO", "MULTI_CPU", "MULTI_GPU"}


def learning_rate_factor(step: int, total: int, kind: str, warmup_ratio: float) -> float:
    """Share of the peak learning rate at update ``step`` (from 0): warm-up, then the decay."""
    warmup = math.ceil(warmup_ratio * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant":
        return 1.0
    done = (step - warmup) / max(1, total - warmup)
    return 1.0 - done if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _attention(lengths: NDArray[np.int64]) -> str:
    """Short padded rows on a CPU: plain attention was 1.4 times as fast as the fused kernel."""
    short = len(lengths) > 0 and lengths.mean() <= SHORT_ROWS
    return "eager" if short and not torch.cuda.is_available() else "sdpa"


@dataclass
class _State:
    """What changes while training."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: tuple[float, int] | None = None
    best_tensors: dict[str, torch.Tensor] = field(default_factory=dict)


class Training:
    """One training from build to result."""

    def __init__(self, job: TrainJob, progress: Progress) -> None:
        from accelerate import Accelerator

        self.job, self.config, self.progress = job, job.config, progress
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.world = self.accelerator.num_processes
        self._require_world()
        if self.accelerator.distributed_type.value not in {*_PLAIN, "FSDP"}:
            raise TrainingError(
                f"train.launch.config: {self.accelerator.distributed_type.value} is not supported "
                "by this loop yet; use recipes/accelerate/ddp.yaml or fsdp.yaml"
            )
        splits = (Split(Path(job.data) / "train.arrow"), Split(Path(job.data) / "validation.arrow"))
        self.trainee = build(job, _attention(splits[0].lengths()))
        (self.rows, self.validation), self.packing = rows_for(splits, self._probed(splits))
        batch = self.config["global_batch_size"]
        self.order = BatchOrder(self.rows.lengths(), batch, self.config["seed"])
        self.total = steps_in_all(
            len(self.rows),
            batch,
            self.config.get("num_train_epochs", 1.0),
            self.config["max_steps"],
        )
        self.state = _State()
        self.names = list(self.trainee.trainable())
        optimizer = self._optimizer()
        module, self.optimizer = self.accelerator.prepare(self.trainee.module, optimizer)
        self.module = module
        self.device = self.accelerator.device

    def _require_world(self) -> None:
        wanted = self.job.options["launch"]["num_processes"]
        if self.world != wanted:
            raise TrainingError(
                f"train.launch.num_processes: {wanted} asked for, {self.world} came up; "
                "the launcher lost some"
            )

    def _probed(self, splits: tuple[Split, Split]) -> ProbeResult | None:
        """What the packing probe says of this very model; None where no row is packed."""
        if not any(is_packed(split) for split in splits):
            return None
        if self._plain:
            # There it is fast; FSDP's shards go to their devices only when they are prepared.
            self.trainee.module.to(self.accelerator.device)
        longest = max(int(split.lengths().max(initial=0)) for split in splits)
        found = probe(self.trainee.body, self.trainee.tokenizer.pad_token_id or 0, longest)
        leaks = torch.tensor(float(not found.ok), device=self.accelerator.device)
        self._reduce(leaks)
        if found.ok and leaks > 0:
            # All processes must take the same rows.
            found = ProbeResult(False, found.largest_difference, "it leaks on another process")
        if not found.ok:
            self.progress({"message": f"packing is off, rows are trained singly: {found.reason}"})
        return found

    def _optimizer(self) -> torch.optim.Optimizer:
        rate = self.config["learning_rate"]
        head_rate = self.config.get("head_learning_rate") or rate
        decay = self.config["weight_decay"]
        groups: dict[tuple[float, float], list[Any]] = {}
        for name, parameter in self.trainee.trainable().items():
            own = head_rate if ".score." in name else rate
            groups.setdefault((own, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
        return torch.optim.AdamW(
            [
                {"params": p, "lr": lr, "peak": lr, "weight_decay": d}
                for (lr, d), p in groups.items()
            ],
            fused=True,
        )

    def run(self) -> dict[str, Any]:
        """Trains to the end and writes the result; facts for the manifest."""
        self._resume()
        self.module.train()
        began, tokens, first = time.monotonic(), 0, self.state.step
        while self.state.step < self.total:
            step = self.state.step
            loss, norm, seen = self._update(step)
            tokens += seen
            self.state.step += 1
            self._record(step, loss, norm, tokens / (time.monotonic() - began))
            if self._due("eval_steps", last=True):
                self._validate()
            if self.state.step % self.job.options["save_steps"] == 0 and self._plain:
                self._save()
        self._write()
        return self._facts(time.monotonic() - began, tokens, first)

    @property
    def _plain(self) -> bool:
        # FSDP shards the optimiser: its checkpoints need another form than this one.
        return self.accelerator.distributed_type.value in _PLAIN

    def _due(self, name: str, *, last: bool) -> bool:
        every = self.config.get(name)
        if every is None or not self.validation:
            return False
        return self.state.step % every == 0 or (last and self.state.step == self.total)

    def _update(self, step: int) -> tuple[float, float, int]:
        rows = [self.rows[index] for index in self.order.at(step)]
        batch = batch_of(rows, self.trainee, self.config, step)
        targets = target_count(batch)
        rank = self.accelerator.process_index
        factor = learning_rate_factor(
            step, self.total, self.config["lr_scheduler_type"], self.config["warmup_ratio"]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        # Dropout is a function of seed, step and rank: no generator state to keep.
        torch.manual_seed(self.config["seed"] * 1_000_003 + step * self.world + rank)
        parts = shares(range(len(rows)), rank, self.world, self._micro(batch))
        summed = torch.zeros((), device=self.device)
        for index, part in enumerate(parts):
            sync = index == len(parts) - 1
            context = nullcontext() if sync else self.accelerator.no_sync(self.module)
            with context:
                summed += self._backward(batch, part, targets)
        self._reduce(summed)
        norm = self.accelerator.clip_grad_norm_(
            [p for g in self.optimizer.param_groups for p in g["params"]],
            self.config["max_grad_norm"],
        )
        loss, norm_value = float(summed) / targets, float(norm)
        self._require_finite(loss, norm_value, rows)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, norm_value, int(batch["attention_mask"].sum())

    def _backward(self, batch: dict[str, torch.Tensor], part: list[int], targets: float) -> Any:
        # A rank without rows still takes part in the gradient's exchange, with weight zero.
        chosen = part or [0]
        width = int(batch["attention_mask"][chosen].sum(dim=1).max())
        micro = {
            name: (t[chosen][:, :width] if t.ndim == 2 else t[chosen]).to(self.device)
            for name, t in batch.items()
        }
        with self._autocast():
            loss, _ = self.module(micro)
        weight = float(bool(part))
        self.accelerator.backward(loss * (weight * self.world / targets))
        return loss.detach() * weight

    def _autocast(self) -> Any:
        if self.config["precision"] == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _micro(self, batch: Mapping[str, torch.Tensor]) -> int:
        asked = self.job.options.get("micro_batch_size")
        return int(asked or max(1, TOKENS_AT_ONCE // batch["input_ids"].shape[1]))

    def _reduce(self, summed: torch.Tensor) -> None:
        if self.world > 1:
            torch.distributed.all_reduce(summed)

    def _require_finite(self, loss: float, norm: float, rows: Sequence[Mapping[str, Any]]) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise TrainingError(
            f"train: loss {loss} and gradient norm {norm} at update {self.state.step + 1} "
            f"(first row {rows[0]['example_id']}); lower train.learning_rate or use precision fp32"
        )

    def _record(self, step: int, loss: float, norm: float, speed: float) -> None:
        every = max(1, self.total // 200)
        if step % every == 0 or self.state.step == self.total:
            rate = self.optimizer.param_groups[0]["lr"]
            self.state.history.append(
                {"step": step + 1, "loss": loss, "learning_rate": rate, "grad_norm": norm}
            )
        self.progress({"step": step + 1, "total": self.total, "loss": loss, "tokens_per_s": speed})

    def _validate(self) -> None:
        """Loss, and accuracy of a classifier, on the validation split."""
        module: Any = self.accelerator.unwrap_model(self.module)
        module.eval()
        loss_sum, count, right = 0.0, 0.0, 0
        lengths = self.validation.lengths().tolist()
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        size = max(1, min(VALIDATION_ROWS, TOKENS_AT_ONCE // max(1, *lengths)))
        with torch.no_grad(), self._autocast():
            for start in range(0, len(order), size):
                rows = [self.validation[i] for i in order[start : start + size]]
                made = batch_of(rows, self.trainee, self.config, -1 - start)
                batch = {name: tensor.to(self.device) for name, tensor in made.items()}
                loss, targets = module(batch)
                loss_sum, count = loss_sum + float(loss), count + float(targets)
                if isinstance(module, LabelModel):
                    logits = module.classifier(batch["input_ids"], batch["attention_mask"])
                    right += int((logits.argmax(-1) == batch["labels"]).sum())
        module.train()
        record = {"step": self.state.step, "validation_loss": loss_sum / (count or 1.0)}
        score = -record["validation_loss"]
        if isinstance(module, LabelModel):
            record["validation_accuracy"] = score = right / len(order)
        self.state.history.append(record)
        self.progress({"step": self.state.step, "total": self.total, **record})
        if self.config["load_best_model_at_end"] and (
            self.state.best is None or score > self.state.best[0]
        ):
            self.state.best = (score, self.state.step)
            self.state.best_tensors = self._weights()

    def _weights(self) -> dict[str, torch.Tensor]:
        if not self._plain:
            full = self.accelerator.get_state_dict(self.module)
            return {n: full[n].clone() for n in self.names}
        return {n: p.detach().cpu().clone() for n, p in self.trainee.trainable().items()}

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        optimizer = self.optimizer.optimizer
        tensors = {f"model.{n}": t for n, t in self._weights().items()}
        tensors.update({f"best.{n}": t for n, t in self.state.best_tensors.items()})
        for name, parameter in self.trainee.trainable().items():
            for key, value in optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        values = {"history": self.state.history, "best": self.state.best}
        save_checkpoint(Path(self.job.work), Checkpoint(self.state.step, tensors, values))

    def _resume(self) -> None:
        found = load_newest(Path(self.job.work), lambda text: self.progress({"message": text}))
        if found is None:
            return
        optimizer = self.optimizer.optimizer
        for name, parameter in self.trainee.trainable().items():
            with torch.no_grad():
                parameter.copy_(found.tensors[f"model.{name}"])
            optimizer.state[parameter] = {
                key: found.tensors[f"optimizer.{key}.{name}"].to(
                    "cpu" if key == "step" and self.device.type == "cpu" else self.device
                )
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
        best = found.values["best"]
        self.state = _State(
            found.step,
            list(found.values["history"]),
            (best[0], best[1]) if best else None,
            {n[5:]: t for n, t in found.tensors.items() if n.startswith("best.")},
        )
        self.progress({"message": f"goes on from update {found.step}"})

    def _write(self) -> None:
        weights = self.state.best_tensors or self._weights()
        if self.accelerator.is_main_process:
            write_result(self.trainee, self.job, weights)
            _write_history(Path(self.job.out) / "history.jsonl", self.state.history)
        self.accelerator.wait_for_everyone()

    def _facts(self, seconds: float, tokens: int, first: int) -> dict[str, Any]:
        trained = sum(p.numel() for p in self.trainee.trainable().values())
        return {
            "updates": self.total,
            "resumed_from": first or None,
            "best_step": self.state.best[1] if self.state.best else None,
            "train_seconds": round(seconds, 2),
            "tokens_per_s": round(tokens / max(seconds, 1e-9), 1),
            "trainable_parameters": trained,
            "all_parameters": sum(p.numel() for p in self.trainee.module.parameters()),
            "final_loss": self.state.history[-1].get("loss") if self.state.history else None,
            "processes": self.world,
            "wrapper": type(self.module).__name__,
            "device": str(self.device),
            "rows": len(self.rows),
            "packing": self.packing,
        }


def _write_history(path: Path, history: Sequence[Mapping[str, float]]) -> None:
    import json

    lines = [json.dumps(record, sort_keys=True) for record in history]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def train(job: TrainJob, progress: Progress) -> dict[str, Any]:
    """Runs one training in this process (one of several under a launcher)."""
    return Training(job, progress).run()
