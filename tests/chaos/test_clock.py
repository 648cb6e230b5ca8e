from __future__ import annotations

import asyncio
import email.utils
import gc
import random
import sys
from collections.abc import Sequence
from urllib.parse import parse_qs

import attrs
import pytest

from aiobatch import AudienceClient, IndexingToken, PollingPolicy
from aiobatch.interfaces import Request, Response, Transport
from aiobatch.models import Operation
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.testing import FakeClock, json_response

from ..contract.stage import in_process
from .chaos_env import PROJECT, TARGETS, ChaosEnv, ids

PART = "Time"
_DAY = 86_400.0
_EPOCH = 1_800_000_000.0


class JumpingClock(FakeClock):
    """A clock whose wall time can jump. Its monotonic time does not."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def time(self) -> float:
        """Return seconds since the epoch, plus the offset."""
        return _EPOCH + super().time() + self.offset


@attrs.define
class RetryAfterDates:
    """A transport that turns `Retry-After` into a date of a server with a correct clock."""

    inner: Transport
    clock: FakeClock

    async def send(self, request: Request) -> Response:
        """Send, and replace seconds by dates."""
        response = await self.inner.send(request)
        if "retry-after" not in response.headers:
            return response
        now = _EPOCH + self.clock.monotonic()
        dates = {"retry-after": _format(now + 20), "date": _format(now)}
        return attrs.evolve(response, headers={**response.headers, **dates})

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self.inner.aclose()


def _format(seconds: float) -> str:
    return email.utils.formatdate(seconds, usegmt=True)


async def _run_waits(chaos_env: ChaosEnv, jump: float) -> float:
    """Write to 20 audiences and wait for them through pauses. Return the virtual seconds."""
    clock = JumpingClock()
    sandbox = Sandbox(SandboxOptions(indexing_delay=(1.0, 60.0), seed=3), monotonic=clock.monotonic)
    transport = RetryAfterDates(in_process(sandbox, clock), clock)
    names = [f"a{number}" for number in range(20)]

    async def jump_now_and_then() -> None:
        for _ in range(3):
            await clock.sleep(7)
            clock.offset += jump
            sandbox.fail_next("429", 2)

    client = AudienceClient(
        PROJECT, transport=transport, clock=clock, rng=random.Random(1), on_event=chaos_env.leak_search.hear
    )
    async with client, asyncio.TaskGroup() as group:
        jumping = group.create_task(jump_now_and_then())
        created = await asyncio.gather(*map(client.create, names))
        _ = [settled async for settled in client.settle([token for token in created if token])]
        tokens = await asyncio.gather(*(client.update(name, add=ids(10)) for name in names))
        outcomes = [settled.error async for settled in client.settle(tokens)]
        await jumping
        assert outcomes == [None] * len(names)
        assert all(set(sandbox.members(name)) == set(ids(10)) for name in names)
        chaos_env.case.add_requests(client)
        return clock.monotonic()


@pytest.mark.chaos(
    part=PART,
    done="the wall clock jumps by a day three times, while 20 waits and `Retry-After` dates are pending",
    holds="with jumps forward or back, all waits end at the same virtual time as without",
)
async def test_wall_clock_jumps_do_not_change_waits(chaos_env: ChaosEnv) -> None:
    """Waits use monotonic time, and dates are compared with the server's own."""
    without_jumps = await _run_waits(chaos_env, 0)
    assert await _run_waits(chaos_env, _DAY) == without_jumps
    assert await _run_waits(chaos_env, -_DAY) == without_jumps
    chaos_env.case.facts[:-1] = []
    chaos_env.case.add_fact(f"finished after {without_jumps:.1f} virtual seconds each")


class EndlessIndexing:
    """A transport to a service in which every token stays in progress."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    async def send(self, request: Request) -> Response:
        """Answer a view or a page of the list."""
        audience = {"type": "custom_ids", "nb_ids": 0, "indexing_state": "IN_PROGRESS"}
        if request.operation != "list":
            return json_response(200, audience | {"name": "a"})
        cursor = parse_qs(request.target.partition("?")[2]).get("from", ["0"])[0]
        end = int(cursor) + 100
        rows = [audience | {"name": name} for name in self._names[end - 100 : end]]
        more = {"has_more": True, "next_from": str(end)} if end < len(self._names) else {"has_more": False}
        return json_response(200, {"audiences": rows, "count": len(self._names)} | more)

    async def aclose(self) -> None:
        """Do nothing."""


@pytest.mark.sweep
@pytest.mark.parametrize(
    "api",
    [
        pytest.param(
            api,
            marks=pytest.mark.chaos(
                part=PART,
                done=f"API {api}: 10,000 waits are open for 10 minutes of virtual time",
                holds="memory and tasks do not grow from minute 2 to minute 10. Then all waits end in time",
                short=api == "2.x",
            ),
        )
        for api in TARGETS
    ],
)
async def test_long_waits_do_not_grow(api: str, chaos_env: ChaosEnv) -> None:
    """The memory and tasks of open waits stay constant."""
    case, clock = chaos_env.case, FakeClock(autojump=False)
    names = [f"a{number}" for number in range(case.size(100, 10_000))]
    client = AudienceClient(
        TARGETS[api],
        transport=EndlessIndexing(names),
        clock=clock,
        rng=random.Random(1),
        polling=PollingPolicy(timeout=620, maximum=120),
    )
    async with client:
        tokens = [IndexingToken(name, f"t{name}", Operation.UPDATE) for name in names]
        waits = [asyncio.ensure_future(client.await_applied(token)) for token in tokens]
        await clock.advance(120)
        early = _measure()
        await clock.advance(480)
        late = _measure()
        polls = client.stats.polls
        await clock.advance(30)
        errors = await asyncio.gather(*waits, return_exceptions=True)
    chaos_env.leak_search.errors += [error for error in errors[:10] if isinstance(error, BaseException)]
    assert {type(error).__name__ for error in errors} == {"IndexingTimeoutError"}
    # A wait keeps its first answer, so allow a few for each wait. A leak for each poll would be more.
    slack = {"tasks": 0, "objects": 2 * len(names), "memory blocks": 1_000 + 10 * len(names)}
    for (name, limit), before, after in zip(slack.items(), early, late, strict=True):
        case.add_fact(f"{name}: {before:,} at minute 2, {after:,} at minute 10")
        assert after <= before + limit
    case.add_fact(f"{polls:,} polls for {len(names):,} waits in 10 minutes")


def _measure() -> tuple[int, int, int]:
    """Return the numbers of tasks, tracked objects and allocated memory blocks.

    The resident size of the process is no measure: the allocator and earlier tests change it.
    """
    gc.collect()
    return len(asyncio.all_tasks()), len(gc.get_objects()), sys.getallocatedblocks()
