"""One faulty session after the other, and then a search for the keys in all that they left behind."""

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
from ..helpers.leak_search import Evidence, chain, find, shown, stack

WRONG = "wrong-key-of-another-company"
KEYS = (REST_API_KEY, API_KEY, PROJECT_KEY, WRONG)
# What user ids have in common here.
PRIVATE = "@private.example"
IDS = [f"user{number}{PRIVATE}" for number in range(25)]

TARGETS: dict[str, App | Project] = {
    "1.0": App(rest_api_key=REST_API_KEY, api_key=API_KEY),
    "1.1": App(rest_api_key=REST_API_KEY, api_key=API_KEY, version="1.1"),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY),
}
STRANGERS: dict[str, App | Project] = {
    "1.0": App(rest_api_key=WRONG, api_key=WRONG),
    "1.1": App(rest_api_key=REST_API_KEY, api_key=WRONG, version="1.1"),
    "2.x": Project(rest_api_key=REST_API_KEY, project_key=WRONG),
}
IMPATIENT = RetryPolicy(attempts=2, request_timeout=0.05)
BRISK = Limits(pause_maximum=1)


class Unruly(Evidence):
    """Evidence whose hook is broken."""

    def hear(self, event: Event) -> None:
        """Keep an event, and fail now and then: that is logged."""
        super().hear(event)
        if len(self.values) % 7 == 0:
            msg = "a hook that is broken"
            raise RuntimeError(msg)


@pytest.fixture
async def evidence() -> AsyncIterator[Evidence]:
    """Everything is logged at DEBUG, every step of the event loop by asyncio itself."""
    evidence, root, loop = Unruly(), logging.getLogger(), asyncio.get_running_loop()
    level, duration = root.level, loop.slow_callback_duration
    root.addHandler(evidence)
    root.setLevel(logging.DEBUG)
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    yield evidence
    loop.slow_callback_duration = duration
    loop.set_debug(False)
    root.setLevel(level)
    root.removeHandler(evidence)


def assert_silent(evidence: Evidence) -> None:
    """Search for keys everywhere, and for user ids where they have no business."""
    assert evidence.errors, "a session without a failure proves nothing"
    assert not find(KEYS, shown(evidence))
    assert not find(KEYS, (text for _, text in evidence.records))
    assert not find(KEYS, (stack(link) for error in evidence.errors for link in chain(error)))
    assert not find([PRIVATE], shown(evidence))
    assert not find([PRIVATE], (text for level, text in evidence.records if level > logging.DEBUG))


def calls(client: AudienceClient, name: str) -> list[Callable[[], Awaitable[object]]]:
    """Return one call of every method."""
    token = IndexingToken(name, "nobody-knows-it")
    tagged = Member("tagged" + PRIVATE, tags=[PRIVATE], attributes={"a": PRIVATE})

    def fail(_: int) -> None:
        msg = "a callback that is broken"
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
    evidence: Evidence, target: App | Project, url: str, retry: RetryPolicy = IMPATIENT
) -> AsyncIterator[AudienceClient]:
    """Open a client and keep how it looks at its end."""
    client = AudienceClient(
        target,
        base_url=url,
        retry=retry,
        limits=BRISK,
        clock=QuickClock(),
        on_event=evidence.hear,
        rng=random.Random(1),
    )
    async with client:
        yield client
        evidence.values += [client.stats, target, retry, BRISK, PollingPolicy(), client]
    evidence.values.append(client)


@pytest.fixture(params=list(TARGETS))
def label(request: pytest.FixtureRequest) -> str:
    """The API."""
    return str(request.param)


async def test_a_session_full_of_faults(evidence: Evidence, label: str) -> None:
    """Every kind of fault befalls every method."""
    options = SandboxOptions(faults=dict.fromkeys(FAULT_KINDS, 0.07), slow_answer=0.06, indexing_delay=0.002)
    async with Sandbox(options) as sandbox, opened(evidence, TARGETS[label], sandbox.url) as client:
        for number in range(4):
            for call in calls(client, f"vip{number}"):
                await evidence.attempt(call())
    assert_silent(evidence)


@pytest.mark.parametrize("label", ["1.0"])
@pytest.mark.parametrize("kind", list(FAULT_KINDS))
async def test_a_fault_that_stays(evidence: Evidence, label: str, kind: str) -> None:
    """Retries run out."""
    options = SandboxOptions(faults={kind: 1}, slow_answer=0.06)
    async with Sandbox(options) as sandbox, opened(evidence, TARGETS[label], sandbox.url) as client:
        for call in calls(client, "vip"):
            await evidence.attempt(call())
    assert_silent(evidence)


async def test_keys_that_are_wrong(evidence: Evidence, label: str) -> None:
    """They are no less secret: they may be right elsewhere."""
    async with Sandbox() as sandbox, opened(evidence, STRANGERS[label], sandbox.url) as client:
        for call in calls(client, "vip"):
            await evidence.attempt(call())
    assert_silent(evidence)


async def test_calls_that_are_cancelled(evidence: Evidence, label: str) -> None:
    """Also a CancelledError has a traceback, and it comes from where the request was."""
    options = SandboxOptions(faults={"slow": 1}, slow_answer=0.06)
    patient = RetryPolicy()
    async with Sandbox(options) as sandbox, opened(evidence, TARGETS[label], sandbox.url, patient) as client:
        for call in calls(client, "vip"):
            for seconds in (0, 0.005, 0.03):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await evidence.attempt(call())
            task = asyncio.ensure_future(call())
            await asyncio.sleep(0.01)
            evidence.values.append(repr(asyncio.all_tasks()))
            task.cancel()
            await evidence.attempt(task)
    assert any(isinstance(error, asyncio.CancelledError) for error in evidence.errors)
    assert_silent(evidence)


async def test_a_client_closed_under_its_calls(evidence: Evidence, label: str) -> None:
    """What was under way ends in errors, and so does what comes later."""
    options = SandboxOptions(faults={"slow": 1}, slow_answer=0.06)
    async with Sandbox(options) as sandbox, opened(evidence, TARGETS[label], sandbox.url) as client:
        under_way = [asyncio.ensure_future(evidence.attempt(call())) for call in calls(client, "vip")]
        await asyncio.sleep(0.01)
        await client.aclose()
        await asyncio.gather(*under_way)
        for call in calls(client, "vip"):
            await evidence.attempt(call())
    assert_silent(evidence)


async def test_a_server_that_is_not_there(evidence: Evidence, label: str) -> None:
    """Nor one that does not speak TLS."""
    async with Sandbox() as gone, Sandbox() as plain:
        urls = (gone.url, plain.url.replace("http", "https"))
        await gone.aclose()
        for url in urls:
            async with opened(evidence, TARGETS[label], url) as client:
                for call in calls(client, "vip"):
                    await evidence.attempt(call())
    assert_silent(evidence)


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


@pytest.mark.parametrize("label", ["1.0", "2.x"])
@pytest.mark.parametrize("echo", list(ECHOES))
async def test_a_server_that_repeats_what_it_was_sent(evidence: Evidence, label: str, echo: str) -> None:
    """Keys come back in bodies, in header fields, and in what is no HTTP at all."""
    text = b" ".join([key.encode() for key in KEYS] + [member_id.encode() for member_id in IDS[:3]])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            head, end, body = ECHOES[echo].partition(b"\r\n\r\n")
            body %= {b"text": text} if b"%(" in body else {}
            writer.write((head + end) % {b"text": text, b"size": len(body)} + body)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened(evidence, TARGETS[label], url) as client:
        for call in calls(client, "vip"):
            await evidence.attempt(call())
    assert evidence.errors
    # Batch's own words are cleaned of the client's own keys; it knows no others, and no ids.
    own = [REST_API_KEY, API_KEY if label == "1.0" else PROJECT_KEY]
    assert not find(own, shown(evidence))
    assert not find(own, (text for _, text in evidence.records))
    assert not find(own, (stack(link) for error in evidence.errors for link in chain(error)))
