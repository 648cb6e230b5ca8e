"""Waits of a whole client: what ends them, what they log, and in which context they run."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import random
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import aiohttp
import pytest

from aiobatch import (
    AiobatchError,
    Audience,
    AudienceClient,
    AudienceNotFoundError,
    ConnectError,
    IndexingState,
    IndexingTimeoutError,
    IndexingToken,
    InvalidInputError,
    Operation,
    PollingPolicy,
    Project,
    Settled,
)
from aiobatch.interfaces import Request, Response
from aiobatch.testing import FakeClock, FakeTransport, json_response

PROJECT = Project(rest_api_key="rest", project_key="project")
TOKEN = IndexingToken("vip", "t1")
VIEW: dict[str, Any] = {
    "name": "vip",
    "type": "CUSTOM_ID",
    "display_name": "VIP",
    "nb_ids": 1,
    "created": "2024-01-01T00:00:00Z",
    "updated": "2024-01-01T00:00:00Z",
}
# Values of every JSON type, none of which is valid in all fields.
ODD_VALUES = (None, True, -1, 1.5, 1704067200, "", "01/02/2024 10:00", [1], {"en": "VIP"})


@pytest.mark.parametrize("field", VIEW)
@pytest.mark.parametrize("value", ODD_VALUES, ids=repr)
async def test_wait_needs_the_state_only(field: str, value: object, caplog: pytest.LogCaptureFixture) -> None:
    """A wait ends whatever another field is. Many polls log one warning for an unreadable field."""
    states = iter(["IN_PROGRESS"] * 3 + ["APPLIED"] * 9)
    transport = FakeTransport(
        lambda _: json_response(200, VIEW | {field: value, "indexing_state": next(states)})
    )
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        with caplog.at_level(logging.WARNING, "aiobatch"):
            audience = await client.await_applied(TOKEN)
            await client.await_applied(TOKEN)

    assert (audience.name, audience.indexing_state) == (
        "vip" if field != "name" else audience.name,
        "APPLIED",
    )
    assert audience.indexing_state is IndexingState.APPLIED
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert f"unreadable field ignored: field={field} details=" in record.getMessage()


async def test_wait_needs_no_other_field() -> None:
    """A response with the state alone ends a wait."""
    transport = FakeTransport(lambda _: json_response(200, {"indexing_state": "APPLIED"}))
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        assert (await client.await_applied(TOKEN)).name == "vip"


def _lasting() -> ConnectError:
    return ConnectError("The certificate is not trusted.", lasting=True)


def _invalid() -> InvalidInputError:
    return InvalidInputError("The session is closed.")


@pytest.mark.parametrize("raised", [_lasting, _invalid])
@pytest.mark.parametrize("polls_before", [0, 1, 5])
@pytest.mark.parametrize("timeout", [30.0, None])
@pytest.mark.parametrize("wait", ["await_applied", "settle"])
async def test_lasting_failure_ends_each_wait_at_once(
    raised: Callable[[], AiobatchError],
    polls_before: int,
    timeout: float | None,
    wait: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The wait ends with the error that `view` raises, whatever its timeout. The poll is logged."""
    answers: list[Any] = [json_response(200, VIEW | {"indexing_state": "IN_PROGRESS"})] * polls_before
    pending = iter(answers)
    transport = FakeTransport(lambda _: next(pending, None) or raised())
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        if wait == "settle":
            (settled,) = [one async for one in client.settle([TOKEN], timeout=timeout)]
            error: BaseException | None = settled.error
        else:
            with pytest.raises(type(raised())) as caught:
                await client.await_applied(TOKEN, timeout=timeout)
            error = caught.value

        assert len(transport.requests) == polls_before + 1
        (record,) = caplog.records
        kind, reason = type(raised()).__name__, str(raised())
        fields = f"audience=vip polls={polls_before + 1} error={kind} reason={reason!r}"
        assert record.getMessage() == f"poll failed: wait_id=1 {fields}"
        with pytest.raises(type(raised())) as seen:
            await client.view("vip")
        assert (type(error), str(error)) == (type(seen.value), str(seen.value))


async def test_closed_session_ends_a_wait() -> None:
    """A session that is closed during a wait ends it with the error of any other call."""
    session = aiohttp.ClientSession()
    async with AudienceClient(PROJECT, base_url="http://127.0.0.1:9", session=session) as client:
        await session.close()
        with pytest.raises(InvalidInputError, match="session is closed"):
            await client.await_applied(TOKEN, timeout=None)


async def test_unusable_proxy_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of a scheme that is not supported ends a wait, because no poll can be sent."""
    monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
    async with AudienceClient(PROJECT, base_url="https://127.0.0.1:9") as client:
        with pytest.raises(InvalidInputError, match="HTTPS_PROXY"):
            await client.await_applied(TOKEN, timeout=None)


@contextmanager
def _warnings(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    messages: list[str] = []
    with caplog.at_level(logging.WARNING, "aiobatch"):
        yield messages
    messages += [record.getMessage() for record in caplog.records if record.name == "aiobatch.poller"]


def _failing(status: int) -> Response:
    return json_response(status, {"error_code": "SERVER_ERROR", "error_message": "out of order"})


@pytest.mark.parametrize("tokens", [1, 50])
@pytest.mark.parametrize("status", [500, 502, 520, 425])
async def test_first_failed_poll_of_a_series_is_logged(
    tokens: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """An outage logs one line with its reason, whatever the number of tokens. The next outage logs again."""
    clock = FakeClock()

    def answer(request: Request) -> Response:
        if 10 <= clock.monotonic() < 40 or 60 <= clock.monotonic() < 90:
            return _failing(status)
        return json_response(
            200,
            VIEW
            | {
                "name": request.audience,
                "indexing_state": "IN_PROGRESS",
                "audiences": [],
                "has_more": False,
            },
        )

    policy = PollingPolicy(timeout=100, maximum=5)
    transport = FakeTransport(answer)
    async with AudienceClient(PROJECT, transport=transport, clock=clock, polling=policy) as client:
        with _warnings(caplog) as logged:
            ended = [one async for one in client.settle(IndexingToken(f"v{n}", "t") for n in range(tokens))]

    assert len(ended) == tokens
    assert 2 <= len(logged) <= 4
    assert all("poll failed" in line and f"[{status}" in line for line in logged)


async def test_page_of_a_proxy_ends_no_wait() -> None:
    """A 404 page of a proxy is not Batch's 404, so the wait for a deletion goes on until Batch answers."""
    pages = iter([Response(status=404, body=b"<html>default backend - 404</html>"), Response(status=403)] * 3)
    gone = json_response(404, {"error_code": "ROUTE_NOT_FOUND"})
    transport = FakeTransport(lambda _: next(pages, gone))
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        await client.await_applied(IndexingToken("vip", "t1", Operation.DELETE))

    assert len(transport.requests) == 7


def _accept_then(answers: Iterator[Response]) -> FakeTransport:
    """Accept each write, and answer polls with *answers*."""
    tokens = (json_response(202, {"indexing_token": f"new{number}"}) for number in itertools.count())
    return FakeTransport(lambda request: next(answers if request.method == "GET" else tokens))


GONE = json_response(404, {"error_code": "ROUTE_NOT_FOUND"})
APPLIED = json_response(200, VIEW | {"indexing_state": "APPLIED"})


@pytest.mark.parametrize("write", ["update", "replace"])
@pytest.mark.parametrize("missing", [1, 5, 30])
async def test_write_after_a_creation_is_pending_until_the_audience_exists(write: str, missing: int) -> None:
    """While a creation is not indexed, a 404 ends no wait of that audience, whether or not one awaits it."""
    transport = _accept_then(iter([GONE] * missing + [APPLIED] * 9 + [GONE]))
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        await client.create("vip")
        token = await (
            client.update("vip", add=["u1"]) if write == "update" else client.replace("vip", ["u1"])
        )

        assert isinstance(await client.await_applied(token, timeout=None), Audience)


async def test_write_is_pending_if_the_creation_came_from_another_process() -> None:
    """A creation that is awaited together with a write covers it as well."""
    transport = _accept_then(iter([GONE] * 9 + [APPLIED] * 9))
    many = [IndexingToken("vip", "t1", Operation.CREATE), IndexingToken("vip", "t2")]
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        ended: list[Settled] = [one async for one in client.settle(many)]

    assert [one.outcome for one in ended] == ["APPLIED"] * 2


async def test_write_of_an_audience_that_existed_ends_at_a_404() -> None:
    """Once a poll has found the audience, or after a deletion, a 404 is an error again."""
    transport = _accept_then(iter([APPLIED, GONE, GONE]))
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
        created = await client.create("vip")
        assert created is not None
        await client.await_applied(created)
        with pytest.raises(AudienceNotFoundError):
            await client.await_applied(IndexingToken("vip", "t3"))
        await client.create("vip")
        await client.delete("vip")
        with pytest.raises(AudienceNotFoundError):
            await client.await_applied(IndexingToken("vip", "t4"))


REQUEST: ContextVar[str] = ContextVar("request", default="none")


async def test_polls_run_in_the_context_that_opened_the_client() -> None:
    """No poll, event or log record has the identity of a waiter. The event of a wait has its waiter's."""
    clock = FakeClock()
    seen: list[tuple[str, str, str]] = []

    def hook(event: object) -> None:
        seen.append((type(event).__name__, getattr(event, "audience", ""), REQUEST.get()))

    def answer(_: object) -> Response:
        seen.append(("answer", "", REQUEST.get()))
        return json_response(
            200, VIEW | {"indexing_state": "APPLIED" if clock.monotonic() > 9 else "IN_PROGRESS"}
        )

    async def handle(name: str, timeout: float) -> None:
        REQUEST.set(name)
        with suppress(IndexingTimeoutError):
            await client.await_applied(IndexingToken(name, "t"), timeout=timeout)

    REQUEST.set("opener")
    async with AudienceClient(PROJECT, transport=FakeTransport(answer), clock=clock, on_event=hook) as client:
        await asyncio.gather(
            *(asyncio.create_task(handle(n, t)) for n, t in (("a", 1), ("b", 90), ("c", 90)))
        )

    settled = [(audience, request) for kind, audience, request in seen if kind == "TokenSettled"]
    assert sorted(settled) == [("a", "a"), ("b", "b"), ("c", "c")]
    assert {request for kind, _, request in seen if kind != "TokenSettled"} == {"opener"}


@pytest.mark.parametrize("ended", ["timeout", "cancelled", "failed", "applied"])
async def test_objects_of_a_finished_request_are_freed(ended: str) -> None:
    """While another waiter goes on, nothing keeps the context or the error of a wait that has ended."""

    class Scope:
        """An object of a request."""

    scope: ContextVar[Scope] = ContextVar("scope")
    answers = {"failed": json_response(403, {}), "applied": APPLIED}
    pending = json_response(200, VIEW | {"indexing_state": "IN_PROGRESS"})
    transport = FakeTransport(
        lambda request: answers.get(ended, pending) if "=a&" in request.target else pending
    )
    references: list[weakref.ref[Scope]] = []

    async def handle(name: str, timeout: float | None) -> None:
        mine = Scope()
        references.append(weakref.ref(mine))
        scope.set(mine)
        with suppress(AiobatchError):
            await client.await_applied(IndexingToken(name, "t"), timeout=timeout)

    clock = FakeClock()
    async with AudienceClient(PROJECT, transport=transport, clock=clock) as client:
        first = asyncio.create_task(handle("a", 5 if ended == "timeout" else 900))
        await asyncio.sleep(0)
        other = asyncio.create_task(handle("b", None))
        await clock.sleep(8)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        del first
        await clock.sleep(1)
        gc.collect()
        assert references[0]() is None
        assert references[1]() is not None
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)


async def test_poller_does_not_use_the_task_factory_of_the_loop() -> None:
    """An eager factory would poll before the token knows its task, and the poll would be lost."""
    loop = asyncio.get_running_loop()
    created: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        created.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(factory)
    try:
        transport = FakeTransport(lambda _: APPLIED)
        async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
            await client.await_applied(TOKEN)
    finally:
        loop.set_task_factory(None)

    assert not [name for name in created if "Poll" in name or "Timer" in name or "Sweep" in name]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no eager tasks.")
@pytest.mark.parametrize("tokens", [1, 30, 3000])
async def test_eager_tasks_lose_no_poll(tokens: int) -> None:
    """Every wait ends if tasks start at once, even if each response arrives at once."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory", None))
    try:
        transport = FakeTransport(lambda _: APPLIED)
        async with AudienceClient(PROJECT, transport=transport, clock=FakeClock()) as client:
            many = (IndexingToken(f"v{number}", "t") for number in range(tokens))
            assert len([one async for one in client.settle(many)]) == tokens
    finally:
        loop.set_task_factory(None)


async def test_short_outage_costs_little_time_and_few_requests() -> None:
    """Polls notice its end soon and leave in no burst, and most tokens cost one poll."""
    clock, number = FakeClock(), 100
    started = clock.monotonic()
    applied = {f"a{index}": started + 2 + 8 * index / number for index in range(number)}

    def row(name: str) -> dict[str, str]:
        return {
            "name": name,
            "indexing_state": "APPLIED" if applied[name] <= clock.monotonic() else "IN_PROGRESS",
        }

    sent: Counter[int] = Counter()

    def answer(request: Request) -> Response:
        sent[int(10 * (clock.monotonic() - started))] += 1
        if 3 <= clock.monotonic() - started < 5:
            return Response(status=503)
        if request.operation == "list":
            return json_response(200, {"audiences": [row(name) for name in applied], "has_more": False})
        return json_response(200, row(request.audience))

    lags: list[float] = []

    async def wait(name: str) -> None:
        await client.await_applied(IndexingToken(name, "t"))
        lags.append(clock.monotonic() - applied[name])

    transport = FakeTransport(answer)
    async with AudienceClient(PROJECT, transport=transport, clock=clock, rng=random.Random(1)) as client:
        await asyncio.gather(*(wait(name) for name in applied))

    assert len(transport.requests) < 1.6 * number
    # A quarter of the tokens is applied during the outage, whose rest takes a second on average.
    assert sum(lags) / number < 0.7
    assert max(sent[tenth] for tenth in range(50, 200)) <= 2 * max(sent[tenth] for tenth in range(30))
