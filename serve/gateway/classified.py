"""POST /v1/classify by whatever a route has: a head, or labels that its model writes."""

from __future__ import annotations

from serve.gateway.classify import Answered, Ask, Asked, classify, each_answered
from serve.gateway.directory import Route
from serve.gateway.errors import ApiError
from serve.heads import Answer


async def classified(route: Route, asked: Asked, ask: Ask) -> Answered:
    """Every input's answer.

    Args:
        route: with a head or scores.

    Raises:
        ApiError: as ``classify`` and ``LabelScores.answer``; 400 for features that are for heads.
    """
    scores, reading = route.scores, route.reading
    assert reading is not None
    if route.head is not None:
        return await classify(route.name, route.version, route.head, reading, asked, ask)
    assert scores is not None
    if any(asked.features):
        raise ApiError(
            400, f"features: {route.name} has no head that takes any",
            param="features", code="invalid_value",
        )  # fmt: skip

    async def one(index: int) -> tuple[Answer, int]:
        return await scores.answer(reading, asked.conversations[index], ask)

    return await each_answered(route.name, route.version, len(asked.conversations), one)
