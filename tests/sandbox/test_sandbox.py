from __future__ import annotations

import asyncio
import logging
import socket
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

import aiobatch.sandbox
from aiobatch.errors import InvalidInputError
from aiobatch.sandbox import (
    API_KEY,
    API_KEY_ANDROID,
    PROJECT_KEY,
    REST_API_KEY,
    Sandbox,
    SandboxAudience,
    SandboxMember,
    SandboxOptions,
    SandboxRequest,
)

from .conftest import MEP_KEYS, Caller, Time, added


async def test_url_is_on_loopback_with_the_port(caller: Caller) -> None:
    """The URL is on loopback and has the port."""
    assert caller.sandbox.url == f"http://127.0.0.1:{caller.sandbox.port}"
    assert caller.sandbox.port > 0
    assert (await caller.mep("GET", "")).status == 200


async def test_ipv6_address_is_bracketed() -> None:
    """The URL has brackets around an IPv6 address."""
    async with Sandbox(SandboxOptions(host="::1")) as sandbox:
        assert sandbox.url == f"http://[::1]:{sandbox.port}"


async def test_start_and_aclose_without_with() -> None:
    """A second start raises, a second aclose does nothing, and a closed sandbox has no port."""
    sandbox = Sandbox()
    await sandbox.start()
    with pytest.raises(RuntimeError, match="already running"):
        await sandbox.start()
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(RuntimeError, match="async with Sandbox"):
        _ = sandbox.url


async def test_taken_port_raises() -> None:
    """A sandbox that cannot listen is not running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sandbox = Sandbox(SandboxOptions(port=taken.getsockname()[1]))
        with pytest.raises(OSError, match="address already in use"):
            await sandbox.start()
    await sandbox.start()
    await sandbox.aclose()


async def test_members_are_a_snapshot(caller: Caller, time: Time) -> None:
    """Later writes do not change the snapshot, and it is read-only."""
    await caller.create("vip")
    await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added("u1")})
    before = caller.sandbox.members("vip")
    time.now += 2
    assert before == {}
    assert caller.sandbox.members("vip", scope="1.x") == {"u1": SandboxMember()}


async def test_ambiguous_name_needs_a_scope(caller: Caller, time: Time) -> None:
    """A name in several scopes needs `scope`. The error for an unknown name lists existing ones."""
    with pytest.raises(
        KeyError, match=r"Audience 'vip' does not exist in \['1.x', '1.x-android', '2.x'\]. Existing: \[\]"
    ):
        caller.sandbox.members("vip")
    await caller.create("vip")
    await caller.create_cep("vip")
    await caller.raw(
        "POST", f"/1.0/{API_KEY_ANDROID}/custom-audience/droid", json={"type": "custom_ids"}, headers=MEP_KEYS
    )
    assert caller.sandbox.members("vip") == {}
    time.now += 2
    with pytest.raises(KeyError, match=r"several scopes. Pass scope=, one of \['1.x', '2.x'\]"):
        caller.sandbox.members("vip")
    assert caller.sandbox.members("vip", scope="2.x") == {}
    with pytest.raises(
        KeyError, match=r"Audience 'vip' does not exist in \['1.x-android'\]. Existing: \['droid'\]"
    ):
        caller.sandbox.members("vip", scope="1.x-android")


async def test_audiences_have_scope_and_state(caller: Caller) -> None:
    """`audiences` returns the scope and the last state of each audience."""
    await caller.mep("POST", "vip", {"type": "custom_ids", "description": "Our best"})
    assert caller.sandbox.audiences() == (
        SandboxAudience(
            name="vip",
            scope="1.x",
            id_type="custom_ids",
            description="Our best",
            nb_ids=0,
            indexing_state="APPLIED",
        ),
    )


async def test_write_behind_back_is_applied_at_once(caller: Caller, time: Time) -> None:
    """A write behind the client's back does not change the order of pending updates."""
    await caller.create("vip")
    token = (await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added("u1", "u2")})).body
    caller.sandbox.write_behind_back("vip", add=["u2", "x1"], remove=["nobody"])
    assert caller.sandbox.members("vip").keys() == {"u2", "x1"}
    view = f"vip?indexing_token={token['indexing_token']}"
    assert (await caller.mep("GET", view)).body["indexing_state"] == "IN_PROGRESS"
    time.now += 2
    caller.sandbox.write_behind_back("vip", remove=["u2"])
    assert caller.sandbox.members("vip").keys() == {"u1", "x1"}


@pytest.mark.parametrize("pending", [True, False])
async def test_replace_behind_back_supersedes_earlier_tokens(
    caller: Caller, time: Time, pending: bool
) -> None:
    """In 2.x all earlier tokens become REPLACED, pending or not. Later writes are applied after it."""
    await caller.create_cep("vip")
    time.now += 2
    token = (await caller.cep("POST", "update", {"name": "vip", "ids": added("u1")})).body["indexing_token"]
    time.now += 1 if pending else 2
    caller.sandbox.replace_behind_back("vip", ["x1", "x2"])
    assert caller.sandbox.members("vip").keys() == {"x1", "x2"}
    assert await caller.state("vip", token) == "REPLACED"
    assert await caller.state("vip") == "APPLIED"
    later = (await caller.cep("POST", "update", {"name": "vip", "ids": added("u2")})).body["indexing_token"]
    time.now += 2
    assert await caller.state("vip", later) == "APPLIED"
    assert caller.sandbox.members("vip").keys() == {"x1", "x2", "u2"}


async def test_requests_are_recorded_without_keys(caller: Caller) -> None:
    """Each request is recorded with operation, masked path, status and IDs, and counted."""
    await caller.create("vip")
    await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added("u1", "u2")})
    await caller.cep("GET", "view?name=vip")
    caller.sandbox.fail_next("503")
    await caller.mep("DELETE", "vip")
    path = "/1.0/***/custom-audience/vip"
    assert caller.sandbox.requests == tuple(
        SandboxRequest(method=method, operation=operation, path=path, status=status, ids=ids, fault=fault)
        for method, operation, path, status, ids, fault in (
            ("POST", "create", path, 200, 0, None),
            ("PATCH", "update", path, 200, 2, None),
            ("GET", "view", "/2.11/audiences/view", 404, 0, None),
            ("DELETE", "delete", path, 503, 0, "503"),
        )
    )
    assert caller.sandbox.request_count == 4
    assert caller.sandbox.operation_counts == {"create": 1, "update": 1, "view": 1, "delete": 1}
    assert caller.sandbox.operation_counts["list"] == 0


async def test_no_key_is_logged(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """No level logs a key, not even for failed requests."""
    caplog.set_level(logging.DEBUG)
    await caller.create("vip")
    await caller.create_cep("vip")
    for kind in ("500", "reset", "lost", "truncated"):
        caller.sandbox.fail_next(kind)
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await caller.create("other")
    assert "path=/1.0/***/custom-audience/vip status=200" in caplog.text
    shown = caplog.text + repr(caller.sandbox.requests)
    assert not [key for key in (REST_API_KEY, API_KEY, PROJECT_KEY) if key in shown]


async def until_asked(sandbox: Sandbox) -> None:
    """Wait for a request for at most a second."""
    for _ in range(1000):
        if sandbox.requests:
            return
        await asyncio.sleep(0.001)


async def test_client_may_close_the_connection(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """An incomplete request is not processed, and it is recorded without a status."""
    _, writer = await asyncio.open_connection("127.0.0.1", caller.sandbox.port)
    head = f"POST /1.0/{API_KEY}/custom-audience/vip HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    writer.write(head.encode() + b"{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    await until_asked(caller.sandbox)
    assert caller.sandbox.requests[0].status is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_aclose_cancels_requests_in_progress(time: Time) -> None:
    """Closing does not wait for a slow response."""
    async with aiohttp.ClientSession() as session:
        async with Sandbox(SandboxOptions(slow_answer=60), monotonic=time) as sandbox:
            sandbox.fail_next("slow")
            call = asyncio.create_task(Caller(session, sandbox).mep("GET", "", version="1.1"))
            await until_asked(sandbox)
        with pytest.raises(aiohttp.ClientError):
            await call


async def times_to_applied(time: Time, seed: int) -> list[float]:
    """Return the times when several updates, all requested at once, were applied."""
    options = SandboxOptions(indexing_delay=(1, 9), seed=seed)
    async with Sandbox(options, monotonic=time) as sandbox, aiohttp.ClientSession() as session:
        caller = Caller(session, sandbox)
        await caller.create("vip")
        begin, applied = time.now, []
        for number in range(10):
            await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added(f"u{number}")})
        for count in range(1, 11):
            while len(sandbox.members("vip")) < count:
                time.now += 0.25
            applied.append(time.now - begin)
        return applied


async def test_updates_are_applied_in_the_order_of_requests(time: Time) -> None:
    """Delays are drawn from their range, depend on the seed, and never change the order."""
    first = await times_to_applied(time, seed=1)
    assert all(earlier <= later for earlier, later in pairwise(first))
    assert 1 <= first[0] < first[-1] <= 9.25
    assert first == await times_to_applied(time, seed=1)
    assert first != await times_to_applied(time, seed=2)


async def test_members_are_in_the_order_of_requests(caller: Caller, time: Time) -> None:
    """Ten requests of 10,000 IDs are all counted."""
    await caller.create("vip")
    for start in range(0, 100_000, 10_000):
        body = {"type": "custom_ids", "ids": added(*map(str, range(start, start + 10_000)))}
        assert (await caller.mep("PATCH", "vip", body)).status == 200
    time.now += 2
    assert list(caller.sandbox.members("vip")) == list(map(str, range(100_000)))
    assert caller.sandbox.requests[-1].ids == 10_000


async def test_refused_id_fails_the_whole_write(caller: Caller, time: Time) -> None:
    """An update or replace with a refused ID is malformed, and nothing of it is applied."""
    refusing = SandboxOptions(refused_ids=["bad"], indexing_delay=0)
    async with Sandbox(refusing, monotonic=time) as sandbox:
        caller = Caller(caller.session, sandbox)
        await caller.create("vip")
        assert (await caller.cep("POST", "create", {"name": "vip", "type": "custom_ids"})).status == 202
        members = [{"id": "good"}, {"id": "bad"}]
        mep, cep = {"type": "custom_ids"}, {"name": "vip"}
        for ids, method, step in ((added("good", "bad"), "PATCH", "update"), (members, "PUT", "replace")):
            assert (await caller.mep(method, "vip", mep | {"ids": ids})).status == 400
            assert (await caller.cep("POST", step, cep | {"ids": ids})).status == 400
            assert (await caller.mep(method, "vip", mep | {"ids": ids[:1]})).status == 200
        assert list(sandbox.members("vip", scope="1.x")) == ["good"]


def test_all_is_sorted_and_complete() -> None:
    """`__all__` is sorted and complete."""
    public = {name for name in vars(aiobatch.sandbox) if not name.startswith("_") and name != "annotations"}
    assert aiobatch.sandbox.__all__ == sorted(public)


@pytest.mark.parametrize("place", ["add", "remove", "ids"])
async def test_write_behind_back_rejects_a_string(caller: Caller, place: str) -> None:
    """A string is not split into the IDs of its characters."""
    await caller.create("vip")
    sandbox = caller.sandbox
    write: Any = sandbox.replace_behind_back if place == "ids" else sandbox.write_behind_back
    with pytest.raises(InvalidInputError, match=f"{place} must be an iterable of IDs, not one str"):
        write("vip", **{place: "u1"})
    assert not caller.sandbox.members("vip")
