"""A recipe's `serve`: what is exported, how answers are drawn, how the engine is started."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from pipeline.core.engine_limits import ENGINE, REASONING_PARSERS, TOOL_PARSERS
from pipeline.core.schema_section import Section, as_list

Export = Literal["stacked", "merged"]
MAX_STOPS = 16
"""Texts of `stop`, and of a client's: as many as a request may hold."""


class Sampling(Section):
    """What an answer is drawn by where a client says nothing; bounded as the requests."""

    temperature: float | None = Field(None, ge=0, le=2, description="0: the likeliest token")
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, le=1_000_000, description="0 or -1: all")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="Of an answer")

    def stated(self) -> dict[str, Any]:
        """What is said, and nothing of what is not."""
        return self.model_dump(exclude_none=True)


def _known(parsers: frozenset[str], kind: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if isinstance(value, str) and value not in parsers:
            raise ValueError(
                f"{ENGINE} has no such {kind} parser; take {', '.join(sorted(parsers))}"
            )
        return value

    return BeforeValidator(check)


class EngineArguments(Section):
    """What vLLM is started with beside length, type and adapters; none: its own defaults."""

    tool_call_parser: Annotated[str, _known(TOOL_PARSERS, "tool call")] | None = Field(
        None, description="Finds tool calls in answers; without one tool_choice auto is refused"
    )
    reasoning_parser: Annotated[str, _known(REASONING_PARSERS, "reasoning")] | None = Field(
        None, description="Parts what was thought from what is answered"
    )
    max_num_seqs: int | None = Field(None, ge=1, le=65_536, description="Answers at a time")
    max_num_batched_tokens: int | None = Field(
        None, ge=1, le=10_000_000, description="Tokens of one step"
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of a GPU's memory, of each engine: heads have one",
    )
    tensor_parallel_size: int | None = Field(None, ge=1, le=64, description="GPUs of one engine")
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2"] | None = Field(
        None, description="fp8 holds twice the tokens; the parity gate may refuse its loss"
    )
    enable_prefix_caching: bool | None = Field(None, description="vLLM's default: true")

    def stated(self) -> dict[str, Any]:
        """What is said, and nothing of what is not."""
        return self.model_dump(exclude_none=True)


_StopText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_StopId = Annotated[int, Field(ge=0, lt=2**31)]


class Serve(Section):
    """What is exported and how it is served."""

    export: Annotated[tuple[Export, ...], BeforeValidator(as_list)] = ("stacked",)
    max_model_len: int | None = Field(
        None,
        ge=16,
        description="Prompt and answer together, in tokens; default 1024, or what the base has",
    )
    sampling: Sampling = Field(
        Sampling(), description="Over what the base's generation_config.json says"
    )
    stop: Annotated[tuple[_StopText, ...], BeforeValidator(as_list)] = Field(
        (), max_length=MAX_STOPS, description="Texts that end an answer, beside a client's own"
    )
    stop_token_ids: tuple[_StopId, ...] = Field(
        (), max_length=64, description="Token ids that end an answer, beside the base's own"
    )
    engine: EngineArguments = EngineArguments()

    @model_validator(mode="after")
    def _fits(self) -> Serve:
        most, length = self.sampling.max_tokens, self.max_model_len
        if most is not None and length is not None and most >= length:
            raise ValueError(
                f"sampling.max_tokens: {most} leave a prompt no room in max_model_len {length}; "
                "lower it, or leave it out"
            )
        batched = self.engine.max_num_batched_tokens
        if batched is not None and batched < (self.engine.max_num_seqs or 1):
            raise ValueError(
                f"engine.max_num_batched_tokens: {batched} are fewer than max_num_seqs "
                f"{self.engine.max_num_seqs}; raise it, or lower max_num_seqs"
            )
        return self
