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
async def test_a_refusal_is_not_processed(
    caller: Caller, kind: str, status: int, mep: object, cep: object
) -> None:
    """The service speaks JSON of its generation, a proxy in front of it says nothing."""
    caller.sandbox.fail_next(kind, times=2)
    first = await caller.mep("POST", "vip", {"type": "custom_ids"})
    second = await caller.cep("POST", "create", {"name": "vip", "type": "custom_ids"})
    assert (first.status, first.body, second.status, second.body) == (status, mep, status, cep)
    assert first.headers.get("Retry-After") == ("1" if kind == "429" else None)
    await caller.create("vip")


async def test_a_proxy_answers_html(caller: Caller) -> None:
    """502 with a page, which nothing came through."""
    caller.sandbox.fail_next("html")
    answered = await caller.mep("POST", "vip", {"type": "custom_ids"})
    assert (answered.status, answered.headers["Content-Type"]) == (502, "text/html")
    assert answered.body.startswith(b"<html>")
    await caller.create("vip")


async def test_html_may_hide_a_success(caller: Caller) -> None:
    """200 with a page, and the request was processed."""
    caller.sandbox.fail_next("html200")
    answered = await caller.mep("POST", "vip", {"type": "custom_ids"})
    assert (answered.status, answered.headers["Content-Type"]) == (200, "text/html")
    assert [audience.name for audience in caller.sandbox.audiences()] == ["vip"]


async def test_a_reset_is_not_processed(caller: Caller) -> None:
    """The connection is reset, not closed."""
    caller.sandbox.fail_next("reset")
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await caller.create("vip")
    assert caught.value.errno == errno.ECONNRESET
    assert caller.sandbox.requests[-1].status is None
    assert caller.sandbox.audiences() == ()


async def test_a_lost_answer_was_processed(caller: Caller) -> None:
    """The connection is dropped, and what was asked for has been done."""
    await caller.create("vip")
    caller.sandbox.fail_next("lost")
    with pytest.raises(BROKEN):
        await caller.mep("PATCH", "vip", {"type": "custom_ids", "ids": added("u1")})
    assert caller.sandbox.audiences()[0].indexing_state == "IN_PROGRESS"
    assert (caller.sandbox.requests[-1].status, caller.sandbox.requests[-1].ids) == (None, 1)


async def test_a_truncated_answer_was_processed(caller: Caller) -> None:
    """The body is shorter than announced, and what was asked for has been done."""
    caller.sandbox.fail_next("truncated")
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.create("vip")
    assert [audience.name for audience in caller.sandbox.audiences()] == ["vip"]


async def test_a_slow_answer_comes_late(caller: Caller) -> None:
    """It is the answer that would have come anyway, after `slow_answer`."""
    caller.sandbox.fail_next("slow")
    begin = real_time.perf_counter()
    await caller.create("vip")
    assert real_time.perf_counter() - begin >= 0.01


async def test_a_fault_can_be_meant_for_an_operation(caller: Caller) -> None:
    """Other requests pass it by until it is used up."""
    caller.sandbox.fail_next("503", operation="view")
    await caller.create("vip")
    assert [(await caller.mep("GET", "vip")).status for _ in range(2)] == [503, 200]


async def test_a_fault_can_last(caller: Caller, time: Time) -> None:
    """Every request fails for some seconds; what is ordered for the next one comes first."""
    caller.sandbox.fail_for("503", 2)
    caller.sandbox.fail_next("500")
    statuses = []
    for _ in range(4):
        statuses.append((await caller.mep("GET", "")).status)
        time.now += 0.9
    assert statuses == [500, 503, 503, 200]


async def test_ordered_faults_can_be_taken_back(caller: Caller) -> None:
    """After that only chance is left."""
    caller.sandbox.fail_for("503", 2)
    caller.sandbox.fail_next("500", times=5)
    caller.sandbox.clear_faults()
    assert (await caller.mep("GET", "")).status == 200


async def test_an_order_that_makes_no_sense_is_refused(caller: Caller) -> None:
    """Kinds and operations are named in the error, and at least one request must fail."""
    with pytest.raises(InvalidInputError, match="the kinds are 500, "):
        caller.sandbox.fail_next("teapot")
    with pytest.raises(InvalidInputError, match="the kinds are 500, "):
        caller.sandbox.fail_for("teapot", 1)
    with pytest.raises(InvalidInputError, match="the operations are create, "):
        caller.sandbox.fail_next("503", operation="poll")
    with pytest.raises(InvalidInputError, match="times must be at least 1"):
        caller.sandbox.fail_next("503", times=0)
    several: Any = "2"
    with pytest.raises(InvalidInputError, match="times must be at least 1, as an int"):
        caller.sandbox.fail_next("503", times=several)
    with pytest.raises(InvalidInputError, match="how long a fault lasts, in seconds must be a finite"):
        caller.sandbox.fail_for("503", math.nan)


def test_chance_keeps_to_its_probabilities_and_its_seed(time: Time) -> None:
    """Each kind comes as often as it was given, and in the same order with the same seed."""
    faults = dict.fromkeys(FAULT_KINDS, 0.05)
    plans = [FaultPlan(faults, seed=seed, monotonic=time) for seed in (1, 1, 2)]
    first, again, other = ([plan.choose("view") for _ in range(10_000)] for plan in plans)
    assert first == again != other
    counts = Counter(first)
    assert all(400 < counts[kind] < 600 for kind in FAULT_KINDS)
    assert 3_700 < counts[None] < 4_300


def test_a_bucket_fills_at_its_rate(time: Time) -> None:
    """A burst of a second's worth passes, then one request per share of a second; it never overflows."""
    bucket = TokenBucket(5, monotonic=time)
    assert [bucket.take() for _ in range(6)] == pytest.approx([0, 0, 0, 0, 0, 0.2])
    time.now += 0.1
    assert bucket.take() == pytest.approx(0.1)
    time.now += 60
    assert [bucket.take() > 0 for _ in range(6)] == [False] * 5 + [True]


def test_a_slow_bucket_holds_one(time: Time) -> None:
    """Less than one request per second still lets the first one through."""
    bucket = TokenBucket(0.5, monotonic=time)
    assert [bucket.take(), bucket.take()] == pytest.approx([0, 2])


def test_no_rate_makes_anybody_wait_for_ever(time: Time) -> None:
    """The lowest rate that a float can be refuses for a day at most, not for an infinity of seconds."""
    bucket = TokenBucket(5e-324, monotonic=time)
    assert [bucket.take(), bucket.take()] == [0, 86_400]


@pytest.mark.parametrize("options", [SandboxOptions(rate=0.4, faults={"503": 1})])
async def test_above_the_rate_is_429(caller: Caller, time: Time) -> None:
    """Retry-After is in whole seconds, and the rate comes before any fault."""
    assert (await caller.mep("GET", "")).status == 503
    answered = await caller.mep("GET", "")
    assert (answered.status, answered.headers["Retry-After"]) == (429, "3")
    time.now += 2.5
    assert (await caller.mep("GET", "")).status == 503


def test_a_connection_that_is_gone_cannot_be_cut() -> None:
    """Whoever hangs up first wins."""
    protocol = Mock(transport=None)
    assert _reset_connection(make_mocked_request("GET", "/", protocol=protocol, transport=None)).status == 200
