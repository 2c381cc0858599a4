"""The edge: what a client may send, and how it is told no, in OpenAI's own shape.

A request is read within limits, checked against an allow-list of fields, and rebuilt; no
byte of a client's body goes to an engine as it came.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

MAX_BODY_BYTES = 1 << 20
MAX_DEPTH = 64


class ApiError(Exception):
    """A refusal in OpenAI's error shape.

    Attributes:
        status: HTTP status.
        param: The field at fault, or None.
        code: OpenAI's word for it, or None.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        kinds = {401: "authentication_error", 404: "not_found_error"}
        kind = "api_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }


class _Edge(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _TextPart(_Edge):
    # No images, audio or files: an engine would fetch a client's URL.
    type: Literal["text"]
    text: str


class _Message(_Edge):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_TextPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    # An assistant's answer is sent back as it came, these among its fields.
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    annotations: None = None
    audio: None = None
    function_call: None = None


class _StreamOptions(_Edge):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


_StopText = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]


class ChatRequest(_Edge):
    """The allow-list for POST /v1/chat/completions.

    OpenAI's fields (platform reference, "Create chat completion") and those of vLLM's
    sampling parameters that evaluation needs.
    """

    model: str
    messages: list[_Message] = Field(min_length=1, max_length=4096)
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Tokens | None = None
    max_completion_tokens: _Tokens | None = None
    n: int | None = Field(None, ge=1, le=8)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    stop: _StopText | Annotated[list[_StopText], Field(max_length=16)] | None = None
    seed: int | None = Field(None, ge=0, lt=2**63)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None, max_length=1024
    )
    tools: list[dict[str, Any]] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    structured_outputs: dict[str, Any] | None = None
    top_k: int | None = Field(None, ge=-1, le=1_000_000)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    min_tokens: int | None = Field(None, ge=0, le=10_000_000)
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None


def parse_chat(raw: bytes) -> dict[str, Any]:
    """A chat request's body, checked; fields that are null are left out.

    Raises:
        ApiError: 400 for anything that is not a JSON object of allowed fields.
    """
    body = _parse_object(raw)
    try:
        ChatRequest.model_validate(body)
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
    return {key: value for key, value in body.items() if value is not None}


def to_bytes(body: dict[str, Any]) -> bytes:
    """The rebuilt request.

    Raises:
        ApiError: 400 where the text is not Unicode (a lone surrogate) or a number is not finite.
    """
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (UnicodeEncodeError, ValueError):
        raise ApiError(
            400, "The body holds text that is not Unicode, or a number that is not finite"
        ) from None


def _parse_object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(
            raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except RecursionError:
        raise ApiError(400, "The body is nested too deeply", code="invalid_json") from None
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not UTF-8", code="invalid_json") from None
    except ValueError as error:
        message = f"The body is not valid JSON: {str(error)[:200]}"
        raise ApiError(400, message, code="invalid_json") from None
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object", code="invalid_json")
    if _depth(body) > MAX_DEPTH:
        raise ApiError(400, f"The body is nested more than {MAX_DEPTH} deep", code="invalid_json")
    return body


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers that each keep another one of the two would disagree on what was asked.
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _depth(body: dict[str, Any]) -> int:
    level: list[Any] = [body]
    depth = 0
    while level:
        depth += 1
        inner: list[Any] = []
        for item in level:
            inner.extend(item.values() if isinstance(item, dict) else item)
        level = [item for item in inner if isinstance(item, dict | list)]
    return depth


def _place(loc: tuple[int | str, ...]) -> str:
    """``("messages", 0, "_TextPart", "text")`` as ``messages[0].text``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif "[" not in part and not part.startswith("_") and part not in ("str", "dict"):
            text += f".{part}" if text else part
    return text or "body"
