from __future__ import annotations

import asyncio
import email.utils
import gc
import random
import resource
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs

import attrs
import pytest

from aiobatch import AudienceClient, IndexingToken, PollingPolicy
from aiobatch._http import Request, Response
from aiobatch.models import Operation
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.testing import FakeClock, json_response
from aiobatch.transport import Transport

from ..contract.stage import in_process
from .chaos_env import PROJECT, TARGETS, Ground, ids

PART = "Time"
_DAY = 86_400.0
_EPOCH = 1_800_000_000.0


class JumpingClock(FakeClock):
    """A clock whose wall may jump; what is monotonic does not."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = 0.0

    def time(self) -> float:
        """Return seconds since the epoch, as far off as they are."""
        return _EPOCH + super().time() + self.offset


@attrs.define
class Dated:
    """A transport whose `Retry-After` is a date, of a server whose clock is right."""

    inner: Transport
    clock: FakeClock

    async def send(self, request: Request) -> Response:
        """Send, and say dates in place of seconds."""
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


async def _play(ground: Ground, jump: float) -> float:
    """Write to and wait for 20 audiences through pauses; return the virtual seconds that it took."""
    clock = JumpingClock()
    sandbox = Sandbox(SandboxOptions(indexing_delay=(1.0, 60.0), seed=3), monotonic=clock.monotonic)
    transport = Dated(in_process(sandbox, clock), clock)
    names = [f"a{number}" for number in range(20)]

    async def jump_now_and_then() -> None:
        for _ in range(3):
            await clock.sleep(7)
            clock.offset += jump
            sandbox.fail_next("429", 2)

    client = AudienceClient(
        PROJECT, transport=transport, clock=clock, rng=random.Random(1), on_event=ground.evidence.hear
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
        ground.case.count(client)
        return clock.monotonic()


@pytest.mark.fire(
    part=PART,
    done="the wall clock jumps by a day, three times, while 20 waits and `Retry-After` dates are pending",
    holds="forward or back, all ends at the very virtual second at which it ends without a jump",
)
async def test_a_clock_that_jumps(ground: Ground) -> None:
    """Whatever waits goes by monotonic time, and dates are compared with the server's own."""
    still = await _play(ground, 0)
    assert await _play(ground, _DAY) == still
    assert await _play(ground, -_DAY) == still
    ground.case.facts[:-1] = []
    ground.case.tell(f"ended after {still:.1f} virtual seconds each")


class Endless:
    """A transport to a service in which everything is in progress, without end."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    async def send(self, request: Request) -> Response:
        """Answer a view, or a page of the list as 2.x does."""
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


@pytest.mark.parametrize(
    "api",
    [
        pytest.param(
            api,
            marks=pytest.mark.fire(
                part=PART,
                done=f"API {api}: 10,000 waits are open for 10 minutes of virtual time",
                holds="no growth in memory or tasks from minute 2 to minute 10; then all end in time",
                short=api == "2.x",
            ),
        )
        for api in TARGETS
    ],
)
async def test_many_waits_for_long(api: str, ground: Ground) -> None:
    """Waiting costs what it costs at its beginning."""
    case, clock = ground.case, FakeClock(autojump=False)
    names = [f"a{number}" for number in range(case.size(100, 10_000))]
    client = AudienceClient(
        TARGETS[api],
        transport=Endless(names),
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
    ground.evidence.errors += [error for error in errors[:10] if isinstance(error, BaseException)]
    assert {type(error).__name__ for error in errors} == {"IndexingTimeoutError"}
    # A tuple of plain values is tracked or not, as the collector has seen it: one or two for each wait.
    slack = {"tasks": 0, "objects": 2 * len(names), "MB": 3 + early[2] // 50}
    for (what, most), before, after in zip(slack.items(), early, late, strict=True):
        case.tell(f"{what}: {before:,} at minute 2, {after:,} at minute 10")
        assert after <= before + most
    case.tell(f"{polls:,} polls for {len(names):,} waits in 10 minutes")


def _measure() -> tuple[int, int, int]:
    """Return the tasks, the objects that Python tracks, and the resident MB."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return len(asyncio.all_tasks()), len(gc.get_objects()), resident // 1_000_000
