from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from aiobatch import AudienceClient, Member
from aiobatch.dialects import dialect_for
from aiobatch.interfaces import Request, Response
from aiobatch.sync import GuardPolicy, RunOutcome, SyncOptions, SyncReport, sync_audience
from aiobatch.sync.run._audience_run import AudienceRun
from aiobatch.testing import FakeTransport, json_response

from ...helpers.sweep import examples
from ..sync_env import PROJECT, SyncEnv, ids, sync_env, until

OPEN = GuardPolicy(max_removals_percent=None)


async def _until_progress(env: SyncEnv, moment: int, syncing: asyncio.Task[SyncReport]) -> None:
    """Wait until a run has published so many changes, or has ended."""
    await until(lambda: syncing.done() or len(env.progress) >= moment)


async def test_cancelling_leaves_no_task_and_the_next_run_continues(quick_path: Path) -> None:
    """After a cancellation at any moment no task is left, and the next run continues from there."""
    random = Random(1)
    async with sync_env(quick_path, faults={"503": 0.1, "lost": 0.1}) as env:
        for round_ in range(examples(5, 15)):
            source = ids(random.sample(range(400), 250))
            before = asyncio.all_tasks()
            moment = len(env.progress) + random.randint(0, 90)
            syncing = asyncio.create_task(env.sync(source, guard=OPEN))
            await _until_progress(env, moment, syncing)
            await asyncio.sleep(random.uniform(0, 0.01))
            syncing.cancel()
            if round_ % 3 == 0:
                await asyncio.sleep(0)
                syncing.cancel()  # twice is no worse
            with contextlib.suppress(asyncio.CancelledError):
                await syncing
            tasks = asyncio.all_tasks() - before
            left = {task for task in tasks if "RequestHandler" not in repr(task.get_coro())}
            assert left == set()
        await env.sync(source, guard=OPEN)
        assert await env.has_exactly(source)
        outcomes = {run.outcome for run in await env.runs()}
        assert outcomes <= {RunOutcome.INTERRUPTED, RunOutcome.DONE}


async def test_cancelling_before_the_first_request_closes_the_journal(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose chunks are journaled but not sent ends as interrupted, and the next run is exact."""
    reached = asyncio.Event()

    async def wait(_run: AudienceRun) -> SyncReport:
        reached.set()
        return await asyncio.Future[SyncReport]()

    async with sync_env(quick_path) as env:
        with monkeypatch.context() as patch:
            patch.setattr(AudienceRun, "send", wait)
            syncing = asyncio.create_task(env.sync(ids(range(30))))
            await reached.wait()
            syncing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await syncing
        assert [run.outcome for run in await env.runs()] == [RunOutcome.INTERRUPTED]
        await env.sync(ids(range(30)))
        assert await env.has_exactly(ids(range(30)))


async def test_timeout_ends_a_sync(quick_path: Path) -> None:
    """`asyncio.timeout` works around a sync as around anything else."""
    async with sync_env(quick_path, indexing_delay=5) as env:
        try:
            async with asyncio.timeout(0.3):
                await env.sync(ids(range(30)))
        except TimeoutError:
            timed_out = True
        assert timed_out


async def test_cancelled_sync_stops_an_endless_source(quick_path: Path) -> None:
    """A generator is read in a thread, which ends with the sync."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless() -> Iterator[str]:
        for number in itertools.count():
            if number == 100_000:
                loop.call_soon_threadsafe(begun.set)
            yield f"user-{number}"

    async with sync_env(quick_path) as env:
        task = asyncio.create_task(env.sync(endless()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def _people(count: int) -> Iterator[Member]:
    """Return members with fifteen attributes each."""
    return (Member(f"user-{n}", attributes={f"a{i}": i for i in range(15)}) for n in range(count))


def _work_of_a_call() -> float:
    """Return what it takes to build a call of 10,000 members, in seconds of this thread's CPU."""
    members = list(_people(10_000))
    before = time.thread_time()
    dialect_for(PROJECT).build_update("vip", members, [])
    return time.thread_time() - before


async def test_sync_does_not_block_the_event_loop(quick_path: Path, callbacks: list[float]) -> None:
    """Reading, planning, journaling and building calls of 10,000 members never block other tasks."""

    def answer(request: Request) -> Response:
        if request.operation == "view":
            row = {"name": "vip", "type": "CUSTOM_ID", "indexing_state": "APPLIED"}
            return json_response(200, row | {"nb_ids": None if "token" in request.target else 0})
        return json_response(202, {"indexing_token": f"t{len(request.body)}"})

    async def hold_up(path: Path) -> float:
        building = _work_of_a_call()
        await asyncio.sleep(0)  # whose callback ends here
        callbacks.clear()
        async with AudienceClient(PROJECT, transport=FakeTransport(answer)) as client:
            options = SyncOptions(drift=11_000)
            report = await sync_audience(client, "vip", _people(11_000), state=path, options=options)
        assert report.calls == 2
        return max(callbacks) / building

    # What is promised is 50 ms; a machine on which a call takes 20 ms to build works at most 3 ms here.
    for attempt in range(5):  # a busy machine may disturb one or two
        held_up = await hold_up(quick_path / f"{attempt}.duckdb")
        if held_up < 0.75:
            break
    assert held_up < 0.75


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Note what each callback works on the loop's thread, in seconds of its CPU: whatever else is running."""
    worked = [0.0]
    run = asyncio.events.Handle._run
    gc.collect()
    gc.disable()  # what other tests have left is not to be looked through meanwhile

    def timed(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        run(handle)
        worked.append(time.thread_time() - before)

    monkeypatch.setattr(asyncio.events.Handle, "_run", timed)
    yield worked
    gc.enable()
