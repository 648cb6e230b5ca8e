from __future__ import annotations

import errno
import math
import time as real_time
from collections import Counter
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from aiobatch.errors import InvalidInputError
from aiobatch.sandbox import FAULT_KINDS, SandboxOptions
from aiobatch.sandbox._faults import FaultPlan, TokenBucket
from aiobatch.sandbox._request_handler import _reset_connection

from .conftest import Caller, Time, added

BROKEN = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


@pytest.mark.parametrize(
    ("kind", "status", "mep", "cep"),
    [
        (
            "500",
            500,
            {"code": 1, "message": "Internal server error"},
            {"error_code": "SERVER_ERROR", "error_message": "Internal server error"},
        ),
        (
            "503",
            503,
            {"code": 2, "message": "The service is down for maintenance"},
            {"error_code": "MAINTENANCE_ERROR", "error_message": "The service is down for maintenance"},
        ),
        (
            "429",
            429,
            {"message": "Too many requests"},
            {"error_code": "TOO_MANY_REQUESTS", "error_message": "Too many requests"},
        ),
        (
            "429-bare",
            429,
            {"message": "Too many requests"},
            {"error_code": "TOO_MANY_REQUESTS", "error_message": "Too many requests"},
        ),
        ("502", 502, b"", b""),
        ("504", 504, b"", b""),
    ],
)
async def test_refusal_is_not_processed(
    caller: Caller, kind: str, status: int, mep: object, cep: object
) -> None:
    """The API's refusals have the JSON of its generation. A proxy's have no body."""
    caller.sandbox.fail_next(kind, times=2)
    first = await caller.mep("POST", "vip", {"type": "custom_ids"})
    second = await caller.cep("POST", "create", {"name": "vip", "type": "custom_ids"})
    assert (first.status, first.body, second.status, second.body) == (status, mep, status, cep)
    assert first.headers.get("Retry-After") == ("1" if kind == "429" else None)
    await caller.create("vip")


async def test_html_fault_is_not_processed(caller: Caller) -> None:
    """`html` is a proxy's page with status 502. The request is not processed."""
    caller.sandbox.fail_next("html")
    answered = await caller.mep("POST", "vip", {"type": "custom_ids"})
    assert (answered.status, answered.headers["Content-Type"]) == (502, "text/html")
    assert answered.body.startswith(b"<html>")
    await caller.create("vip")


async def test_html200_fault_is_processed(caller: Caller) -> None:
    """`html200` is a page with status 200. The request is processed."""
    caller.sandbox.fail_next("html200")
    answered = await caller.mep("POST", "vip", {"type": "custom_ids"})
    assert (answered.status, answered.headers["Content-Type"]) == (200, "text/html")
    assert [audience.name for audience in caller.sandbox.audiences()] == ["vip"]


async def test_reset_fault_is_not_processed(caller: Caller) -> None:
    """`reset` resets the connection. The request is not processed."""
    caller.sandbox.fail_next("reset")
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await caller.create("vip")
    assert caught.value.errno == errno.ECONNRESET
    assert caller.sandbox.requests[-1].status is None
    assert caller.sandbox.audiences() == ()


async def test_lost_fault_is_processed(caller: Caller) -> None:
    """`lost` closes the connection after the request is processed."""
    await caller.create("vip")
    caller.sandbox.fail_next("lost")
    with pytest.raises(BROKEN):
        await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added("u1")})
    assert caller.sandbox.audiences()[0].indexing_state == "IN_PROGRESS"
    assert (caller.sandbox.requests[-1].status, caller.sandbox.requests[-1].ids) == (None, 1)


async def test_truncated_fault_is_processed(caller: Caller) -> None:
    """`truncated` sends a body shorter than announced. The request is processed."""
    caller.sandbox.fail_next("truncated")
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.create("vip")
    assert [audience.name for audience in caller.sandbox.audiences()] == ["vip"]


async def test_slow_fault_delays_the_response(caller: Caller) -> None:
    """`slow` sends the normal response after `slow_answer`."""
    caller.sandbox.fail_next("slow")
    begin = real_time.perf_counter()
    await caller.create("vip")
    assert real_time.perf_counter() - begin >= 0.01


async def test_fault_applies_to_its_operation_only(caller: Caller) -> None:
    """A fault for one operation does not affect requests of others."""
    caller.sandbox.fail_next("503", operation="view")
    await caller.create("vip")
    assert [(await caller.mep("GET", "vip")).status for _ in range(2)] == [503, 200]


async def test_lasting_fault_ends(caller: Caller, time: Time) -> None:
    """A lasting fault affects every request of its period. A fault for the next request comes first."""
    caller.sandbox.fail_for("503", 2)
    caller.sandbox.fail_next("500")
    statuses = []
    for _ in range(4):
        statuses.append((await caller.mep("GET", "")).status)
        time.now += 0.9
    assert statuses == [500, 503, 503, 200]


async def test_clear_faults_drops_all_orders(caller: Caller) -> None:
    """After `clear_faults`, only random faults are left."""
    caller.sandbox.fail_for("503", 2)
    caller.sandbox.fail_next("500", times=5)
    caller.sandbox.clear_faults()
    assert (await caller.mep("GET", "")).status == 200


async def test_invalid_fault_order_is_rejected(caller: Caller) -> None:
    """The error names the valid kinds or operations."""
    with pytest.raises(InvalidInputError, match="The kinds of faults are 500, "):
        caller.sandbox.fail_next("teapot")
    with pytest.raises(InvalidInputError, match="The kinds of faults are 500, "):
        caller.sandbox.fail_for("teapot", 1)
    with pytest.raises(InvalidInputError, match="The operations are create, "):
        caller.sandbox.fail_next("503", operation="poll")
    with pytest.raises(InvalidInputError, match="times must be an integer of at least 1"):
        caller.sandbox.fail_next("503", times=0)
    several: Any = "2"
    with pytest.raises(InvalidInputError, match="times must be an integer of at least 1"):
        caller.sandbox.fail_next("503", times=several)
    with pytest.raises(InvalidInputError, match="The duration of a fault in seconds must be a finite"):
        caller.sandbox.fail_for("503", math.nan)


def test_random_faults_keep_probabilities_and_seed(time: Time) -> None:
    """Each kind has its probability, and the same seed gives the same faults."""
    faults = dict.fromkeys(FAULT_KINDS, 0.05)
    plans = [FaultPlan(faults, seed=seed, monotonic=time) for seed in (1, 1, 2)]
    first, again, other = ([plan.choose("view") for _ in range(10_000)] for plan in plans)
    assert first == again != other
    counts = Counter(first)
    assert all(400 < counts[kind] < 600 for kind in FAULT_KINDS)
    assert 3_700 < counts[None] < 4_300


def test_bucket_fills_at_its_rate(time: Time) -> None:
    """A burst of one second's requests passes, then one request per interval. The bucket never overflows."""
    bucket = TokenBucket(5, monotonic=time)
    assert [bucket.take() for _ in range(6)] == pytest.approx([0, 0, 0, 0, 0, 0.2])
    time.now += 0.1
    assert bucket.take() == pytest.approx(0.1)
    time.now += 60
    assert [bucket.take() > 0 for _ in range(6)] == [False] * 5 + [True]


def test_rate_below_one_admits_the_first_request(time: Time) -> None:
    """A rate of less than 1 request per second admits the first one at once."""
    bucket = TokenBucket(0.5, monotonic=time)
    assert [bucket.take(), bucket.take()] == pytest.approx([0, 2])


def test_wait_is_at_most_a_day(time: Time) -> None:
    """The lowest float as a rate gives a Retry-After of a day, not of infinity."""
    bucket = TokenBucket(5e-324, monotonic=time)
    assert [bucket.take(), bucket.take()] == [0, 86_400]


@pytest.mark.parametrize("options", [SandboxOptions(rate=0.4, faults={"503": 1})])
async def test_request_above_the_rate_is_429(caller: Caller, time: Time) -> None:
    """Retry-After is in whole seconds, and the rate limit comes before any fault."""
    assert (await caller.mep("GET", "")).status == 503
    answered = await caller.mep("GET", "")
    assert (answered.status, answered.headers["Retry-After"]) == (429, "3")
    time.now += 2.5
    assert (await caller.mep("GET", "")).status == 503


def test_reset_ignores_a_closed_connection() -> None:
    """A connection that the client closed first cannot be reset."""
    protocol = Mock()
    request = make_mocked_request("GET", "/", protocol=protocol)
    protocol.transport = None
    assert _reset_connection(request).status == 200
