"""Clients on several event loops of one process, each in a thread of its own, share by default."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from aiobatch import AudienceClient, Limits, Project, RateLimitedError, RetryPolicy
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeTransport, json_response
from aiobatch.transport._rate_limit import RateLimit
from aiobatch.transport._sharing import RateGroup
from aiobatch.transport._sharing import _scope as scopes
from aiobatch.transport._sharing._group import ProcessRate

from ...sync.sync_env import until

PROJECT = Project(rest_api_key="0123456789abcdef0123456789abcdef", project_key="fedcba9876543210")
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "APPLIED"}
ONCE = RetryPolicy(attempts=1)


def _client(answer: Callable[[Request], Response], *, limits: Limits | None = None) -> AudienceClient:
    transport = FakeTransport(answer)
    client = AudienceClient(PROJECT, base_url="https://one.example", retry=ONCE, limits=limits or Limits())
    client._paced._inner = transport
    return client


def _found(_: Request) -> Response:
    return json_response(200, VIEW)


async def _in_thread(work: Callable[[], Awaitable[None]]) -> None:
    """Run *work* on an event loop of another thread."""

    async def run() -> None:
        await work()

    await asyncio.to_thread(asyncio.run, run())


async def test_two_event_loops_share_slots() -> None:
    """Ten requests of two threads take ten slots of one limit, not five of two limits."""
    limits, seconds = Limits(rate=20.0), asyncio.get_running_loop().time

    async def work() -> None:
        async with _client(_found, limits=limits) as client:
            await asyncio.gather(barrier(), *(client.view("vip") for _ in range(5)))

    both = threading.Barrier(2)

    async def barrier() -> None:
        await asyncio.to_thread(both.wait, 60)  # neither client closes before the other is open

    start = seconds()
    await asyncio.gather(work(), _in_thread(work))
    assert seconds() - start >= 9 / 20


async def test_two_event_loops_share_a_pause_and_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """A 429 in one thread pauses and slows the client of another, which resumes with it."""
    answers = [json_response(429, {}, {"retry-after": "0"}), json_response(200, VIEW)]
    opened, may_probe, done = threading.Event(), threading.Event(), threading.Event()
    caplog.set_level("CRITICAL")

    async def other() -> None:
        async with _client(lambda _: answers.pop(0)) as client:
            opened.set()
            with pytest.raises(RateLimitedError):
                await client.view("vip")
            await asyncio.to_thread(may_probe.wait, 60)
            await client.view("vip")
            await asyncio.to_thread(done.wait, 60)

    async with _client(_found) as client:
        thread = asyncio.create_task(_in_thread(other))
        admission = client._paced.admission
        await until(lambda: admission.is_paused)
        assert client.rate_limit is not None
        may_probe.set()
        await until(lambda: not admission.is_paused)
        async with _client(_found) as late:
            assert late.rate_limit == client.rate_limit
        done.set()
        await thread


async def test_client_that_is_opened_during_a_pause_of_another_thread_follows_it() -> None:
    """It waits for the pause, and sends its own probe: the other thread may stop before its probe ends."""
    refusal = json_response(503, {}, {"retry-after": "60"})
    paused, done = threading.Event(), threading.Event()

    async def other() -> None:
        async with _client(lambda _: refusal) as client:
            with pytest.raises(Exception, match="503"):
                await client.view("vip")
            client._paced.admission.breaker.half_open = True
            paused.set()
            await asyncio.to_thread(done.wait, 60)

    thread = asyncio.create_task(_in_thread(other))
    await asyncio.to_thread(paused.wait, 60)
    async with _client(_found) as client:
        assert client._paced.admission.is_paused
        assert not client._paced.admission.breaker.half_open
    done.set()
    await thread


async def test_event_loop_that_was_closed_is_passed_over() -> None:
    """A client that was never closed, of a loop that is gone, does not stop the others."""
    left: list[AudienceClient] = []

    async def forget() -> None:
        left.append(await _client(_found).open())

    async with _client(_found) as client:
        await _in_thread(forget)
        admission = client._paced.admission
        assert len(admission.group.process.groups) == 2
        admission.on_refusal(503, 0.0)
        assert admission.is_paused
    admission = left[0]._paced.admission
    await admission.leave_group()


def test_no_slot_is_taken_twice() -> None:
    """Threads that take slots at the same time take different ones."""
    process = ProcessRate()
    limit = RateLimit(1000.0, process.state)

    def take() -> None:
        for _ in range(500):
            with process.lock:
                limit.take(0.0)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.state.slot == pytest.approx(2000 * 1.02 / 1000, rel=0.01)


def test_process_that_was_forked_shares_nothing() -> None:
    """The event loops of the parent do not run in it, and another thread may have held the lock."""
    scopes._rates["scope"] = rate = ProcessRate()
    with scopes._lock:
        scopes._start_again()
    assert not scopes._rates
    assert not scopes._lock.locked()
    assert rate.groups == ()


async def test_group_without_an_event_loop_is_called_by_none() -> None:
    """A group that no client has opened has nothing to follow."""
    RateGroup().call_soon(lambda member: member.follow_resume())
