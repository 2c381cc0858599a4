"""The training loop: the same updates whatever the number of processes and micro-batches
(with dropout the draws differ between layouts, not between runs of one layout).

Everything random is a function of (seed, step): the order of rows, dropout, masks. So a
checkpoint holds weights and optimiser only, and a resumed run makes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from pipeline.core.launch import launch_settings
from pipeline.data.arrow import Split
from pipeline.modeling.at_once import TOKENS_AT_ONCE
from pipeline.modeling.fused_lora import fuse_lora
from pipeline.modeling.packing_probe import ProbeResult, probe
from pipeline.training.batches import BatchOrder, shares, steps_in_all
from pipeline.training.checkpoint import forget
from pipeline.training.compiled import compile_layers
from pipeline.training.curves import Curves
from pipeline.training.health import Health
from pipeline.training.memory import let_go, memory_errors, micro_batch
from pipeline.training.optimisers import new_optimiser
from pipeline.training.packed import Unpacked, is_packed, rows_for
from pipeline.training.parallel import parallel, restarted
from pipeline.training.passes import ROWS_AT_ONCE, Passes
from pipeline.training.reference import WithReference, reference_of
from pipeline.training.schedule import learning_rate_factor
from pipeline.training.state import Keeper, State, fingerprint, kept, watch_weights
from pipeline.training.targets import TOKENWISE, batch_of, target_count
from pipeline.training.together import together
from pipeline.training.trainee import (
    Trainee,
    TrainJob,
    build,
    masked_attention,
    result_tensors,
    write_result,
)
from pipeline.training.validation import Validator

Progress = Callable[[Mapping[str, Any]], None]


class Training:
    """One training from build to result."""

    def __init__(self, job: TrainJob, progress: Progress, trainee: Trainee | None = None) -> None:
        """Builds all that an update needs.

        Args:
            trainee: a model that is built already; its root is not read then.
        """
        self.job, self.config, self.progress = job, job.config, progress
        self.settings = launch_settings(job.options["launch"])
        self.group = parallel(self.settings, bf16=self.config["precision"] == "bf16")
        self.world, self.device = self.group.world, self.group.device
        splits = (Split(Path(job.data) / "train.arrow"), Split(Path(job.data) / "validation.arrow"))
        self.trainee = trainee or build(job, splits[0])
        self.at_once = TOKENS_AT_ONCE[self.device.type]
        (self.rows, self.validation), self.packing = rows_for(splits, self._probed(splits))
        if self.settings.wrapper != "deepspeed":
            # ZeRO gathers the weights of a module that is called, and B is not called then.
            fuse_lora(self.trainee.body)
        base = fingerprint(self.trainee.module)
        self.group.wrap(self.trainee.module, self.trainee.body)
        if job.options.get("compile"):
            compile_layers(self.trainee.body, job.options.get("activation_memory_budget", 1.0))
        self.trainable = self.trainee.trainable()
        self.optimizer = self.group.adopt(
            new_optimiser(self.trainable, self.config), self.config["max_grad_norm"]
        )
        # Blocks that had to be unpacked still come whole: an update learns from the same tokens.
        self.blocks = self.rows if isinstance(self.rows, Unpacked) else None
        lengths = self.rows.lengths() if self.blocks is None else self.blocks.block_lengths()
        self.order = BatchOrder(lengths, self.config["global_batch_size"], self.config["seed"])
        self.total = steps_in_all(
            len(lengths),
            self.config["global_batch_size"],
            self.config.get("num_train_epochs", 1.0),
            self.config["max_steps"],
        )
        self.rate = learning_rate_factor(self.config, self.total)
        self.keeper = Keeper(Path(job.work), base, self.group, self.optimizer, self.trainable)
        self.state = State()
        self._micro_rows = self._rows_at_once

    def _probed(self, splits: tuple[Split, Split]) -> ProbeResult | None:
        """What the packing probe says of this very model; None where no row is packed."""
        if not any(is_packed(split) for split in splits):
            return None
        if self.settings.wrapper != "fsdp":
            # There it is fast; FSDP's shards go to their devices only when they are cut.
            self.trainee.module.to(self.device)
        longest = max(int(split.lengths().max(initial=0)) for split in splits)
        pad_id, masked = self.trainee.tokenizer.pad_token_id or 0, masked_attention(splits[0])
        found = probe(self.trainee.body, pad_id, longest, masked)
        leaks = self.group.total(torch.tensor(float(not found.ok), device=self.device))
        if found.ok and leaks > 0:
            # All processes must take the same rows.
            found = ProbeResult(False, found.largest_difference, "it leaks on another process")
        if not found.ok:
            self.progress({"message": f"packing is off, rows are trained singly: {found.reason}"})
        return found

    def run(self) -> dict[str, Any]:
        """Trains to the end and writes the result; facts for the manifest."""
        try:
            with memory_errors(lambda: self._micro_rows):
                facts = self._run()
        except BaseException as error:
            # The group is left as it is: others may sit in an exchange, and would be waited for.
            let_go(error)
            raise
        self.group.close()
        return facts

    def _run(self) -> dict[str, Any]:
        self._start()
        validator = Validator(self.validation, self._passes())
        health = Health(watch_weights(self.trainable, self.group), fresh=self.state.step == 0)
        first = self.state.step
        self.trainee.module.train()
        with Curves(self.job, self.state, self.total, self.group.rank, self.progress) as curves:
            while self.state.step < self.total:
                step = self.state.step
                loss, norm, tokens, rows = self._update(step)
                health.require(step + 1, loss, norm, self._lr, rows)
                self.state.step += 1
                curves.update(loss, norm, self._lr, tokens)
                if self._due() and self._validated(validator, curves):
                    break
                if self.group.saves and self.state.step % self.job.options["save_steps"] == 0:
                    self.keeper.save(self.state)
        health.end(self.state.step)
        self._write()
        return self._facts(curves, first)

    def _start(self) -> None:
        if self.group.saves and (self.job.options.get("resume", True) or restarted()):
            self.state = self.keeper.restored(lambda text: self.progress({"message": text}))
        elif self.group.rank == 0:
            # What goes on later, after a kill or a halved micro-batch, is this training.
            forget(self.keeper.folder)
        if self.config["objective"] != "dpo":
            return
        if not self.state.reference:
            for name, rows in (("train", self.rows), ("validation", self.validation)):
                if len(rows):
                    self.state.reference[name] = reference_of(rows, self._passes())
        self.rows = WithReference(self.rows, self.state.reference["train"])
        if "validation" in self.state.reference:
            self.validation = WithReference(self.validation, self.state.reference["validation"])

    def _passes(self) -> Passes:
        return Passes(
            self.trainee, self.config, self.group, self._autocast, self._rows_at_once, self.at_once
        )

    def _due(self) -> bool:
        """Whether the validation split is asked now: always after the last update."""
        if not len(self.validation):
            return False
        every = self.config.get("eval_steps") or self.total
        return self.state.step % every == 0 or self.state.step == self.total

    def _validated(self, validator: Validator, curves: Curves) -> bool:
        """Judges, keeps what is best; whether patience has run out."""
        figures, score = validator.run()
        curves.validation(figures)
        if self.state.best is None or score > self.state.best[0]:
            self.state.best, self.state.waited = (score, self.state.step), 0
            if self.config["load_best_model_at_end"]:
                self.state.best_tensors = {n: kept(p) for n, p in self.trainable.items()}
        else:
            self.state.waited += 1
        patience = self.config.get("early_stopping_patience")
        if patience is None or self.state.waited < patience:
            return False
        self.progress({"message": f"stops at update {self.state.step}: {validator.metric} was best "
                                  f"at update {self.state.best[1]}"})  # fmt: skip
        return True

    def _update(self, step: int) -> tuple[float, float, int, list[Mapping[str, Any]]]:
        """One update: (loss, gradient norm, real tokens, its rows)."""
        chosen: Iterable[int] = self.order.at(step)
        if self.blocks is not None:
            chosen = [row for number in chosen for row in self.blocks.block(number)]
        rows: list[Mapping[str, Any]] = [self.rows[index] for index in chosen]
        batch = batch_of(rows, self.trainee, self.config, step)
        targets = target_count(self.trainee.module, batch, rows)
        factor = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        # Dropout is a function of seed, step and rank: no generator state to keep.
        torch.manual_seed(self.config["seed"] * 1_000_003 + step * self.world + self.group.rank)
        parts = shares(range(len(rows)), self.group.rank, self.world, self._micro(batch))
        summed = torch.zeros((), device=self.device)
        for index, part in enumerate(parts):
            with self.group.accumulating(index == len(parts) - 1):
                summed += self._backward(batch, part, targets)
        norm = self.group.update(
            self.optimizer, list(self.trainable.values()), self.config["max_grad_norm"]
        )
        # One look at the device for an update: loss and norm together.
        found = torch.stack([self.group.total(summed), norm.to(summed)]).tolist()
        return found[0] / targets, found[1], int(batch["attention_mask"].sum()), rows

    def _backward(self, batch: dict[str, torch.Tensor], part: list[int], targets: float) -> Any:
        # A rank without rows still takes part in the gradient's exchange, with weight zero.
        chosen = part or [0]
        longest = int(batch["attention_mask"][chosen].sum(dim=-1).max())
        width = -(-longest // self.trainee.pad_to) * self.trainee.pad_to
        micro = {
            name: (t[chosen][..., :width] if name in TOKENWISE else t[chosen]).to(
                self.device, non_blocking=True
            )
            for name, t in batch.items()
        }
        with self._autocast():
            loss, _ = self.group.module(micro)
        weight = float(bool(part))
        self.group.backward(loss * (weight * self.world / targets))
        return loss.detach() * weight

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config["precision"] == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _micro(self, batch: Mapping[str, torch.Tensor]) -> int:
        shape = batch["input_ids"].shape
        self._micro_rows = micro_batch(
            self.job.options,
            -(-shape[0] // self.world),
            self.at_once // (shape[1:].numel() or 1),
        )
        return self._micro_rows

    @property
    def _rows_at_once(self) -> int:
        """Of a pass without gradients: memory that is too small for more makes this smaller."""
        return min(ROWS_AT_ONCE, self.job.options.get("micro_batch_size") or ROWS_AT_ONCE)

    @property
    def _lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _write(self) -> None:
        if self.state.best_tensors:
            with torch.no_grad():
                for name, tensor in self.state.best_tensors.items():
                    self.trainable[name].copy_(tensor)
        tensors = self.group.whole(result_tensors(self.trainee, self.config["method"]))
        out = Path(self.job.out)

        def write() -> None:
            if self.group.rank == 0:
                write_result(self.trainee, self.job, tensors)
                lines = [json.dumps(record, sort_keys=True) for record in self.state.history]
                (out / "history.jsonl").write_text("\n".join(lines) + "\n", "utf-8")

        together(self.group, out, write)

    def _facts(self, curves: Curves, first: int) -> dict[str, Any]:
        losses = [record["loss"] for record in self.state.history if "loss" in record]
        return {
            "updates": self.state.step,
            "planned_updates": self.total,
            "resumed_from": first or None,
            "best_step": self.state.best[1] if self.state.best else None,
            "trainable_parameters": sum(p.numel() for p in self.trainable.values()),
            "all_parameters": sum(p.numel() for p in self.trainee.module.parameters()),
            "final_loss": losses[-1] if losses else None,
            "processes": self.world,
            "wrapper": self.group.wrapper,
            "device": str(self.device),
            "rows": len(self.rows),
            "packing": self.packing,
            "micro_batch_size": self._micro_rows,
            **curves.facts(),
        }


def train(job: TrainJob, progress: Progress) -> dict[str, Any]:
    """Runs one training in this process (one of several under a launcher)."""
    with memory_errors(None):
        training = Training(job, progress)
    return training.run()
