"""Several engines behind one name: one that falls is passed over while nothing was answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator

import aiohttp
import pytest
import requests
from stub_engine import Stub
from stub_gateway import NAMES, Running, card, free_port, serving_door, serving_stub

from serve.gateway.directory import Route, Table
from serve.gateway.door import Door
from serve.gateway.upstreams import Upstream, UpstreamGroup

CHAT = {"model": "demo-l2", "messages": [{"role": "user", "content": "Hello"}]}
Start = Callable[..., Running]


@pytest.fixture
def before() -> Iterator[Start]:
    """A gateway before several stubs; they are asked in their order, as long as all are idle."""
    with contextlib.ExitStack() as stack:

        def start(*stubs: Stub, lost: int = 0) -> Running:
            ports = [free_port() for _ in range(lost)]
            ports += [stack.enter_context(serving_stub(stub)) for stub in stubs]
            group = UpstreamGroup([Upstream(f"http://127.0.0.1:{port}") for port in ports])
            routes = [Route(n, "c0ffee11", card(n), group, n, n) for n in NAMES]
            return stack.enter_context(serving_door(Door(directory=Table(routes)), stubs[0]))

        yield start


def posted(running: Running, *, stream: bool) -> requests.Response:
    return requests.post(
        f"{running.url}/v1/chat/completions", json={**CHAT, "stream": stream}, timeout=10
    )


def whole(answer: requests.Response, *, stream: bool) -> bool:
    if stream:
        return answer.content.endswith(b"data: [DONE]\n\n") and b"error" not in answer.content
    return bool(answer.json()["choices"][0]["finish_reason"] == "stop")


@pytest.mark.parametrize(
    ("how", "stream"),
    [*itertools.product(["asked", "500", "503"], [False, True]), ("head", True)],
)
def test_one_that_breaks_before_its_first_byte_fails_nobody(
    before: Start, how: str, stream: bool
) -> None:
    broken = Stub(fail=int(how)) if how.isdigit() else Stub(breaks=how)
    well = Stub()
    answer = posted(before(broken, well), stream=stream)
    assert answer.status_code == 200
    assert whole(answer, stream=stream)
    assert len(broken.seen) == len(well.seen) == 1


def test_a_request_that_breaks_engines_breaks_two_of_many_at_most(before: Start) -> None:
    stubs = [Stub(breaks="asked") for _ in range(4)]
    running = before(*stubs)
    answer = posted(running, stream=False)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert sum(len(stub.seen) for stub in stubs) == 2


def test_engines_that_cannot_be_reached_are_all_passed_over(before: Start) -> None:
    well = Stub()
    running = before(well, lost=3)
    (group,) = running.door.directory.groups()
    for member in group.members:
        # As they were before the first look at their health.
        member.well = True
    assert posted(running, stream=False).status_code == 200
    assert len(well.seen) == 1


def test_the_only_engines_own_error_is_told_as_it_is(before: Start) -> None:
    stub = Stub(fail=500)
    answer = posted(before(stub), stream=True)
    assert answer.status_code == 500
    assert answer.json()["error"]["message"] == "as asked"
    assert len(stub.seen) == 1


def test_one_that_falls_in_the_middle_is_not_begun_anew(before: Start) -> None:
    """Its client has read a part: another engine's words would not go on from there."""
    falls, well = Stub(tokens=50, die_after=5, chunk_s=0.01), Stub()
    answer = posted(before(falls, well), stream=True)
    events = [event for event in answer.content.split(b"\n\n") if event]
    assert json.loads(events[-1].removeprefix(b"data: "))["error"]["code"] == "engine_away"
    assert well.seen == []


def test_one_whose_health_is_bad_is_not_asked_until_it_is_well(before: Start) -> None:
    sick, well = Stub(healthy=False), Stub()
    running = before(sick, well)
    (group,) = running.door.directory.groups()
    for _ in range(100):
        if not group.members[0].usable:
            break
        time.sleep(0.05)
    for _ in range(3):
        assert posted(running, stream=False).status_code == 200
    assert sick.seen == []
    assert requests.get(f"{running.url}/readyz", timeout=5).status_code == 200
    well.healthy = False
    for _ in range(100):
        if requests.get(f"{running.url}/readyz", timeout=5).status_code == 503:
            break
        time.sleep(0.05)
    assert posted(running, stream=False).status_code == 503
    sick.healthy = True
    for _ in range(100):
        if requests.get(f"{running.url}/readyz", timeout=5).status_code == 200:
            break
        time.sleep(0.05)
    assert posted(running, stream=False).status_code == 200
    assert len(sick.seen) == 1


def test_a_busy_one_may_miss_two_looks_at_its_health_and_no_third(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.gateway.upstreams._CHECK_LIMIT", aiohttp.ClientTimeout(total=0.1))
    stub = Stub()

    async def looks(port: int) -> list[bool]:
        member, seen = Upstream(f"http://127.0.0.1:{port}"), []
        await member.open()
        for slow in (True, True, False, True, True, True, False):
            stub.health_s = 1.0 if slow else 0.0
            await member.look()
            seen.append(member.usable)
        stub.healthy = False
        await member.look()
        await member.close()
        return [*seen, member.usable]

    with serving_stub(stub) as port:
        found = asyncio.run(looks(port))
    assert found == [True, True, True, True, True, False, True, False]


def test_one_that_must_be_alone_waits_so_long_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody waits for it: else a single key could stop all others."""
    monkeypatch.setattr("serve.gateway.upstreams._ALONE_S", 0.2)
    member = Upstream("http://127.0.0.1:1", scores_alone=True)

    async def crowd() -> tuple[list[str], bool]:
        await member.enter(alone=False)
        waiting = [asyncio.create_task(member.enter(alone=True)) for _ in range(20)]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(member.enter(alone=False), 0.05)
        told = [str(each) for each in await asyncio.gather(*waiting, return_exceptions=True)]
        member.leave()
        member.leave()
        await asyncio.wait_for(member.enter(alone=True), 0.05)
        others = asyncio.create_task(member.enter(alone=False))
        await asyncio.sleep(0.05)
        had_it = not others.done()
        member.leave()
        await asyncio.wait_for(others, 0.05)
        return told, had_it

    told, had_it = asyncio.run(crowd())
    assert sum("wait to have the engine" in text for text in told) == 4
    assert sum("not idle for a moment" in text for text in told) == 16
    assert had_it


def test_one_that_comes_back_is_compared_before_it_is_asked() -> None:
    stub, compared = Stub(), list[bool]()

    async def comes_back(port: int) -> list[bool]:
        member = Upstream(f"http://127.0.0.1:{port}", compared=lambda: compared.pop(0))
        await member.open()
        seen = []
        # In this order: it is well; it is away; it is back, and another; back, and the same.
        for healthy, same in ((True, []), (False, []), (True, [False]), (True, [True])):
            stub.healthy, compared[:] = healthy, same
            await member.look()
            while compared:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            seen.append(member.usable)
        await member.close()
        return seen

    with pytest.MonkeyPatch.context() as patch, serving_stub(stub) as port:
        patch.setattr("serve.gateway.upstreams._DIFFERS_S", 0.0)
        assert asyncio.run(comes_back(port)) == [True, False, False, True]
