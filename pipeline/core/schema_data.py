"""What a recipe may say of its rows: sources, splits, cleaning, synthetic rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from pipeline.core.features import pattern_problem
from pipeline.core.schema_section import Section, Seed, as_list

Format = Literal[
    "text", "messages", "sharegpt", "alpaca", "prompt_completion", "question_answer",
    "classification", "preference", "tagging", "regression", "instructions",
]  # fmt: skip
HUB_KEYS = ("config", "split", "revision")
"""What chooses among the parts and states of a hub data set."""
NO_WEIGHT = "weight mixes sources of data.train, and has no meaning here; leave it out"


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


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
        if self.generator is None and self.part is not None:
            raise ValueError("part chooses among a generator's rows; leave it out beside path")
        for name in (*HUB_KEYS, "files"):
            if self.generator is not None and getattr(self, name):
                raise ValueError(f"{name} has no meaning for a generator; leave it out")
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

    keep: Annotated[tuple[str, ...], BeforeValidator(as_list), Field(min_length=1)]
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
    quality: Annotated[tuple[Literal["gopher", "c4"], ...], BeforeValidator(as_list)] = ()
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


class Feature(Section):
    """A hand-made number beside the text, for the head of objective classify."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    column: str | None = Field(None, min_length=1, description="A numeric column of every row")
    pattern: str | None = Field(
        None, min_length=1, description="A regular expression; how often it matches the row's text"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> Feature:
        if (self.column is None) == (self.pattern is None):
            raise ValueError("give exactly one of column or pattern")
        problem = None if self.pattern is None else pattern_problem(self.pattern)
        if problem is not None:
            raise ValueError(f"pattern {problem}; mend it")
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
    features: tuple[Feature, ...] = Field(
        (), description="Numbers beside the text, joined to what objective classify's head reads"
    )
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

    @model_validator(mode="after")
    def _weights_mix_training_rows_only(self) -> Data:
        for name in ("validation", "test"):
            if getattr(getattr(self, name), "weight", None) is not None:
                raise ValueError(f"{name}: {NO_WEIGHT}")
        return self

    @model_validator(mode="after")
    def _features_apart(self) -> Data:
        names = [feature.name for feature in self.features]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"features names {twice!r} twice; rename one")
        return self
