"""A limit that processes share through a real Redis."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import sys
import threading
from typing import Any

import pytest
import redis.asyncio

from aiobatch import AudienceClient, InvalidInputError, Limits, MaintenanceError, Project, RetryPolicy
from aiobatch._clock import SystemClock
from aiobatch._secret import Secret
from aiobatch.testing import FakeTransport, json_response
from aiobatch.transport._sharing import _redis as module
from aiobatch.transport._sharing._redis import RedisStore
from aiobatch.transport._sharing._state import SharedState, StoreError

from ...conftest import leaked_tasks
from ...helpers.ports import reserved_port
from .conftest import running_redis

VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "APPLIED"}
PROJECT = Project(rest_api_key="rest", project_key="project")


async def make_store(url: str, name: str, rate: float = 5.0) -> RedisStore:
    """Return a store that is open."""
    store = RedisStore(Secret(url), name, SystemClock(), rate)
    await store.open()
    return store


def ask(state: SharedState, now: float) -> Any:
    """Ask for a slot, and release none."""
    return state.ask(now, 0.01, "user", None)


async def test_slots_of_concurrent_changes_differ(redis_url: str) -> None:
    """However many clients change the state at once, each slot is reserved once, in the server's time."""
    stores = [await make_store(redis_url, "concurrent") for _ in range(6)]
    replies = await asyncio.gather(*(store.transact(ask) for store in stores for _ in range(5)))

    slots = sorted(slot for slot, _ in (reply.result for reply in replies) if slot is not None)
    assert len(slots) == 29  # one was sent at once
    gaps = [late - early for early, late in itertools.pairwise(slots)]
    assert gaps == pytest.approx([101.0] * 28)
    for store in stores:
        await store.aclose()
        await store.aclose()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_hanging_lookup_holds_no_loop(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that never answers is waited for in a thread that neither loop nor process joins."""
    are_daemons: list[bool] = []
    answered = threading.Event()

    def hang(*_: Any, **__: Any) -> Any:
        are_daemons.append(threading.current_thread().daemon)
        answered.wait()
        raise socket.gaierror

    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", hang)
    store = await make_store(f"{scheme}://redis.invalid/0", "hanging")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="TimeoutError"):
                await store.transact(ask)
        assert are_daemons == [True, True]
    finally:
        answered.set()
        await store.aclose()


async def test_damaged_value_is_replaced(redis_url: str) -> None:
    """A foreign value under the key is overwritten."""
    store = await make_store(redis_url, "damaged")
    raw = redis.asyncio.Redis.from_url(redis_url)
    await raw.set("aiobatch:limit:damaged", b"\xffnothing")
    assert (await store.transact(ask)).result == (None, 0.0)
    assert 0 < await raw.pttl("aiobatch:limit:damaged") <= 2 * 86400 * 1000
    await raw.aclose()
    await store.aclose()


async def test_state_in_redis_has_no_key_of_batch(redis_url: str) -> None:
    """Neither the name nor the value of the state contains a key."""
    limits = Limits(rate=1000, shared=redis_url)
    transport = FakeTransport(lambda _: json_response(200, VIEW))
    async with AudienceClient(PROJECT, limits=limits, transport=transport) as client:
        for _ in range(3):
            await client.view("vip")
        assert "pass" not in repr(limits)
    raw = redis.asyncio.Redis.from_url(redis_url)
    stored: list[tuple[Any, Any]] = [
        (name, await raw.get(name)) for name in await raw.keys("aiobatch:limit:*")
    ]
    await raw.aclose()
    assert stored
    for name, value in stored:
        assert b"rest" not in name + value
        assert b"project" not in name + value
        assert b"vip" not in name + value


async def test_redis_that_dies_midway_disturbs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """While Redis is gone calls use the fixed share, with one warning, and share again when it is back."""
    caplog.set_level(logging.INFO, "aiobatch.pacing")
    transport = FakeTransport(lambda _: json_response(200, VIEW))
    with reserved_port() as port:
        limits = Limits(rate=1000, shared=f"redis://:pass%2Fword@127.0.0.1:{port}/0")
        async with AudienceClient(PROJECT, limits=limits, transport=transport) as client:
            with running_redis(port):
                await client.view("vip")
            for _ in range(20):
                await client.view("vip")
            with running_redis(port):
                while "shared limit reachable" not in caplog.text:
                    await client.view("vip")
                    await asyncio.sleep(0.05)
    unreachable = [record for record in caplog.records if "unreachable" in record.getMessage()]
    assert [record.levelno for record in unreachable].count(logging.WARNING) == 1
    assert "pass" not in caplog.text
    assert "127.0.0.1" not in caplog.text
    assert not await leaked_tasks()


@pytest.mark.parametrize("url", ["redis://:wrong@127.0.0.1:{}/0", "redis://127.0.0.1:1/0"])
async def test_refusal_of_redis_is_an_error_of_the_store(redis_url: str, url: str) -> None:
    """A wrong password and a closed port lead to the fixed share, and no text has the password."""
    store = await make_store(url.format(redis_url.rsplit(":", 1)[1].removesuffix("/0")), "refused")
    with pytest.raises(StoreError) as caught:
        await store.transact(ask)
    assert caught.value.reason.isidentifier()
    assert caught.value.__cause__ is None
    await store.aclose()


async def test_cancelled_change_leaves_nothing_behind(redis_url: str) -> None:
    """A change that is cancelled at any point leaves a store that works."""
    store = await make_store(redis_url, "cancelled")
    await store.transact(ask)
    for turns in range(30):
        task = asyncio.create_task(store.transact(ask))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    slot, _ = (await store.transact(ask)).result
    assert slot is not None
    await store.aclose()
    assert not await leaked_tasks()


async def test_missing_package_and_bad_url_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are errors when the client is opened, without the URL, and the client can be opened later."""
    limits = Limits(rate=5, shared="redis://:secret@host:notaport/0")
    client = AudienceClient(PROJECT, limits=limits)
    with pytest.raises(InvalidInputError, match="Redis URL is invalid") as caught:
        await client.open()
    assert "secret" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(InvalidInputError, match=r"Install aiobatch-client\[redis\]"):
        await client.open()
    await client.aclose()


async def test_store_that_never_wins_gives_up(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If other clients are faster at every attempt, a change fails after seconds."""
    monkeypatch.setattr(module, "_PATIENCE", 0.2)
    store = await make_store(redis_url, "busy")
    rival = await make_store(redis_url, "busy")
    call = store._call

    async def late(expected: bytes, new: bytes) -> Any:
        await rival.transact(ask)
        return await call(expected, new)

    store._call = late  # type: ignore[method-assign]  # this store only
    with pytest.raises(StoreError, match="TimeoutError"):
        await store.transact(ask)
    for one in (store, rival):
        await one.aclose()


async def test_two_groups_pause_together(redis_url: str) -> None:
    """A pause of one process reaches another through Redis, in the other's time."""
    transport = FakeTransport(
        [json_response(503, {}, {"retry-after": "60"}), *[json_response(200, VIEW)] * 3]
    )
    limits = Limits(rate=1000, shared=redis_url)
    retry = RetryPolicy(attempts=1, fail_when_paused=True)
    target = Project(rest_api_key="rest", project_key="pause")
    async with AudienceClient(target, limits=limits, transport=transport, retry=retry) as first:
        with pytest.raises(MaintenanceError):
            await first.view("vip")
    async with AudienceClient(target, limits=limits, transport=transport, retry=retry) as second:
        with pytest.raises(MaintenanceError, match="Nothing was sent") as caught:
            await second.view("vip")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 60
    assert len(transport.requests) == 1
