"""A deadline beside asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from serve.gateway.deadline import Deadline

Make = Callable[[float], AbstractAsyncContextManager[object]]


@contextlib.asynccontextmanager
async def ours(seconds: float) -> AsyncIterator[None]:
    with Deadline(seconds):
        yield


async def in_time(make: Make) -> None:
    async with make(5.0):
        await asyncio.sleep(0)
    # Nothing comes later.
    await asyncio.sleep(0.05)


async def late(make: Make) -> None:
    async with make(0.02):
        await asyncio.sleep(5)


async def error_inside(make: Make) -> None:
    async with make(5.0):
        raise KeyError("x")


async def inner_is_late(make: Make) -> None:
    async with make(5.0):
        with pytest.raises(TimeoutError):
            await late(make)
        await asyncio.sleep(0)


async def outer_is_late(make: Make) -> None:
    async with make(0.02), make(5.0):
        await asyncio.sleep(5)


async def somebody_cancels(make: Make) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.01, task.cancel)
    async with make(5.0):
        await asyncio.sleep(5)


async def both_at_once(make: Make) -> None:
    task = asyncio.current_task()
    assert task is not None

    async with make(0.0):
        task.cancel()
        await asyncio.sleep(5)


async def swallowed(make: Make) -> None:
    async with make(0.01):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(5)


async def waits_without_an_await(make: Make) -> None:
    async with make(-1.0):
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    "case",
    [
        in_time, late, error_inside, inner_is_late, outer_is_late, somebody_cancels, both_at_once,
        swallowed, waits_without_an_await,
    ],
)  # fmt: skip
def test_it_ends_as_asyncios_does(case: Callable[[Make], object]) -> None:
    def outcome(make: Make) -> tuple[object, int]:
        async def run() -> tuple[object, int]:
            task = asyncio.current_task()
            assert task is not None
            try:
                await case(make)  # type: ignore[misc]
                return None, task.cancelling()
            except BaseException as error:
                found = type(error), task.cancelling()
                task.uncancel()
                return found

        return asyncio.run(run())

    assert outcome(ours) == outcome(asyncio.timeout)
