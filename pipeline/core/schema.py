"""What a recipe may say: every key, its type, its bounds and its meaning.

Frozen, unknown keys refused. The descriptions below are what ``gradus schema`` writes
into the JSON Schema for editors. Names are those of the Trainer, PEFT and Axolotl.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Level = Literal["L0", "L1", "L2"]
Format = Literal[
    "text", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer",
    "classification", "preference",
]  # fmt: skip
Objective = Literal["pretrain", "cpt", "mlm", "sft", "classify"]
Method = Literal["full", "lora", "qlora"]
Export = Literal["stacked", "merged"]


# Bounded, so that a seed times a step count stays within 64 bits.
Seed = Annotated[int, Field(ge=0, lt=2**31)]
_NUMBERS = (int, float, int | None, float | None)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


class Section(BaseModel):
    """A part of a recipe: frozen, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_bool_for_number(cls, tree: Any) -> Any:
        """`lora_r: true` would otherwise be read as 1."""
        if isinstance(tree, dict):
            for name, value in tree.items():
                field = cls.model_fields.get(str(name))
                if isinstance(value, bool) and field is not None and field.annotation in _NUMBERS:
                    raise ValueError(f"{name} must be a number, and it is {str(value).lower()}")
        return tree


class Scratch(Section):
    """An L0 made from nothing: a BPE tokenizer with chat markup and random weights."""

    architecture: Literal["qwen3"] = "qwen3"
    vocab_size: int = Field(2048, ge=300, le=200_000)
    hidden_size: int = Field(128, ge=32)
    num_hidden_layers: int = Field(4, ge=1)
    num_attention_heads: int = Field(4, ge=1)
    num_key_value_heads: int = Field(2, ge=1)
    intermediate_size: int = Field(384, ge=32)
    max_position_embeddings: int = Field(512, ge=32)
    seed: Seed = 0

    @model_validator(mode="after")
    def _heads_divide(self) -> Scratch:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("hidden_size must be a multiple of num_attention_heads")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_attention_heads must be a multiple of num_key_value_heads")
        return self


class Source(Section):
    """Where rows come from: files, a hub data set, or a generator of the project."""

    path: str | None = Field(
        None,
        description="A file or a folder of documents (relative to the recipe), a URL that fsspec "
        "reads (s3://, https://), or a hub id",
    )
    generator: str | None = Field(None, description="A generator that ships with gradus")
    part: str | None = Field(None, description="The generator's part")
    config: str | None = Field(None, description="A hub data set's configuration")
    split: str | None = Field(None, description="A hub data set's split")
    revision: str | None = Field(None, description="A hub revision; its commit goes to the lock")
    files: tuple[str, ...] = Field(
        (), description="Patterns: only these files of a hub data set or folder"
    )
    format: Format | None = Field(
        None, description="Found from the rows where it is not given (a hub data set needs it)"
    )
    columns: dict[str, str] = Field(default_factory=dict, description="our field: their column")
    prompt: str | None = Field(None, description="The user's turn, with {field} placeholders")
    fraction: float | None = Field(None, gt=0, le=1, description="A seeded, stratified share")
    weight: float | None = Field(
        None, gt=0, description="Rows of mixed sources stand in this ratio; none is repeated"
    )
    seed: Seed = 0
    licence: str | None = Field(None, description="Travels into the lineage")
    origin: str | None = Field(None, description="Who made the rows; travels into the lineage")

    @model_validator(mode="after")
    def _one_origin(self) -> Source:
        if (self.path is None) == (self.generator is None):
            raise ValueError("give exactly one of path or generator")
        if self.generator is not None and self.part is None:
            raise ValueError("a generator needs a part")
        return self


class Carve(Section):
    """A validation or test split carved from train; validation never from test."""

    carve: float = Field(gt=0, lt=0.5)
    by: str | None = Field(None, description="Rows that share this column stay together")
    time: str | None = Field(None, description="The latest rows by this column are held out")
    seed: Seed = 0

    @model_validator(mode="after")
    def _one_way(self) -> Carve:
        if self.by is not None and self.time is not None:
            raise ValueError("give one of by or time, not both")
        return self


class Language(Section):
    """Rows in other languages are dropped (py3langid, offline)."""

    keep: Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]
    least_probability: float = Field(0.5, ge=0, le=1)
    least_characters: int = Field(20, ge=1, description="Shorter rows are not judged")


class PersonalData(Section):
    """Personal data by patterns and checksums (Microsoft Presidio), no model."""

    action: Literal["redact", "drop", "report"] = "redact"
    entities: tuple[str, ...] = Field((), description="Presidio's names; empty takes all offered")
    least_score: float = Field(0.5, ge=0, le=1)


class NearDuplicates(Section):
    """Near copies by Jaccard over character 5-grams."""

    action: Literal["drop", "report"] = "drop"
    threshold: float = Field(0.8, gt=0, le=1)
    seed: Seed = 0


class LabelErrors(Section):
    """Probable label errors: out-of-fold TF-IDF logistic regression, confident learning."""

    action: Literal["report", "drop"] = "report"
    folds: int = Field(5, ge=2, le=20)
    seed: Seed = 0


class Balance(Section):
    """Class balance: told always; capped or weighted where asked."""

    action: Literal["report", "cap", "weights"] = "report"
    max_per_class: int | None = Field(None, ge=1, description="cap: default the median class")
    seed: Seed = 0

    @model_validator(mode="after")
    def _fits(self) -> Balance:
        if self.max_per_class is not None and self.action != "cap":
            raise ValueError("max_per_class has a meaning with action cap only")
        return self


def _action(value: Any) -> Any:
    """`near_duplicates: drop` is short for `near_duplicates: {action: drop}`."""
    return {"action": value} if isinstance(value, str) else value


def _languages(value: Any) -> Any:
    return {"keep": value} if isinstance(value, str | list) else value


class Clean(Section):
    """Cleaning steps in the order in which they run; each is counted.

    What finds defects only (unfilled fields, exact duplicates, damaged characters) is told
    even where it is not asked to drop.
    """

    unicode: Literal["NFC", "NFKC"] | None = None
    html: bool = Field(False, description="Entities decoded, tags taken out")
    control_characters: bool = Field(False, description="Taken out, line breaks and tabs apart")
    damaged: Literal["report", "drop", "remove"] = Field(
        "report", description="U+FFFD: bytes that were lost before we saw them"
    )
    whitespace: bool = Field(False, description="Runs of blanks to one, at most one empty line")
    unfilled_fields: Literal["report", "drop"] = Field(
        "report", description="Rows with fields nobody filled in, like {{name}}"
    )
    personal_data: Annotated[PersonalData | None, BeforeValidator(_action)] = None
    min_characters: int | None = Field(None, ge=1)
    max_characters: int | None = Field(None, ge=1)
    language: Annotated[Language | None, BeforeValidator(_languages)] = None
    quality: Annotated[tuple[Literal["gopher", "c4"], ...], BeforeValidator(_as_list)] = ()
    duplicates: Literal["report", "drop"] = "report"
    near_duplicates: Annotated[NearDuplicates | None, BeforeValidator(_action)] = None
    label_errors: Annotated[LabelErrors | None, BeforeValidator(_action)] = None
    balance: Annotated[Balance, BeforeValidator(_action)] = Balance()

    @model_validator(mode="after")
    def _bounds(self) -> Clean:
        low, high = self.min_characters, self.max_characters
        if low is not None and high is not None and low > high:
            raise ValueError("min_characters is above max_characters")
        return self


class Augment(Section):
    """Synthetic training rows, marked as such in the lineage; off by default."""

    kind: Literal["paraphrase", "sample"] = Field(
        description="paraphrase: each row rewritten; sample: new rows of a label"
    )
    endpoint: str = Field(
        description="Any OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1"
    )
    model: str
    per_row: int = Field(1, ge=1, le=20, description="paraphrase: new texts for each row")
    per_label: int = Field(20, ge=1, description="sample: new rows for each label")
    examples: int = Field(5, ge=0, le=50, description="sample: real rows shown to the model")
    temperature: float = Field(0.8, ge=0, le=2)
    max_new_tokens: int = Field(256, ge=1)
    concurrency: int = Field(4, ge=1, le=64, description="Requests at once; changes no result")
    api_key_env: str | None = Field(None, description="The environment variable with the key")
    licence: str | None = None
    seed: Seed = 0


class Replay(Section):
    """General text mixed into continued pretraining against forgetting."""

    recipe: str = Field(description="The recipe whose training text is replayed")
    share: float = Field(gt=0, lt=1, description="Replayed tokens as a share of all tokens")


class Data(Section):
    """The rows: train, validation (its own split), test (only ever judged)."""

    train: Annotated[tuple[Source, ...], BeforeValidator(_one_or_more), Field(min_length=1)]
    validation: Source | Carve = Carve(carve=0.1)
    test: Source | Carve | None = None
    max_quarantined: int | float = Field(
        0.01, ge=0, description="Rows of a source that may be refused: a count, or a share below 1"
    )
    clean: Clean = Clean()
    augment: Augment | None = None
    replay: Replay | None = None
    system: str | None = Field(None, description="System text before every example")
    chat_template: str | None = Field(None, description="A Jinja file for a base without one")
    chat_template_kwargs: dict[str, bool | int | str] = Field(
        default_factory=dict, description="E.g. enable_thinking: false; carried to serving"
    )
    contamination: Literal["drop", "error", "report"] = Field(
        "drop", description="A training row that stands in any test set of this recipe's ancestry"
    )


class Launch(Section):
    """How many processes train; never part of a key."""

    num_processes: int = Field(1, ge=1, le=1024)
    config: str | None = Field(None, description="An accelerate configuration file")


class Head(Section):
    """The classifier head: how token states become one vector."""

    pooling: Literal["last", "mean", "cls"] = "last"
    dropout: float = Field(0.0, ge=0, lt=1)


class Train(Section):
    """One model for each objective, over the same rows and budget."""

    objective: Annotated[tuple[Objective, ...], BeforeValidator(_as_list)] = ("sft",)
    method: Method = "lora"
    lora_r: int = Field(16, ge=1, le=512)
    lora_alpha: float | None = Field(None, gt=0, description="Default: twice lora_r")
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    use_rslora: bool = False
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    learning_rate: float = Field(2e-4, gt=0)
    head_learning_rate: float | None = Field(None, gt=0, description="Default: learning_rate")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="Wins over num_train_epochs")
    global_batch_size: int = Field(32, ge=1, description="Rows per update over all processes")
    micro_batch_size: int | None = Field(None, ge=1, description="Rows at once; not in the key")
    max_length: int = Field(512, ge=8)
    over_length: Literal["error", "drop", "truncate-left", "truncate-right", "split"] = "error"
    packing: bool = Field(False, description="Rows share blocks of max_length; none sees another")
    loss_on: Literal["assistant", "last", "all", "flag"] = Field(
        "assistant", description="Which turns are learned; flag: those with `train: true`"
    )
    loss_weighting: Literal["token", "row"] = Field(
        "token", description="row: each row counts the same, however long its answer"
    )
    precision: Literal["fp32", "bf16"] = "bf16"
    gradient_checkpointing: bool = False
    mlm_probability: float = Field(0.15, gt=0, lt=1)
    head: Head = Head()
    eval_steps: int | None = Field(None, ge=1, description="Validation every so many updates")
    load_best_model_at_end: bool = False
    save_steps: int = Field(50, ge=1, description="A checkpoint every so many updates")
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_as_list)] = (1,)
    launch: Launch = Launch()

    @model_validator(mode="after")
    def _consistent(self) -> Train:
        if not self.objective:
            raise ValueError("objective is empty; name at least one")
        if len({"pretrain", "cpt", "mlm", "sft"} & set(self.objective)) > 1:
            raise ValueError("objective may name one of pretrain, cpt, mlm, sft, beside classify")
        if len(set(self.objective)) != len(self.objective):
            raise ValueError("objective names one twice")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds must be one or more different whole numbers")
        if self.load_best_model_at_end and self.eval_steps is None:
            raise ValueError("load_best_model_at_end needs eval_steps")
        if self.method == "full" and self.rank_pattern:
            raise ValueError("rank_pattern has no meaning with method full")
        if self.packing and set(self.objective) & {"classify", "mlm"}:
            raise ValueError("packing is for objectives that predict the next token")
        size = self.micro_batch_size
        if size is not None and self.global_batch_size % (size * self.launch.num_processes):
            raise ValueError(
                "global_batch_size must be a multiple of micro_batch_size times num_processes"
            )
        return self


class RecipeSuite(Section):
    """A suite that is another recipe's test split."""

    recipe: str


class Evaluate(Section):
    """What a model is judged on."""

    suites: dict[str, Source | RecipeSuite] = Field(
        default_factory=dict, description="Extra suites beside the recipe's own test split"
    )
    control: str | None = Field(None, description="The same recipe straight over another base")
    batch_size: int = Field(64, ge=1)
    max_new_tokens: int = Field(24, ge=1)
    answer_after: str | None = Field(
        None, min_length=1, description="Open answers: what follows the last of these marks"
    )


class GateSpec(Section):
    """One promise. Exactly one of superior_by, at_most_ratio, at_least, at_most."""

    suite: str
    metric: Literal["accuracy", "loss", "contamination"]
    head: Literal["generative", "classifier"] | None = None
    against: Literal["base", "parent", "control", "chance", "none"] = "none"
    superior_by: float | None = None
    at_most_ratio: float | None = Field(None, gt=0)
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> GateSpec:
        bounds = (self.superior_by, self.at_most_ratio, self.at_least, self.at_most)
        if sum(b is not None for b in bounds) != 1:
            raise ValueError("give exactly one of superior_by, at_most_ratio, at_least, at_most")
        relative = self.superior_by is not None or self.at_most_ratio is not None
        if relative == (self.against == "none"):
            raise ValueError("superior_by and at_most_ratio need `against`; the others refuse it")
        fit = {
            "accuracy": (self.superior_by, self.at_least),
            "loss": (self.at_most_ratio, self.at_most),
            "contamination": (self.at_most,),
        }[self.metric]
        if all(bound is None for bound in fit):
            raise ValueError(
                "accuracy takes superior_by or at_least, loss at_most_ratio or at_most, "
                "contamination at_most"
            )
        if self.metric == "accuracy" and self.against in {"base", "parent"}:
            raise ValueError("accuracy is measured against control or chance")
        if self.metric == "loss" and self.against in {"control", "chance"}:
            raise ValueError("loss is measured against base or parent")
        return self


class Serve(Section):
    """What is exported and how it is served."""

    export: Annotated[tuple[Export, ...], BeforeValidator(_as_list)] = ("stacked",)
    max_model_len: int = Field(1024, ge=16)


class Recipe(Section):
    """One YAML file: one model to make (NAME; with a head also NAME-classifier)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    level: Level
    base: str | None = Field(
        None, min_length=1, description="Another recipe, a hub id, or a folder"
    )
    revision: str | None = Field(None, description="The base's hub revision; locked at first use")
    scratch: Scratch | None = None
    data: Data | None = None
    train: Train | None = None
    evaluate: Evaluate = Evaluate()
    gates: tuple[GateSpec, ...] = ()
    serve: Serve = Serve()

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if (self.base is None) == (self.scratch is None):
            raise ValueError("give exactly one of base or scratch")
        if self.scratch is not None and self.level != "L0":
            raise ValueError(f"scratch makes an L0, and this recipe is {self.level}")
        if (self.train is None) != (self.data is None):
            raise ValueError("data and train come together")
        if self.train is None and (self.level != "L0" or self.scratch is not None):
            raise ValueError("only an L0 with a base may leave out data and train")
        if self.train is None and (self.gates or self.evaluate != Evaluate()):
            raise ValueError("evaluate and gates need train: nothing would be judged")
        replay = self.data.replay if self.data is not None else None
        objectives = set(self.train.objective) if self.train is not None else set()
        if replay is not None and not objectives <= {"pretrain", "cpt"}:
            raise ValueError("data.replay mixes in text: it needs objective pretrain or cpt")
        if self.scratch is not None and self.train is not None and self.train.method != "full":
            raise ValueError("scratch weights are random: train.method must be full")
        return self


def recipe_schema() -> dict[str, Any]:
    """JSON Schema of a recipe file, `extends` included."""
    tree = Recipe.model_json_schema()
    tree["title"] = "gradus recipe"
    tree["properties"]["extends"] = {
        "type": "string",
        "description": "A recipe whose keys hold where this one says nothing",
    }
    # With `extends` any key may come from below, so an editor must not demand it here.
    tree.pop("required", None)
    return tree
