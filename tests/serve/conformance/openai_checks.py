"""What the official client is asked to do; each gives what it got, and the two sides must agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import openai
from conformance.openai_streams import joined, joined_events
from conformance.sides import MODEL
from pydantic import BaseModel

Check = Callable[[openai.OpenAI], Any]
CHECKS: dict[str, Check] = {}
USER = [{"role": "user", "content": "My card was declined"}]
PARAMETERS = {"type": "object", "properties": {"input": {"type": "integer"}}, "required": ["input"],
              "additionalProperties": False}  # fmt: skip
TOOL = {"type": "function", "function": {
    "name": "magic_function", "description": "Does magic.", "parameters": PARAMETERS}}  # fmt: skip
FLAT_TOOL = {"type": "function", **TOOL["function"], "strict": True}  # type: ignore[dict-item]
NAMED = {"type": "function", "function": {"name": "magic_function"}}
SCHEMA = {"type": "json_schema",
          "json_schema": {"name": "magic", "schema": PARAMETERS, "strict": True}}  # fmt: skip
LONG = [{"role": "user", "content": "card " * 4000}]


class Magic(BaseModel):
    """A shape to be parsed into."""

    input: int


def dumped(answer: Any) -> Any:
    """What a client's object holds."""
    return answer.model_dump(mode="json", warnings=False)


def _add(name: str, check: Check) -> None:
    assert name not in CHECKS
    CHECKS[name] = check


def _chat(name: str, *, messages: Any = USER, extra: Any = None, **more: Any) -> None:
    """The same request whole, and as a stream."""
    asked = {"model": MODEL, "messages": messages, "extra_body": extra, **more}

    def streamed(client: openai.OpenAI) -> Any:
        return joined(
            dumped(chunk) for chunk in client.chat.completions.create(**asked, stream=True)
        )

    _add(f"chat: {name}", lambda client: dumped(client.chat.completions.create(**asked)))
    _add(f"chat stream: {name}", streamed)


def _completion(name: str, *, prompt: Any = "card\n", extra: Any = None, **more: Any) -> None:
    asked = {"model": MODEL, "prompt": prompt, "extra_body": extra, **more}

    def streamed(client: openai.OpenAI) -> Any:
        return joined(dumped(chunk) for chunk in client.completions.create(**asked, stream=True))

    _add(f"completion: {name}", lambda client: dumped(client.completions.create(**asked)))
    _add(f"completion stream: {name}", streamed)


def _response(name: str, *, given: Any = "My card was declined", **more: Any) -> None:
    asked = {"model": MODEL, "input": given, "store": False, **more}

    def streamed(client: openai.OpenAI) -> Any:
        return joined_events(dumped(e) for e in client.responses.create(**asked, stream=True))

    _add(f"response: {name}", lambda client: dumped(client.responses.create(**asked)))
    _add(f"response stream: {name}", streamed)


_add("models: list", lambda client: [model.id for model in client.models.list()])
_add("models: one", lambda client: client.models.retrieve(MODEL).id)
_add("models: error: unknown", lambda client: client.models.retrieve("none").id)

_chat("plain")
_chat("base", model="demo-l0")
_chat("system and turns", messages=[
    {"role": "system", "content": "Be brief."}, *USER,
    {"role": "assistant", "content": "When?"}, {"role": "user", "content": "Today"},
])  # fmt: skip
_chat("developer", messages=[{"role": "developer", "content": "Be brief."}, *USER])
_chat("text parts", messages=[{"role": "user", "content": [{"type": "text", "text": "card"}]}])
_chat("name of a speaker", messages=[{**USER[0], "name": "ada"}])
_chat("bounded", max_tokens=2)
_chat("bounded by the newer name", max_completion_tokens=2)
_chat("sampled", temperature=0.5, top_p=0.9, seed=1, presence_penalty=0.1, frequency_penalty=0.1)
_chat("several", n=2)
_chat("stop", stop=["was"])
_chat("log-probabilities", logprobs=True, top_logprobs=3)
_chat("user and metadata", user="ada", extra={"metadata": {"a": "b"}})
_chat("logit bias", logit_bias={"5": 1}, max_tokens=3)
_chat("engine's own sampling", extra={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1,
                                      "min_tokens": 1, "return_token_ids": True})  # fmt: skip
_chat("prompt's log-probabilities", extra={"prompt_logprobs": 1}, max_tokens=1)
_chat("tools, by the model's choice", tools=[TOOL])
_chat("tools, one at most", tools=[TOOL], parallel_tool_calls=False)
_chat("tools, none", tools=[TOOL], tool_choice="none")
_chat("tools, required", tools=[TOOL], tool_choice="required")
_chat("tools, named", tools=[TOOL], tool_choice=NAMED)
_chat("a tool's result", tools=[TOOL], messages=[
    *USER,
    {"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_1", "type": "function",
         "function": {"name": "magic_function", "arguments": '{"input": 3}'}}]},
    {"role": "tool", "tool_call_id": "call_1", "content": "5"},
])  # fmt: skip
_chat("text as format", response_format={"type": "text"})
_chat("any JSON", response_format={"type": "json_object"})
_chat("a schema", response_format=SCHEMA)
_chat("a choice", extra={"structured_outputs": {"choice": ["declined", "top up"]}})
_chat("a pattern", extra={"structured_outputs": {"regex": "[0-9]{3}"}})
_chat("the engine's word for a schema", extra={"structured_outputs": {"json": PARAMETERS}})
_chat("the last turn continued", messages=[*USER, {"role": "assistant", "content": "My"}], extra={
    "add_generation_prompt": False, "continue_final_message": True})  # fmt: skip

_completion("plain")
_completion("bounded", max_tokens=2)
_completion("token ids", prompt=[31, 32, 33], max_tokens=3)
_completion("several prompts", prompt=["card\n", "me\n"], max_tokens=3)
_completion("several answers", n=2, max_tokens=3)
_completion("echo", echo=True, max_tokens=2)
_completion("log-probabilities", logprobs=2, max_tokens=3)
_completion("echoed log-probabilities", echo=True, logprobs=1, max_tokens=1)
_completion("nothing but the echo", echo=True, logprobs=1, max_tokens=0)
_completion("stop", stop=" was")

_response("plain")
_response("instructions", instructions="Be brief.")
_response("turns", given=[{"role": "user", "content": "card"},
                          {"role": "assistant", "content": "When?"},
                          {"role": "user", "content": "Today"}])  # fmt: skip
_response("text parts", given=[{"role": "user", "content": [
    {"type": "input_text", "text": "card"}]}])  # fmt: skip
_response("bounded", max_output_tokens=2)
_response("sampled", temperature=0.5, top_p=0.9)
_response("metadata", metadata={"a": "b"}, user="ada")
_response("a tool's result", tools=[FLAT_TOOL], given=[
    {"role": "user", "content": "card"},
    {"type": "function_call", "call_id": "c", "name": "magic_function", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "5"},
])  # fmt: skip
_response("tools, by the model's choice", tools=[FLAT_TOOL])
_response("tools, required", tools=[FLAT_TOOL], tool_choice="required")
_response("a schema", text={"format": {"type": "json_schema", "name": "magic", "strict": True,
                                       "schema": PARAMETERS}})  # fmt: skip

_chat("error: unknown model", model="none")
_chat("error: no messages", messages=[])
_chat("error: unknown role", messages=[{"role": "king", "content": "x"}])
_chat("error: no text", messages=[{"role": "user"}])
_chat("error: too long", messages=LONG)
_chat("error: more than fits", max_tokens=1_000_000)
_chat("error: nothing to write", max_tokens=0)
_chat("error: fewer than nothing", max_tokens=-1)
_chat("error: temperature", temperature=-1)
_chat("error: top_p", top_p=1.5)
_chat("error: no answer", n=0)
_chat("error: penalty", presence_penalty=3)
_chat("error: log-probabilities of nobody", top_logprobs=3)
_chat("error: too many log-probabilities", logprobs=True, top_logprobs=1000)
_chat("error: a type", temperature="hot")
_chat("error: an unknown tool", tools=[TOOL], tool_choice={
    "type": "function", "function": {"name": "none"}})  # fmt: skip
_chat("error: a choice without tools", tool_choice="required")
_chat("error: a tool without a name", tools=[{"type": "function", "function": {}}])
_chat("error: no schema", response_format={"type": "json_schema"})
_chat("error: a broken schema", response_format={
    "type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 5}}})  # fmt: skip
_chat("error: an image", messages=[{"role": "user", "content": [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}])  # fmt: skip
_completion("error: unknown model", model="none")
_completion("error: an empty prompt", prompt="")
_completion("error: too long", prompt="card " * 4000)
_completion("error: an id of no token", prompt=[10**6])
_completion("error: best of several", best_of=3)
_completion("error: a suffix", suffix="x")
_response("error: unknown model", model="none")
_response("error: an earlier one", previous_response_id="resp_none")
_add("embeddings", lambda client: dumped(client.embeddings.create(model=MODEL, input="card")))


def _parsed(client: openai.OpenAI) -> Any:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=USER,  # type: ignore[arg-type]
        response_format=Magic,
    )
    return [dumped(answer), answer.choices[0].message.parsed.input]  # type: ignore[union-attr]


def _parsed_tool(client: openai.OpenAI) -> Any:
    tool = openai.pydantic_function_tool(Magic, name="magic_function")
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=USER,  # type: ignore[arg-type]
        tools=[tool],
        tool_choice="required",
    )
    return dumped(answer)


def _parsed_response(client: openai.OpenAI) -> Any:
    answer = client.responses.parse(model=MODEL, input="card", store=False, text_format=Magic)
    return [dumped(answer), answer.output_parsed.input]  # type: ignore[union-attr]


def _gone_on(client: openai.OpenAI) -> Any:
    """An answer, a tool's call among it, is sent back as it came."""
    given: list[Any] = [{"role": "user", "content": "card"}]
    for tools in ([], [FLAT_TOOL]):
        more: Any = {"tools": tools} if tools else {}
        answer = client.responses.create(model=MODEL, input=given, store=False, **more)
        given += answer.output
        given.append({"role": "user", "content": "And?"})
    return dumped(client.responses.create(model=MODEL, input=given, store=False))


def _followed(client: openai.OpenAI) -> Any:
    with client.chat.completions.stream(model=MODEL, messages=USER) as stream:  # type: ignore[arg-type]
        kinds = {event.type for event in stream}
        return [sorted(kinds), dumped(stream.get_final_completion())]


def _left(client: openai.OpenAI) -> Any:
    """A stream that its reader leaves; the next request is served."""
    asked: Any = {"model": MODEL, "messages": USER}
    with client.chat.completions.create(**asked, stream=True) as stream:
        first = dumped(next(iter(stream)))
    return [first, dumped(client.chat.completions.create(**asked))]


def _head(*, stream: bool) -> Check:
    def check(client: openai.OpenAI) -> Any:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            messages=USER,  # type: ignore[arg-type]
            stream=stream,
        )
        return [raw.status_code, raw.headers["content-type"].partition(";")[0]]

    return check


def _usage(client: openai.OpenAI) -> Any:
    chunks = client.chat.completions.create(
        model=MODEL,
        messages=USER,  # type: ignore[arg-type]
        stream=True,
        stream_options={"include_usage": True},
    )
    return joined(dumped(chunk) for chunk in chunks)


def _lines(client: openai.OpenAI) -> Any:
    """Server-sent events as they are on the wire."""
    with client.chat.completions.with_streaming_response.create(
        model=MODEL,
        messages=USER,  # type: ignore[arg-type]
        stream=True,
    ) as raw:
        lines = list(raw.iter_lines())
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2:2]]
    return [set(lines[1::2]), joined(events), lines[-2:]]


for _name, _check in (
    ("chat: parsed", _parsed),
    ("chat: a tool parsed", _parsed_tool),
    ("chat: followed", _followed),
    ("chat: left", _left),
    ("chat: head", _head(stream=False)),
    ("chat stream: head", _head(stream=True)),
    ("chat stream: lines", _lines),
    ("chat stream: usage", _usage),
    ("response: parsed", _parsed_response),
    ("response: gone on", _gone_on),
):
    _add(_name, _check)
