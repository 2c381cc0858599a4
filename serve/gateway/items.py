"""What a response's ``input`` may hold: turns, calls of tools, and what came of them.

Nothing else reaches the engine. It reads an item that is of no kind as one of thirty, and tells
what is wrong with each: some thousands of ``{}`` keep its one event loop for ten seconds, and every
stream with it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_ITEMS = 4096


class _Item(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    # An output is sent back as it came, with all that it has not, in its client's words for it.
    __pydantic_extra__: dict[str, None]


_Nothing = Annotated[list[Any], Field(max_length=0)] | None


class _InputText(_Item):
    # No images or files: an engine would fetch a client's URL.
    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: _Nothing = None
    logprobs: _Nothing = None


_Texts = Annotated[list[_InputText], Field(fail_fast=True)]


class _Turn(_Item):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | _Texts
    type: Literal["message"] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class _Called(_Item):
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: str | None = None


class _CameOfIt(_Item):
    type: Literal["function_call_output"]
    call_id: str
    output: str | _Texts
    id: str | None = None
    status: str | None = None


class _ThoughtText(_Item):
    type: Literal["summary_text", "reasoning_text"]
    text: str


_Thoughts = Annotated[list[_ThoughtText], Field(fail_fast=True)]


class _Thought(_Item):
    type: Literal["reasoning"]
    id: str
    summary: _Thoughts
    content: _Thoughts | None = None
    status: str | None = None


InputItems = Annotated[
    list[_Turn | _Called | _CameOfIt | _Thought],
    Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True),
]
