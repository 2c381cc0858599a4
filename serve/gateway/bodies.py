"""What a client may send to each route: an allow-list of fields, every one of them bounded.

OpenAI's fields (platform reference) and those of vLLM's sampling parameters that evaluation
needs. What is not named here is refused: cache_salt, priority, chat_template, vllm_xargs, ...
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from serve.gateway.errors import ApiError
from serve.gateway.items import InputItems
from serve.gateway.shapes import require_small_shapes

MAX_PROMPTS = 256
MAX_PROMPT_IDS = 1 << 18
MAX_SCORED = 16


# An error for each of a million items would cost seconds: the first one ends a list.
_First = Field(fail_fast=True)


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _TextPart(_Edge):
    # No images, audio or files: an engine would fetch a client's URL.
    type: Literal["text"]
    text: str


class _Message(_Edge):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[_TextPart], _First] | None = None
    name: str | None = None
    tool_calls: Annotated[list[dict[str, Any]], _First] | None = None
    tool_call_id: str | None = None
    # An assistant's answer is sent back as it came, these among its fields.
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


def _no_number(value: Any) -> Any:
    # To a literal 0 is false.
    if not isinstance(value, bool):
        raise ValueError("Input should be false")
    return value


_False = Annotated[Literal[False], BeforeValidator(_no_number)]


class _StreamOptions(_Edge):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


_StopText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Id = Annotated[int, Field(ge=0, lt=2**31)]
_Ids = Annotated[list[_Id], _First, Field(min_length=1, max_length=MAX_PROMPT_IDS)]
_Text = Annotated[str, StringConstraints(min_length=1)]
_Texts = Annotated[list[_Text], _First, Field(min_length=1, max_length=MAX_PROMPTS)]
_IdLists = Annotated[list[_Ids], _First, Field(min_length=1, max_length=MAX_PROMPTS)]
_Objects = Annotated[list[dict[str, Any]], _First]


class _Sampling(_Edge):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Tokens | None = None
    n: int | None = Field(None, ge=1, le=8)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    stop: _StopText | Annotated[list[_StopText], _First, Field(max_length=16)] | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, max_length=1024
    )
    user: str | None = None
    # As OpenAI bounds it.
    metadata: dict[str, str] | None = Field(None, max_length=16)
    response_format: dict[str, Any] | None = None
    structured_outputs: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=-1, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    min_tokens: int | None = Field(None, ge=0, le=10_000_000)
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None


class ChatRequest(_Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[_Message], _First] = Field(min_length=1, max_length=4096)
    max_completion_tokens: _Tokens | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    prompt_logprobs: int | None = Field(None, ge=0, le=20)
    tools: _Objects | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    # What a turn of the assistant's that is already there is read with.
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class CompletionRequest(_Sampling):
    """POST /v1/completions; max_tokens may be 0 only where the prompt is echoed."""

    prompt: _Text | _Ids | _Texts | _IdLists
    max_tokens: int | None = Field(None, ge=0, le=10_000_000)
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=20)
    prompt_logprobs: int | None = Field(None, ge=0, le=20)
    best_of: int | None = Field(None, ge=1, le=1)
    suffix: None = None
    add_special_tokens: bool | None = None


class ResponsesRequest(_Edge):
    """POST /v1/responses, nothing kept: ``store`` may only be false."""

    model: str
    input: str | InputItems
    instructions: str | None = None
    max_output_tokens: _Tokens | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    stream: bool | None = None
    store: _False | None = None
    tools: _Objects | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    truncation: Literal["disabled"] | None = None
    user: str | None = None
    # As OpenAI bounds it.
    metadata: dict[str, str] | None = Field(None, max_length=16)


class EmbeddingsRequest(_Edge):
    """POST /v1/embeddings."""

    model: str
    input: _Text | _Ids | _Texts | _IdLists
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)
    user: str | None = None


_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "/v1/chat/completions": TypeAdapter(ChatRequest),
    "/v1/completions": TypeAdapter(CompletionRequest),
    "/v1/responses": TypeAdapter(ResponsesRequest),
    "/v1/embeddings": TypeAdapter(EmbeddingsRequest),
}


def check_body(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A route's body, checked; fields that are null are left out.

    Raises:
        ApiError: 400 for a field that is not allowed, or a value out of its bounds.
    """
    try:
        _ADAPTERS[path].validate_python(body)
    except ValidationError as error:
        # Of a union's errors the deepest tells most.
        errors = error.errors(include_url=False, include_input=False)
        first = max(errors, key=lambda each: len(each["loc"]))
        place = _place(first["loc"])
        if first["type"] == "extra_forbidden":
            raise ApiError(
                400, f"Unrecognized request argument: {place}", param=place, code="unknown_field"
            ) from None
        raise ApiError(400, f"{place}: {first['msg']}", param=place, code="invalid_value") from None
    made = {key: value for key, value in body.items() if value is not None}
    if made.get("max_tokens") == 0 and not made.get("echo"):
        raise ApiError(
            400, "max_tokens: 0 asks for nothing; set echo too, or at least 1",
            param="max_tokens", code="invalid_value",
        )  # fmt: skip
    prompts = made.get("prompt")
    many = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1
    if many * made.get("n", 1) > MAX_PROMPTS:
        raise ApiError(
            400, f"n: at most {MAX_PROMPTS} answers for all prompts together",
            param="n", code="invalid_value",
        )  # fmt: skip
    _require_short_scores(made)
    require_small_shapes(made)
    return made


def _require_short_scores(body: dict[str, Any]) -> None:
    """Where a prompt's log-probabilities are asked, the engine may be taken for that alone."""
    scored = body.get("prompt_logprobs") is not None or (
        body.get("echo") and body.get("logprobs") is not None
    )
    asked = body.get("max_completion_tokens", body.get("max_tokens", MAX_SCORED + 1))
    if scored and (asked > MAX_SCORED or body.get("n", 1) > 1):
        raise ApiError(
            400, f"max_tokens: at most {MAX_SCORED} beside log-probabilities of the prompt",
            param="max_tokens", code="invalid_value",
        )  # fmt: skip


def _place(loc: tuple[int | str, ...]) -> str:
    """``("messages", 0, "_TextPart", "text")`` as ``messages[0].text``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() and not part.startswith("_") and part not in ("str", "dict"):
            text += f".{part}" if text else part
    return text[:200] or "body"
