"""Cancellation of every method by every task structure, which leaves no task and no request."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import AiobatchError, App, AudienceClient, IndexingToken, Project
from aiobatch.sandbox import API_KEY, FAULT_KINDS, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions
from aiobatch.testing import FakeClock

from ..conftest import leaked_tasks
from ..contract.stage import in_process
from ..helpers.sweep import examples

TARGETS: Mapping[str, App | Project] = {
    "1.0": App(rest_api_key=REST_API_KEY, api_key=API_KEY),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY),
}
Call = Callable[[AudienceClient, IndexingToken], Awaitable[object]]


async def collect(items: AsyncIterator[object]) -> list[object]:
    """Read an asynchronous iterator to its end."""
    return [item async for item in items]


async def stream(count: int) -> AsyncIterator[str]:
    """Yield IDs, with an iteration of the loop before each thousandth."""
    for number in range(count):
        if number % 1000 == 0:
            await asyncio.sleep(0)
        yield f"u{number}"


METHODS: Mapping[str, Call] = {
    "create": lambda client, _: client.create("other"),
    "view": lambda client, _: client.view("vip"),
    "view_many": lambda client, _: collect(client.view_many(["vip"] * 150, concurrency=20)),
    "list_audiences": lambda client, _: collect(client.list_audiences()),
    "update": lambda client, _: client.update("vip", add=["u1"]),
    "replace": lambda client, _: client.replace("vip", ["u1"]),
    "upload": lambda client, _: client.upload("vip", add=stream(10_500)),
    "await_applied": lambda client, token: client.await_applied(token, timeout=None),
    "settle": lambda client, token: collect(client.settle([token, IndexingToken("ghost", "x")])),
    "delete": lambda client, _: client.delete("vip"),
}


@contextlib.asynccontextmanager
async def opened(
    label: str, clock: FakeClock, seed: int = 0
) -> AsyncIterator[tuple[AudienceClient, Sandbox, IndexingToken]]:
    """Open a client of a sandbox with an audience that has a pending token."""
    sandbox = Sandbox(SandboxOptions(indexing_delay=60, seed=seed), monotonic=clock.monotonic)
    target = TARGETS[label]
    transport = in_process(sandbox, clock)
    client = AudienceClient(target, transport=transport, clock=clock, rng=random.Random(seed))
    async with client:
        making = asyncio.create_task(prepare(client, clock))
        while not making.done():
            await clock.advance(1)
        yield client, sandbox, making.result()


async def prepare(client: AudienceClient, clock: FakeClock) -> IndexingToken:
    """Create an audience and start an update of it."""
    await client.create("vip")
    await clock.sleep(61)
    return await client.update("vip", add=["u0"])


async def assert_nothing_left(client: AudienceClient) -> None:
    """Check that no task and no request is left."""
    assert not await leaked_tasks()
    assert client._paced.admission.in_flight == 0


async def assert_usable(client: AudienceClient, clock: FakeClock) -> None:
    """Check that a call and a wait succeed."""

    async def use() -> int | None:
        token = await client.update("vip", add=["last"])
        return (await client.await_applied(token)).nb_ids

    using = asyncio.create_task(use())
    while not using.done():
        await clock.advance(1)
    assert using.result()


@pytest.fixture(params=list(METHODS))
def method(request: pytest.FixtureRequest) -> Call:
    """The method to call."""
    return METHODS[str(request.param)]


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API version."""
    return str(request.param)


# Seconds of the fake clock until the cancellation: at once, during a request, between two requests.
MOMENTS = [0.0, 0.01, 0.05]


@pytest.mark.sample(15)
@pytest.mark.parametrize("moment", MOMENTS)
async def test_cancelled_task_raises_cancelled_error(label: str, method: Call, moment: float) -> None:
    """CancelledError is raised, and the client stays usable."""
    clock = FakeClock(autojump=False)
    async with opened(label, clock) as (client, _, token):
        task = asyncio.ensure_future(method(client, token))
        await clock.advance(moment)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        await assert_nothing_left(client)
        if method is not METHODS["delete"]:
            await assert_usable(client, clock)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_failed_task_group_raises_only_its_error(label: str, method: Call, moment: float) -> None:
    """The error of the other task is the only one."""
    clock = FakeClock(autojump=False)
    async with opened(label, clock) as (client, _, token):

        async def sibling() -> None:
            await clock.sleep(moment)
            raise ZeroDivisionError

        async def call() -> None:
            await method(client, token)

        async def group() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(call())
                tasks.create_task(sibling())

        task = asyncio.create_task(group())
        await clock.advance(moment)
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
        await assert_nothing_left(client)


async def test_timeout_of_the_caller(label: str, method: Call) -> None:
    """`asyncio.timeout` and `wait_for` raise their own TimeoutError."""
    clock = FakeClock(autojump=False)
    async with opened(label, clock) as (client, _, token):
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.005):
                await method(client, token)
        assert type(caught.value) is TimeoutError
        with pytest.raises(TimeoutError) as caught:
            await asyncio.wait_for(method(client, token), 0.005)
        assert type(caught.value) is TimeoutError
        await assert_nothing_left(client)


async def test_second_cancellation_leaves_nothing(label: str, method: Call) -> None:
    """A second cancellation during the first leaves no task either."""
    clock = FakeClock(autojump=False)
    async with opened(label, clock) as (client, _, token):
        task = asyncio.ensure_future(method(client, token))
        await clock.advance(0.03)
        if task.cancel():
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await assert_nothing_left(client)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_closing_ends_running_calls(label: str, method: Call, moment: float) -> None:
    """A call ends quickly when its client is closed."""
    clock = FakeClock(autojump=False)
    async with opened(label, clock) as (client, _, token):
        task = asyncio.ensure_future(method(client, token))
        await clock.advance(moment)
        await client.aclose()
        await clock.advance(10)
        assert task.done()
        await asyncio.gather(task, return_exceptions=True)
        await assert_nothing_left(client)


@pytest.mark.parametrize("name", ["view_many", "settle", "list_audiences"])
async def test_abandoned_iteration_leaves_nothing(label: str, name: str) -> None:
    """With `aclosing`, an iteration that ends early leaves no task."""
    clock = FakeClock()
    async with opened(label, clock) as (client, _, token):
        iterators: Mapping[str, AsyncIterator[object]] = {
            "view_many": client.view_many(["vip"] * 150),
            "settle": client.settle([token, IndexingToken("ghost", "x")]),
            "list_audiences": client.list_audiences(),
        }
        async with contextlib.aclosing(iterators[name]) as iterator:  # type: ignore[type-var]  # they are generators
            async for _ in iterator:
                break
        await assert_nothing_left(client)
        for other in iterators.values():
            await other.aclose()  # type: ignore[attr-defined]  # as above


async def test_cancelled_source_ends_the_call(label: str) -> None:
    """A source that raises CancelledError ends a call and does not hang it."""

    async def source() -> AsyncIterator[str]:
        yield "vip"
        raise asyncio.CancelledError

    clock = FakeClock()
    async with opened(label, clock) as (client, _, _):
        with pytest.raises(asyncio.CancelledError):
            await collect(client.view_many(source()))
        await assert_nothing_left(client)


STEPS = st.integers(0, 500)


@settings(max_examples=examples(15, 80))
@given(
    label=st.sampled_from(list(TARGETS)),
    names=st.lists(st.sampled_from(list(METHODS)), min_size=1, max_size=4),
    steps=st.lists(STEPS, min_size=4, max_size=4),
    faults=st.lists(st.sampled_from(list(FAULT_KINDS)), max_size=8),
    seed=st.integers(0, 100),
)
def test_any_call_cancelled_at_any_step(
    label: str, names: list[str], steps: list[int], faults: list[str], seed: int
) -> None:
    """Concurrent calls with faults leave nothing, and the client stays usable."""

    async def scenario() -> None:
        clock = FakeClock()
        async with opened(label, clock, seed) as (client, sandbox, token):
            for kind in faults:
                sandbox.fail_next(kind)
            tasks = [asyncio.ensure_future(METHODS[name](client, token)) for name in names]
            for task, turns in zip(tasks, steps, strict=False):
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            raised = [end for end in ends if isinstance(end, BaseException)]
            assert not [end for end in raised if not isinstance(end, AiobatchError | asyncio.CancelledError)]
            await assert_nothing_left(client)
            sandbox.clear_faults()
            if "delete" not in names:
                await assert_usable(client, clock)

    asyncio.run(scenario())
