"""Searches for keys and user IDs in everything that faulty sessions log, raise and return."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from aiobatch import (
    App,
    AudienceClient,
    Event,
    IndexingToken,
    Limits,
    Member,
    PollingPolicy,
    Project,
    RetryPolicy,
)
from aiobatch.sandbox import API_KEY, FAULT_KINDS, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions

from ..contract.stage import QuickClock
from ..helpers.leak_search import LeakSearch, chain, find, shown, stack
from ..helpers.sweep import examples, is_sweep

WRONG = "wrong-key-of-another-company"
KEYS = (REST_API_KEY, API_KEY, PROJECT_KEY, WRONG)
# A part of all user IDs here.
PRIVATE = "@private.example"
IDS = [f"user{number}{PRIVATE}" for number in range(25)]

TARGETS: dict[str, App | Project] = {
    "1.0": App(rest_api_key=REST_API_KEY, api_key=API_KEY),
    "1.1": App(rest_api_key=REST_API_KEY, api_key=API_KEY, version="1.1"),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY),
}
WRONG_TARGETS: dict[str, App | Project] = {
    "1.0": App(rest_api_key=WRONG, api_key=WRONG),
    "1.1": App(rest_api_key=REST_API_KEY, api_key=WRONG, version="1.1"),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=WRONG),
}
IMPATIENT = RetryPolicy(attempts=2, request_timeout=0.05)
BRISK = Limits(pause_maximum=1)


class FailingHook(LeakSearch):
    """A LeakSearch whose hook raises."""

    def hear(self, event: Event) -> None:
        """Record an event, and raise for every seventh, which the client logs."""
        super().hear(event)
        if len(self.values) % 7 == 0:
            msg = "the hook failed"
            raise RuntimeError(msg)


@pytest.fixture
async def leaks() -> AsyncIterator[LeakSearch]:
    """A search with all logs at DEBUG, including every step of the event loop."""
    leaks, root, loop = FailingHook(), logging.getLogger(), asyncio.get_running_loop()
    level, duration = root.level, loop.slow_callback_duration
    root.addHandler(leaks)
    root.setLevel(logging.DEBUG)
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    yield leaks
    loop.slow_callback_duration = duration
    loop.set_debug(False)
    root.setLevel(level)
    root.removeHandler(leaks)


def assert_silent(leaks: LeakSearch) -> None:
    """Check that there are no keys anywhere, and no user IDs above DEBUG."""
    assert leaks.errors, "the session had no failure"
    assert not find(KEYS, shown(leaks))
    assert not find(KEYS, (text for _, text in leaks.records))
    assert not find(KEYS, (stack(link) for error in leaks.errors for link in chain(error)))
    assert not find([PRIVATE], shown(leaks))
    assert not find([PRIVATE], (text for level, text in leaks.records if level > logging.DEBUG))


def calls(client: AudienceClient, name: str) -> list[Callable[[], Awaitable[object]]]:
    """Return one call of every method."""
    token = IndexingToken(name, "nobody-knows-it")
    tagged = Member("tagged" + PRIVATE, tags=[PRIVATE], attributes={"a": PRIVATE})

    def fail(_: int) -> None:
        msg = "the callback failed"
        raise RuntimeError(msg)

    async def collect(items: AsyncIterator[object]) -> object:
        return [item async for item in items]

    return [
        lambda: client.create(name, description="Our best"),
        lambda: client.update(name, add=IDS, remove=["old" + PRIVATE]),
        lambda: client.update(name, add=[*IDS, "bad\0" + PRIVATE]),
        lambda: client.update(name, add=IDS, remove=IDS[:1]),
        lambda: client.update(name, add=[tagged]),
        lambda: client.replace(name, IDS),
        lambda: client.upload(name, add=iter(IDS), on_progress=fail),
        lambda: client.upload(name, add=iter([*IDS, "bad\0" + PRIVATE])),
        lambda: client.view(name),
        lambda: collect(client.view_many([name, "ghost", "a b"])),
        lambda: collect(client.list_audiences()),
        lambda: client.await_applied(token, timeout=3),
        lambda: collect(client.settle([token, IndexingToken("ghost", "x")], timeout=3)),
        lambda: client.delete(name),
    ]


@contextlib.asynccontextmanager
async def opened(
    leaks: LeakSearch, target: App | Project, url: str, retry: RetryPolicy = IMPATIENT
) -> AsyncIterator[AudienceClient]:
    """Open a client and record its values at the end."""
    client = AudienceClient(
        target,
        base_url=url,
        retry=retry,
        limits=BRISK,
        clock=QuickClock(),
        on_event=leaks.hear,
        rng=random.Random(1),
    )
    async with client:
        yield client
        leaks.values += [client.stats, target, retry, BRISK, PollingPolicy(), client]
    leaks.values.append(client)


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API version."""
    return str(request.param)


@pytest.mark.sample(1)
async def test_faults_leak_nothing(leaks: LeakSearch, label: str) -> None:
    """Every kind of fault occurs in calls of every method."""
    options = SandboxOptions(faults=dict.fromkeys(FAULT_KINDS, 0.07), slow_answer=0.06, indexing_delay=0.002)
    async with Sandbox(options) as sandbox, opened(leaks, TARGETS[label], sandbox.url) as client:
        for number in range(examples(2, 4)):
            for call in calls(client, f"vip{number}"):
                await leaks.attempt(call())
    assert_silent(leaks)


@pytest.mark.sample(4)
@pytest.mark.parametrize("label", ["1.0"])
@pytest.mark.parametrize("kind", list(FAULT_KINDS))
async def test_permanent_fault_leaks_nothing(leaks: LeakSearch, label: str, kind: str) -> None:
    """The retries of every method are exhausted."""
    options = SandboxOptions(faults={kind: 1}, slow_answer=0.06)
    async with Sandbox(options) as sandbox, opened(leaks, TARGETS[label], sandbox.url) as client:
        for call in calls(client, "vip"):
            await leaks.attempt(call())
    assert_silent(leaks)


async def test_wrong_keys_are_not_shown(leaks: LeakSearch, label: str) -> None:
    """Wrong keys stay secret too, because they may be right elsewhere."""
    async with Sandbox() as sandbox, opened(leaks, WRONG_TARGETS[label], sandbox.url) as client:
        for call in calls(client, "vip"):
            await leaks.attempt(call())
    assert_silent(leaks)


@pytest.mark.sample(1)
async def test_cancelled_calls_leak_nothing(leaks: LeakSearch, label: str) -> None:
    """A CancelledError has a traceback too, from inside the request."""
    options = SandboxOptions(faults={"slow": 1}, slow_answer=0.06)
    patient = RetryPolicy()
    async with Sandbox(options) as sandbox, opened(leaks, TARGETS[label], sandbox.url, patient) as client:
        for call in calls(client, "vip"):
            for seconds in (0, 0.005, 0.03):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await leaks.attempt(call())
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0.01)
            leaks.values.append(repr(asyncio.all_tasks()))
            task.cancel()
            await leaks.attempt(task)
    assert any(isinstance(error, asyncio.CancelledError) for error in leaks.errors)
    assert_silent(leaks)


async def test_closed_client_leaks_nothing(leaks: LeakSearch, label: str) -> None:
    """Calls in flight and later calls end in errors."""
    options = SandboxOptions(faults={"slow": 1}, slow_answer=0.06)
    async with Sandbox(options) as sandbox, opened(leaks, TARGETS[label], sandbox.url) as client:
        in_flight = [asyncio.ensure_future(leaks.attempt(call())) for call in calls(client, "vip")]
        await asyncio.sleep(0.01)
        await client.aclose()
        await asyncio.gather(*in_flight)
        for call in calls(client, "vip"):
            await leaks.attempt(call())
    assert_silent(leaks)


@pytest.mark.sample(1)
async def test_failed_connections_leak_nothing(leaks: LeakSearch, label: str) -> None:
    """One server does not listen, another does not use TLS."""
    async with Sandbox() as gone, Sandbox() as plain:
        urls = (gone.url, plain.url.replace("http", "https"))
        await gone.aclose()
        for url in urls:
            async with opened(leaks, TARGETS[label], url) as client:
                for call in calls(client, "vip"):
                    await leaks.attempt(call())
    assert_silent(leaks)


SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: %(size)d\r\n"
ECHOES: dict[str, bytes] = {
    "error": SIZED.replace(b"200", b"400") + b'\r\n{"code": 31, "message": "%(text)s"}',
    "error of 2.x": SIZED.replace(b"200", b"401")
    + b'\r\n{"error_code":"%(text)s","error_message":"%(text)s"}',
    "html": SIZED.replace(b"200", b"502") + b"\r\n<html>%(text)s</html>",
    "reason": b"HTTP/1.1 404 %(text)s\r\nContent-Length: 0\r\n\r\n",
    "location": b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/%(text)s\r\nContent-Length: 0\r\n\r\n",
    "retry-after": b"HTTP/1.1 429 Slow\r\nRetry-After: %(text)s\r\nContent-Length: 0\r\n\r\n",
    "no http": b"%(text)s\r\n\r\n",
    "a broken field": b"HTTP/1.1 200 OK\r\n%(text)s\r\n\r\n",
    "a broken length": b"HTTP/1.1 200 OK\r\nContent-Length: %(text)s\r\n\r\n",
    "a broken chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%(text)s\r\n",
    "an encoding": SIZED + b"Content-Encoding: gzip\r\n\r\n%(text)s",
    "no json": SIZED + b'\r\n{"%(text)s}',
    "a wrong type": SIZED + b'\r\n{"name":5,"type":["%(text)s"],"%(text)s":1}',
    "a wrong time": SIZED + b'\r\n{"name":"vip","type":"x","created":"%(text)s"}',
    "a wrong token": SIZED + b'\r\n{"indexing_token":" %(text)s "}',
}


# The short form of the suite tries each echo on one API, in turn.
ECHO_CASES = [
    (label, echo)
    for number, echo in enumerate(ECHOES)
    for turn, label in enumerate(("1.0", "2.x"))
    if is_sweep() or number % 2 == turn
]


@pytest.mark.sample(4)
@pytest.mark.parametrize(("label", "echo"), ECHO_CASES)
async def test_echoed_keys_are_masked(leaks: LeakSearch, label: str, echo: str) -> None:
    """A server returns keys in bodies, in header fields, and in responses that are not HTTP."""
    text = b" ".join([key.encode() for key in KEYS] + [member_id.encode() for member_id in IDS[:3]])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, EOFError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            head, end, body = ECHOES[echo].partition(b"\r\n\r\n")
            body %= {b"text": text} if b"%(" in body else {}
            writer.write((head + end) % {b"text": text, b"size": len(body)} + body)
            await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened(leaks, TARGETS[label], url) as client:
        for call in calls(client, "vip"):
            await leaks.attempt(call())
    assert leaks.errors
    # The client removes its own keys from Batch's messages. It does not know other keys, or IDs.
    own = [REST_API_KEY, API_KEY if label == "1.0" else PROJECT_KEY]
    assert not find(own, shown(leaks))
    assert not find(own, (text for _, text in leaks.records))
    assert not find(own, (stack(link) for error in leaks.errors for link in chain(error)))
