"""What a call may cost in tokens, before anybody has counted them.

A key's limit is charged by it, and it is all that is known where a client goes before the engine
tells: so nothing that an engine reads may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.gateway.directory import Route

_CHAT, _CLASSIFY = "/v1/chat/completions", "/v1/classify"
_UNBOUNDED = 256
"""Tokens of an answer that nobody bounded."""
_WRITES = {
    _CHAT: ("max_completion_tokens", "max_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
"""Routes whose answer costs tokens, and what bounds them."""
_READ = ("messages", "prompt", "input", "instructions", "tools")
"""Fields whose text an engine reads."""


def estimate(path: str, body: Mapping[str, Any], route: Route | None) -> int:
    """Tokens of the prompts, and the bound of each answer.

    Args:
        body: checked.
        route: whose settings are added to the body.
    """
    if path not in _WRITES:
        return estimated_prompt(path, body, route)
    bounds = (body.get(name) for name in _WRITES[path])
    longest = None if route is None else route.rendering.defaults.longest
    answer = next((bound for bound in bounds if bound is not None), longest or _UNBOUNDED)
    prompt = body.get("prompt")
    many = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
    return estimated_prompt(path, body, route) + int(answer) * int(body.get("n") or 1) * many


def estimated_prompt(path: str, body: Mapping[str, Any], route: Route | None) -> int:
    """Tokens of the prompts: ids as they are, of text four bytes each."""
    quarters = sum(_given(body[name]) for name in _READ if name in body)
    if route is not None and path == _CHAT:
        quarters += _written(route.rendering.system)
    elif route is not None and path == _CLASSIFY and route.reading is not None:
        quarters += _written(route.reading.system) * _asked(body)
    return quarters // 4


def _asked(body: Mapping[str, Any]) -> int:
    """How many texts or conversations are to be classified."""
    texts, messages = body.get("input"), body.get("messages")
    if isinstance(texts, list):
        return len(texts)
    return len(messages) if isinstance(messages, list) and isinstance(messages[0], list) else 1


def _given(prompt: Any) -> int:
    """Quarters of tokens of what a request gives to be read: ids count as they are."""
    if isinstance(prompt, list) and prompt:
        kinds = set(map(type, prompt))
        if kinds == {int}:
            return 4 * len(prompt)
        if kinds == {list}:
            return sum(map(_given, prompt))
    return _written(prompt)


def _written(said: Any) -> int:
    """Quarters of tokens of any JSON, its names and numbers too: a prompt may hide anywhere."""
    if isinstance(said, str):
        size = len(said) if said.isascii() else len(said.encode("utf-8", "surrogatepass"))
        return max(4, size)
    if isinstance(said, list):
        return sum(map(_written, said))
    if isinstance(said, dict):
        return sum(map(_written, said)) + sum(map(_written, said.values()))
    return 0 if said is None else max(4, len(str(said)))
