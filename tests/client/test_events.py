"""The events of a client: their fields, their hooks, and the log records that go with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any
from unittest.mock import Mock

import attrs
import pytest

from aiobatch import (
    AiobatchError,
    App,
    AudienceClient,
    Event,
    EventHook,
    IndexingTimeoutError,
    IndexingToken,
    Outcome,
    PauseEnded,
    PauseStarted,
    Project,
    Request,
    RequestFinished,
    RequestSent,
    Response,
    RetryPolicy,
    RetryScheduled,
    TokenPolled,
    TokenSettled,
)
from aiobatch.sandbox import API_KEY, PROJECT_KEY, REST_API_KEY
from aiobatch.testing import FakeClock, FakeTransport, json_response, running_sandbox

APP = App(rest_api_key=REST_API_KEY, api_key=API_KEY)
PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3}
APPLIED = json_response(200, VIEW | {"indexing_state": "APPLIED"})
PENDING = json_response(200, VIEW | {"indexing_state": "IN_PROGRESS"})
TOKEN = IndexingToken("vip", "t")


def _answers(*answers: Response | Exception) -> FakeTransport:
    """Return a transport that gives these answers in turn, and the last one again and again."""
    left = list(answers)
    return FakeTransport(lambda _: left.pop(0) if len(left) > 1 else left[0])


def _of(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


async def test_attempts_of_a_request_share_its_id() -> None:
    """Each attempt has its number, and the ID of the request. Two requests have different IDs."""
    events: list[Event] = []
    transport = _answers(json_response(500, {}), json_response(502, {}), PENDING)
    async with AudienceClient(
        PROJECT, transport=transport, clock=FakeClock(), on_event=events.append
    ) as client:
        await client.view("vip")
        await client.view("vip")

    for kind in (RequestSent, RequestFinished):
        assert [(one.request_id, one.attempt) for one in _of(events, kind)] == [
            (1, 1),
            (1, 2),
            (1, 3),
            (2, 1),
        ]
    assert [(one.request_id, one.attempt, one.audience) for one in _of(events, RetryScheduled)] == [
        (1, 1, "vip"),
        (1, 2, "vip"),
    ]


@pytest.mark.parametrize("target", [APP, PROJECT], ids=["1.x", "2.x"])
async def test_events_of_real_requests_name_host_audience_and_size(target: App | Project) -> None:
    """A finished request has host, audience and size. No event of a request has a key or an ID."""
    events: list[Event] = []
    async with running_sandbox() as sandbox:
        async with AudienceClient(target, base_url=sandbox.url, on_event=events.append) as client:
            if (created := await client.create("vip")) is not None:
                await client.await_applied(created)
            token = await client.update("vip", add=["user-7"])
            await client.await_applied(token)
            assert [one.name async for one in client.list_audiences()] == ["vip"]
        host = sandbox.url.removeprefix("http://")

    finished = _of(events, RequestFinished)
    assert {one.host for one in finished} == {host}
    assert {(one.operation, one.audience) for one in finished} == {
        ("create", "vip"),
        ("update", "vip"),
        ("view", "vip"),
        ("list", None),
    }
    assert all((one.body_bytes > 0) == (one.operation in {"create", "update"}) for one in finished)
    assert len({one.request_id for one in finished}) == len(finished)
    for secret in (REST_API_KEY, API_KEY, PROJECT_KEY, "user-7"):
        assert secret not in repr(events)


async def test_all_events_of_a_wait_have_its_id() -> None:
    """Polls and the end of a wait have the same ID. Waits for other tokens, and later ones, have others."""
    events: list[Event] = []
    transport = _answers(PENDING, PENDING, json_response(503, {}), APPLIED)
    async with AudienceClient(
        PROJECT, transport=transport, clock=FakeClock(), on_event=events.append
    ) as client:
        for token in (TOKEN, IndexingToken("vip", "u"), TOKEN):
            await client.await_applied(token)

    ended = [(one.wait_id, one.outcome) for one in _of(events, TokenSettled)]
    assert ended == [(1, Outcome.APPLIED), (2, Outcome.APPLIED), (3, Outcome.APPLIED)]
    assert [one.wait_id for one in _of(events, TokenPolled)] == [1, 1, 1, 1, 2, 3]


CALLER: ContextVar[str] = ContextVar("caller", default="nobody")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(APPLIED, Outcome.APPLIED), (json_response(403, {}), Outcome.FAILED), (PENDING, Outcome.TIMED_OUT)],
    ids=lambda value: str(value) if isinstance(value, Outcome) else "",
)
async def test_every_waiter_gets_the_end_of_its_wait(answer: Response, outcome: Outcome) -> None:
    """Each caller that waits for a token gets one event, in its own context. One that left gets none."""
    heard: list[tuple[str, int, str]] = []

    def hook(event: Event) -> None:
        if isinstance(event, TokenSettled):
            heard.append((CALLER.get(), event.wait_id, event.outcome))

    async def wait(name: str) -> None:
        CALLER.set(name)
        with suppress(AiobatchError):
            await client.await_applied(TOKEN, timeout=30)

    transport = _answers(PENDING, PENDING, answer)
    async with AudienceClient(PROJECT, transport=transport, clock=FakeClock(), on_event=hook) as client:
        waits = {name: asyncio.create_task(wait(name)) for name in ("a", "left", "b", "c")}
        await asyncio.sleep(0)
        waits.pop("left").cancel()
        await asyncio.gather(*waits.values())

    assert sorted(heard) == [(name, 1, outcome) for name in ("a", "b", "c")]


async def test_a_waiter_that_timed_out_gets_no_second_event() -> None:
    """A wait with an earlier deadline ends with one event. The others end with one each."""
    heard: list[str] = []

    def hook(event: Event) -> None:
        if isinstance(event, TokenSettled):
            heard.append(event.outcome)

    clock = FakeClock()
    transport = FakeTransport(lambda _: APPLIED if clock.monotonic() > 20 else PENDING)
    async with AudienceClient(PROJECT, transport=transport, clock=clock, on_event=hook) as client:
        early = asyncio.create_task(client.await_applied(TOKEN, timeout=5))
        await client.await_applied(TOKEN, timeout=90)
        with pytest.raises(IndexingTimeoutError):
            await early

    assert heard == [Outcome.TIMED_OUT, Outcome.APPLIED]


def _cancelled(_: Event) -> None:
    raise asyncio.CancelledError


def _broken(_: Event) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("kind", [list, tuple, iter])
async def test_several_hooks_receive_each_event(
    kind: Callable[[list[Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """An exception of one hook, even a CancelledError, affects neither the other hooks nor the client."""
    first: list[Event] = []
    last: list[Event] = []
    hooks = kind([first.append, _broken, _cancelled, last.append])
    async with AudienceClient(
        PROJECT, transport=_answers(PENDING, APPLIED), clock=FakeClock(), on_event=hooks
    ) as client:
        audience = await client.await_applied(TOKEN)

    assert audience.nb_ids == 3
    assert {type(event) for event in first} == {RequestSent, RequestFinished, TokenPolled, TokenSettled}
    assert first == last
    assert len(caplog.records) == 2 * len(first)
    assert {vars(record)["event"] for record in caplog.records} == {type(event).__name__ for event in first}


@pytest.mark.parametrize("on_event", [None, [], ()])
async def test_without_a_hook_no_event_is_built(on_event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without hooks, or with an empty list of them, builds no event of a request or of a wait."""

    def build(*_: object, **__: object) -> None:
        raise AssertionError

    for module, names in {
        "transport._pacing": ("RequestSent", "RequestFinished"),
        "_poller._poll_runner": ("TokenPolled",),
        "_poller._subscriptions": ("TokenSettled",),
    }.items():
        for name in names:
            monkeypatch.setattr(f"aiobatch.{module}.{name}", build)
    async with AudienceClient(PROJECT, transport=_answers(APPLIED), on_event=on_event) as client:
        await client.await_applied(TOKEN)


async def test_log_records_have_the_fields_of_their_events(caplog: pytest.LogCaptureFixture) -> None:
    """A record of a retry, a pause or a failed poll has the event's fields as attributes."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    transport = _answers(
        json_response(500, {}), PENDING, json_response(503, {}), PENDING, json_response(500, {}), APPLIED
    )
    async with AudienceClient(
        PROJECT,
        transport=transport,
        clock=FakeClock(),
        retry=RetryPolicy(attempts=2),
        on_event=events.append,
    ) as client:
        await client.view("vip")
        await client.view("vip")
        await client.await_applied(TOKEN)

    records = {record.getMessage().partition(":")[0]: vars(record) for record in caplog.records}
    kinds = {
        "retry scheduled": RetryScheduled,
        "requests paused": PauseStarted,
        "requests resumed": PauseEnded,
    }
    for text, kind in kinds.items():
        assert attrs.asdict(_of(events, kind)[-1]).items() <= records[text].items()
    failed = next(event for event in _of(events, TokenPolled) if event.error is not None)
    shared = {name: value for name, value in attrs.asdict(failed).items() if name != "state"}
    assert shared.items() <= records["poll failed"].items()


async def test_custom_transport_has_the_host_of_the_base_url() -> None:
    """With a transport of the program's own, events name the host of the base URL."""
    events: list[Event] = []

    def answer(_: Request) -> Response:
        return PENDING

    for base_url in (None, "https://example.com:8443"):
        async with AudienceClient(
            PROJECT, transport=FakeTransport(answer), base_url=base_url, on_event=events.append
        ) as client:
            await client.view("vip")

    hosts = [one.host for one in _of(events, RequestFinished)]
    assert hosts == ["api.batch.com", "example.com:8443"]


async def test_shared_hook_distinguishes_clients() -> None:
    """A hook with `for_client` is asked once by each client, and its events go to the hook of the client."""

    class Shared:
        def __init__(self) -> None:
            self.seen: list[list[Event]] = []

        def __call__(self, event: Event) -> None:
            raise NotImplementedError

        def for_client(self) -> EventHook:
            self.seen.append([])
            return self.seen[-1].append

    hook, mock = Shared(), Mock()
    for _ in range(2):
        transport = FakeTransport([json_response(200, {"name": "vip"})])
        async with AudienceClient(PROJECT, transport=transport, on_event=[hook, mock]) as client:
            await client.view("vip")
    assert [len(events) for events in hook.seen] == [2, 2]
    assert mock.call_count == 4
