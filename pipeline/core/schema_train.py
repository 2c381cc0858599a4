"""What a recipe may say of its training. Names are those of the Trainer, PEFT and Axolotl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pipeline.core.engine_limits import ENGINE_RANKS
from pipeline.core.objectives import OBJECTIVES, cell_problem
from pipeline.core.schema_section import Section, Seed, as_list

Objective = Literal[
    "pretrain", "cpt", "mlm", "sft", "dpo", "channel", "hybrid", "classify", "tag", "regress"
]
Method = Literal["full", "lora", "qlora"]
Optimiser = Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"]
Schedule = Literal[
    "linear", "cosine", "constant", "constant_with_warmup", "cosine_with_restarts", "polynomial",
    "inverse_sqrt", "cosine_with_min_lr", "warmup_stable_decay",
]  # fmt: skip
Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"]
Measure = Literal[
    "loss", "accuracy", "macro_f1", "micro_f1", "entity_f1", "mae", "r2", "reward_accuracy"
]
# What transformers.get_scheduler's schedules take: lowest and highest value. int: a whole number.
_CYCLES = {"num_cycles": (1e-3, 1e3)}
SCHEDULE_OPTIONS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "linear": {},
    "cosine": _CYCLES,
    "constant": {},
    "constant_with_warmup": {},
    "cosine_with_restarts": {"num_cycles": (1, 1000)},
    "polynomial": {"power": (1e-3, 1e3), "lr_end": (0.0, 1e3)},
    "inverse_sqrt": {"timescale": (1, 10**9)},
    "cosine_with_min_lr": {**_CYCLES, "min_lr": (0.0, 1e3), "min_lr_rate": (0.0, 1.0)},
    "warmup_stable_decay": {
        **_CYCLES, "num_decay_steps": (1, 10**9), "num_stable_steps": (0, 10**9),
        "min_lr_ratio": (0.0, 1.0),
    },
}  # fmt: skip
_MOST_STEPS = 10_000_000
# As get_scheduler has it where nothing is said.
_LR_END = 1e-7


def _fits_module_names(pattern: str) -> str:
    """As PEFT puts it into an expression of its own."""
    try:
        re.compile(pattern)
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(
            f"{pattern[:60]!r} is no regular expression ({error}); write a module's name, or one "
            r"that fits several, e.g. 'layers\.0\.mlp\..*'"
        ) from None
    return pattern


Module = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$")]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_fits_module_names)]
# Two of these in one recipe would be two models of one name.
_WRITERS = {"pretrain", "cpt", "mlm", "sft", "dpo", "hybrid"}
_LORA_FIELDS = ("rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "init_from")


class Launch(Section):
    """How many processes train; never part of a key."""

    num_processes: int = Field(1, ge=1, le=1024)
    config: str | None = Field(
        None, description="One of recipes/accelerate/*.yaml, or your own: DDP, FSDP2, DeepSpeed"
    )
    max_restarts: int = Field(
        3, ge=0, le=100, description="Processes that die are started again from the last checkpoint"
    )


class Head(Section):
    """The head: how token states become one vector."""

    pooling: Literal["last", "mean", "cls"] = "last"
    dropout: float = Field(0.0, ge=0, lt=1)


class HybridWeights(Section):
    """What each loss counts when one adapter is trained for both forms."""

    generative: float = Field(1.0, gt=0)
    head: float = Field(1.0, gt=0)


class Train(Section):
    """One model for each objective, over the same rows and budget."""

    objective: Annotated[tuple[Objective, ...], BeforeValidator(as_list)] = ("sft",)
    method: Method = "lora"
    init_from: str | None = Field(
        None,
        min_length=1,
        description="Start from this adapter's weights, a recipe or a folder, and train them on; "
        "`base` is what stays frozen below",
    )
    lora_r: int = Field(16, ge=1, le=ENGINE_RANKS[-1])
    lora_alpha: float | None = Field(None, gt=0, description="Default: twice lora_r")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | Annotated[tuple[Module, ...], Field(min_length=1)] = (
        "all-linear"
    )
    use_rslora: bool = False
    use_dora: bool = Field(False, description="Cannot be stacked or served as an adapter: merge it")
    modules_to_save: tuple[Module, ...] = Field(
        (), description="Modules trained whole beside the adapter; merge them to serve them"
    )
    rank_pattern: dict[Pattern, Annotated[int, Field(ge=1, le=ENGINE_RANKS[-1])]] = Field(
        default_factory=dict
    )
    alpha_pattern: dict[Pattern, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    optim: Optimiser = "adamw"
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    adam_epsilon: float = Field(1e-8, gt=0)
    learning_rate: float = Field(2e-4, gt=0)
    head_learning_rate: float | None = Field(None, gt=0, description="Default: learning_rate")
    lr_scheduler_type: Schedule = "cosine"
    lr_scheduler_kwargs: dict[str, float] = Field(
        default_factory=dict, description="E.g. num_cycles, power, min_lr_rate, num_decay_steps"
    )
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    warmup_steps: int | None = Field(
        None, ge=0, le=_MOST_STEPS, description="Wins over warmup_ratio"
    )
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    num_train_epochs: float = Field(1.0, gt=0, le=10_000)
    max_steps: int | None = Field(
        None, ge=1, le=_MOST_STEPS, description="Wins over num_train_epochs"
    )
    global_batch_size: int = Field(
        32,
        ge=1,
        le=1_000_000,
        description="Rows per update over all processes; with packing it counts blocks of "
        "max_length, and each holds several rows",
    )
    micro_batch_size: int | None = Field(None, ge=1, description="Rows at once; not in the key")
    auto_micro_batch: bool = Field(
        False, description="Out of memory: halve the micro-batch and go on; the global batch stays"
    )
    max_length: int = Field(512, ge=8, le=2**21)
    over_length: Literal["error", "drop", "truncate-left", "truncate-right", "split"] = "error"
    packing: bool = Field(False, description="Rows share blocks of max_length; none sees another")
    loss_on: Literal["assistant", "last", "all", "flag"] = Field(
        "assistant",
        description="Which turns are learned; flag: those with `train: true`. One with `train: "
        "false` never is, except under all",
    )
    loss_weighting: Literal["token", "row"] = Field(
        "token", description="row: each row counts the same, however long its answer"
    )
    hybrid: HybridWeights = HybridWeights()
    dpo_beta: float = Field(0.1, gt=0, description="How far DPO may go from where it started")
    precision: Literal["fp32", "bf16"] = "bf16"
    gradient_checkpointing: bool = False
    attention: Attention = Field("auto", description="The attention kernel; not in the key")
    compile: bool = Field(False, description="torch.compile each layer; not in the key")
    activation_memory_budget: float = Field(
        1.0,
        gt=0,
        le=1,
        description="With compile: how much a layer may keep for its backward pass, of all that it "
        "would; the cheapest is computed again; not in the key",
    )
    mlm_probability: float = Field(0.15, gt=0, lt=1)
    head: Head = Head()
    eval_steps: int | None = Field(
        None, ge=1, description="Validation every so many updates; once at the end anyway"
    )
    load_best_model_at_end: bool = False
    metric_for_best_model: Measure | None = Field(
        None, description="Default: accuracy of a head with one label, else loss"
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Stop after so many validations without a better one"
    )
    save_steps: int = Field(50, ge=1, description="A checkpoint every so many updates")
    resume: bool = Field(
        True, description="Go on from this run's own checkpoints; false starts it again"
    )
    report_to: Annotated[tuple[Tracker, ...], BeforeValidator(as_list)] = Field(
        (), description="Send the curves there too; they are kept with the model anyway"
    )
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(as_list)] = (1,)
    launch: Launch = Launch()

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        objectives: set[str] = set(self.objective)
        if not self.objective:
            raise ValueError("objective is empty; name at least one")
        if len(_WRITERS & objectives) > 1:
            raise ValueError(
                f"objective may name one of {', '.join(sorted(_WRITERS))}, beside classify, tag, "
                "regress and channel"
            )
        if {"hybrid", "classify"} <= objectives:
            raise ValueError("hybrid makes the classifier too; leave classify out")
        if len(objectives) != len(self.objective):
            raise ValueError("objective names one twice")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be one or more different whole numbers")
        for objective in self.objective:
            problem = cell_problem(objective, self.method, "single")
            if problem is not None:
                raise ValueError(problem.removeprefix("train."))
        if len(set(self.report_to)) != len(self.report_to):
            raise ValueError("report_to names one twice")
        if self.activation_memory_budget < 1 and not self.compile:
            raise ValueError(
                "activation_memory_budget needs compile: true; without, gradient_checkpointing "
                "saves memory"
            )
        self._require_adapter()
        self._require_schedule()
        self._require_rows(objectives)
        self._require_validation()
        size = self.micro_batch_size
        if size is not None and self.global_batch_size % (size * self.launch.num_processes):
            raise ValueError(
                "global_batch_size must be a multiple of micro_batch_size times num_processes"
            )
        return self

    def _require_adapter(self) -> None:
        if self.method == "full":
            for name in _LORA_FIELDS:
                if getattr(self, name):
                    raise ValueError(f"{name} has no meaning with method full; leave it out")
        if self.init_from is not None and len(self.objective) > 1:
            raise ValueError("init_from starts one adapter, and two objectives make two")

    def _require_schedule(self) -> None:
        kind, given = self.lr_scheduler_type, self.lr_scheduler_kwargs
        takes = SCHEDULE_OPTIONS[kind]
        for name, value in given.items():
            if name not in takes:
                offered = f"it takes {', '.join(takes)}" if takes else "it takes none; leave it out"
                raise ValueError(f"lr_scheduler_kwargs: {kind} does not take {name}; {offered}")
            low, high = takes[name]
            if not low <= value <= high or (isinstance(low, int) and value % 1):
                what = "a whole number" if isinstance(low, int) else "a number"
                raise ValueError(
                    f"lr_scheduler_kwargs: {name} is {value:g}; give {what} from {low:g} to "
                    f"{high:g}"
                )
        if {"min_lr", "min_lr_rate"} <= given.keys():
            raise ValueError("lr_scheduler_kwargs: give min_lr or min_lr_rate, and not both")
        ends = {"polynomial": ("lr_end", _LR_END), "cosine_with_min_lr": ("min_lr", 0.0)}
        name, default = ends.get(kind, ("", 0.0))
        end = given.get(name, default)
        if end >= self.learning_rate:
            raise ValueError(
                f"lr_scheduler_kwargs: {name} is {end:g}, and learning_rate {self.learning_rate:g}"
                " must lie above it"
            )

    def _require_rows(self, objectives: set[str]) -> None:
        alone = sorted(o for o in objectives if not OBJECTIVES[o].packs)
        if self.packing and alone:
            raise ValueError(
                f"packing is for objectives that predict the next token, and {alone[0]} does not"
            )
        if self.loss_weighting == "row" and not any(OBJECTIVES[o].packs for o in objectives):
            raise ValueError(
                "loss_weighting: row weighs the tokens of answers and texts, and "
                f"{' and '.join(self.objective)} has none; leave it out"
            )
        if self.loss_on != "assistant" and "sft" not in objectives:
            raise ValueError(
                f"loss_on: {self.loss_on} chooses among turns, which objective sft alone learns; "
                "leave it out"
            )

    def _require_validation(self) -> None:
        for name in ("load_best_model_at_end", "early_stopping_patience"):
            if getattr(self, name) and self.eval_steps is None:
                raise ValueError(f"{name} needs eval_steps")
        if self.metric_for_best_model is not None and not (
            self.load_best_model_at_end or self.early_stopping_patience
        ):
            raise ValueError(
                "metric_for_best_model has a meaning with load_best_model_at_end or "
                "early_stopping_patience; set one of them"
            )
        for objective in self.objective:
            measured = OBJECTIVES[objective].measured
            if (self.metric_for_best_model or "loss") not in measured:
                raise ValueError(
                    f"metric_for_best_model: {self.metric_for_best_model} is not measured for "
                    f"objective {objective}; use one of {', '.join(measured)}"
                )
