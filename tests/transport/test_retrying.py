from __future__ import annotations

import asyncio
import codecs
import logging
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import (
    ConnectError,
    InvalidInputError,
    MalformedResponseError,
    RequestTimeoutError,
    TransportError,
)
from aiobatch.events import Event, RetryScheduled
from aiobatch.interfaces import Response
from aiobatch.options import RetryPolicy
from aiobatch.testing import FakeClock, FakeTransport, json_response
from aiobatch.transport import RetryingTransport

from .support import KEY, REST_KEY, make_request

OK = json_response(200, {"a": 1})
TEMPORARY = [
    TransportError("reset"),
    ConnectError("refused"),
    RequestTimeoutError("slow"),
    MalformedResponseError("garbage"),
    *(Response(status=status) for status in (408, 425, 429, *range(500, 600))),
    Response(status=200, body=b""),
    Response(status=204),
    Response(status=200, body=b"<html></html>"),
    Response(status=202, body=b'{"indexing_tok'),
    Response(status=200, body=b"[]"),
]
FINAL = [
    OK,
    Response(status=200, body=b' {"a": 1}\n'),
    Response(status=200, body=codecs.BOM_UTF8 + OK.body),
    Response(status=404, body=b'{"error_code": "NO", "error_message": "half an emoji \\ud83d"}'),
    *(json_response(status, {"code": 31, "message": "no"}) for status in (400, 401, 403, 404, 409)),
    *(json_response(status, {"error_code": "NO", "error_message": "no"}) for status in (400, 404, 422)),
    *(json_response(status, {"message": "no"}) for status in (401, 403, 409)),
    *(Response(status=status, body=b"<html>") for status in (302, 413)),
]
# Responses of proxies and gateways in Batch's place.
FOREIGN = [
    *(Response(status=status, body=b"<html>") for status in (400, 401, 403, 404, 407, 409, 410, 422, 451)),
    *(Response(status=404, body=body) for body in (b"", b"not found", b"[]", b"null", b'{"code":')),
    json_response(404, {"message": "no Route matched with those values"}),
    json_response(400, {"message": "Bad request"}),
    json_response(404, {"code": 404, "message": "page not found"}),
    json_response(404, {"error": "not found", "status": 404}),
    json_response(404, {"error_code": "NO", "padding": "x" * 300_000}),
]


def _name(outcome: Response | Exception) -> str:
    return f"{outcome.status} {outcome.body!r}" if isinstance(outcome, Response) else type(outcome).__name__


def _retrying(
    *script: Any, emit: Any = None, **policy: Any
) -> tuple[RetryingTransport, FakeTransport, FakeClock]:
    inner, clock = FakeTransport(script), FakeClock()
    retrying = RetryingTransport(
        inner, policy=RetryPolicy(**policy), clock=clock, rng=random.Random(5), emit=emit
    )
    return retrying, inner, clock


@pytest.mark.parametrize("outcome", TEMPORARY, ids=_name)
async def test_temporary_failure_is_retried(outcome: Response | Exception) -> None:
    """Broken connections, timeouts, overload, failures and broken bodies are temporary."""
    retrying, inner, _ = _retrying(outcome, outcome, OK)
    response = await retrying.send(make_request())
    assert (response.status, response.body, response.attempts) == (200, OK.body, 3)
    assert (len(inner.requests), retrying.retries) == (3, 2)


@pytest.mark.parametrize("outcome", FINAL, ids=_name)
async def test_final_response_is_returned_unchanged(outcome: Response) -> None:
    """It costs one request and no copy."""
    retrying, inner, clock = _retrying(outcome)
    assert await retrying.send(make_request()) is outcome
    assert (len(inner.requests), retrying.retries, clock.monotonic()) == (1, 0, 0)


@pytest.mark.parametrize("outcome", FOREIGN, ids=lambda outcome: f"{outcome.status} {outcome.body[:50]!r}")
async def test_response_of_a_proxy_is_retried_a_few_times(outcome: Response) -> None:
    """A 4xx that is not in Batch's form is an outage, but base_url may be wrong as well."""
    retrying, inner, _ = _retrying(outcome, outcome, OK)
    assert (await retrying.send(make_request())).body == OK.body
    retrying, inner, _ = _retrying(*[outcome] * 20, attempts=20)
    assert (await retrying.send(make_request())).status == outcome.status
    assert len(inner.requests) == 6
    retrying, inner, _ = _retrying(outcome)
    assert await retrying.send(make_request(idempotent=False)) is outcome


@pytest.mark.parametrize("outcome", TEMPORARY, ids=_name)
async def test_create_is_retried_only_if_it_had_no_effect(
    outcome: Response | Exception,
) -> None:
    """After an unknown outcome the caller looks for the audience first."""
    without_effect = isinstance(outcome, ConnectError) or (
        isinstance(outcome, Response) and outcome.status in {429, 503}
    )
    retrying, inner, _ = _retrying(outcome, OK)
    request = make_request(operation="create", idempotent=False)
    (result,) = await asyncio.gather(retrying.send(request), return_exceptions=True)
    assert len(inner.requests) == (2 if without_effect else 1)
    if without_effect:
        assert isinstance(result, Response)
        assert result.status == 200
    else:
        assert result is outcome


@pytest.mark.parametrize("operation", ["view", "create"])
async def test_lasting_connect_error_is_not_retried(operation: str) -> None:
    """A certificate that is not trusted now will not be in a second."""
    retrying, inner, clock = _retrying(ConnectError("not trusted", lasting=True))
    with pytest.raises(ConnectError):
        await retrying.send(make_request(operation=operation, idempotent=operation == "view"))
    assert (len(inner.requests), clock.monotonic()) == (1, 0)


async def test_other_errors_are_not_retried() -> None:
    """An error of the caller is raised at once."""
    retrying, inner, _ = _retrying(InvalidInputError("no"))
    with pytest.raises(InvalidInputError):
        await retrying.send(make_request())
    assert len(inner.requests) == 1


async def test_last_response_is_returned_after_all_attempts() -> None:
    """It has the number of attempts."""
    retrying, inner, _ = _retrying(*[Response(status=500)] * 3, attempts=3)
    response = await retrying.send(make_request())
    assert (response.status, response.attempts, len(inner.requests)) == (500, 3, 3)


async def test_last_error_is_raised_after_all_attempts() -> None:
    """It has the number of attempts, and not the frames of the earlier ones."""
    retrying, inner, _ = _retrying(ConnectError("first"), ConnectError("last"), attempts=2)
    with pytest.raises(ConnectError, match="last") as caught:
        await retrying.send(make_request())
    assert (caught.value.attempts, len(inner.requests)) == (2, 2)
    assert caught.value.__context__ is None


async def test_no_retry_starts_after_the_timeout() -> None:
    """The time starts with the call, so a slow first attempt leaves less of it."""

    async def fail() -> Response:
        await clock.sleep(4)
        return Response(status=500)

    clock = FakeClock()
    inner = FakeTransport(lambda request: fail())
    policy = RetryPolicy(attempts=100, timeout=10, initial=0.1, maximum=0.1)
    retrying = RetryingTransport(inner, policy=policy, clock=clock, rng=random.Random(5))
    response = await retrying.send(make_request())
    assert response.attempts == 3
    assert clock.monotonic() == pytest.approx(12, abs=0.4)


@pytest.mark.parametrize("header", ["7", "Thu, 01 Jan 1970 00:00:07 GMT"])
async def test_retry_after_replaces_a_shorter_delay(header: str) -> None:
    """Retry-After is a number of seconds or a date."""
    retrying, _, clock = _retrying(json_response(429, {}, {"retry-after": header}), OK, initial=0.1)
    await retrying.send(make_request())
    assert clock.monotonic() == 7


async def test_retry_after_does_not_replace_a_longer_delay() -> None:
    """A server that sends 0 does not cause a busy loop."""
    delays: list[float] = []
    retrying, _, clock = _retrying(
        *[json_response(503, {}, {"retry-after": "0"})] * 5,
        emit=lambda event: delays.append(event.delay),
        initial=4.0,
        maximum=64.0,
        attempts=5,
    )
    await retrying.send(make_request())
    assert clock.monotonic() == sum(delays) > 5


async def test_retry_after_above_the_maximum_ends_retrying() -> None:
    """The response is returned at once, so that the caller can decide."""
    retrying, inner, clock = _retrying(
        json_response(503, {}, {"retry-after": "3600"}), retry_after_max=60, timeout=1e6
    )
    response = await retrying.send(make_request())
    assert (response.status, len(inner.requests), clock.monotonic()) == (503, 1, 0)


async def test_budget_is_shared() -> None:
    """Without budget failures are returned at once. Successes refill it up to its size."""
    fail = True

    def answer(request: object) -> Response:
        return Response(status=500) if fail else OK

    clock = FakeClock()
    inner = FakeTransport(answer)
    policy = RetryPolicy(attempts=4, budget=10, timeout=1000)
    retrying = RetryingTransport(inner, policy=policy, clock=clock, rng=random.Random(5))
    answers = await asyncio.gather(*(retrying.send(make_request()) for _ in range(50)))
    assert all(response.status == 500 for response in answers)
    assert (len(inner.requests), retrying.retries, retrying.budget) == (60, 10, 0)
    fail = False
    for expected in [*range(1, 11), 10, 10]:
        await retrying.send(make_request())
        assert retrying.budget == expected


async def test_successful_retry_returns_to_the_budget() -> None:
    """Rare failures cost nothing in the long run."""
    retrying, _, _ = _retrying(Response(status=500), OK, budget=5)
    await retrying.send(make_request())
    assert retrying.budget == 5


async def test_cancelled_sleep_returns_to_the_budget() -> None:
    """Nothing was sent, so nothing was used up."""
    clock = FakeClock(autojump=False)
    inner = FakeTransport([Response(status=500)])
    retrying = RetryingTransport(inner, policy=RetryPolicy(budget=5), clock=clock, rng=random.Random(5))
    task = asyncio.create_task(retrying.send(make_request()))
    await clock.advance(0)
    assert (retrying.budget, clock.sleeping) == (4, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (retrying.budget, retrying.retries, clock.sleeping) == (5, 0, 0)


async def test_each_retry_is_an_event_without_keys(caplog: pytest.LogCaptureFixture) -> None:
    """The event has the attempt that failed, the delay and the reason."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    retrying, _, _ = _retrying(Response(status=503), TransportError("reset"), OK, emit=events.append)
    await retrying.send(make_request())
    told = [(event.attempt, event.reason) for event in events if isinstance(event, RetryScheduled)]
    assert told == [(1, "503"), (2, "TransportError")]
    shown = caplog.text + repr(events)
    assert "/1.0/***/custom-audience/vip" in shown
    assert KEY not in shown
    assert REST_KEY not in shown


async def test_closing_closes_the_inner_transport() -> None:
    """Closing the outermost transport closes all of them."""
    retrying, inner, _ = _retrying()
    await retrying.aclose()
    assert inner.closed


_OUTCOMES = st.sampled_from([200, 404, 429, 500, 503, "reset", "html"])


@given(
    script=st.lists(_OUTCOMES, max_size=30),
    attempts=st.integers(1, 8),
    timeout=st.floats(0.1, 60),
    budget=st.integers(1, 10),
    idempotent=st.booleans(),
)
def test_any_sequence_of_outcomes_stays_within_the_bounds(
    script: list[int | str], attempts: int, timeout: float, budget: int, idempotent: bool
) -> None:
    """Attempts, time and budget keep their bounds, and the last outcome counts."""

    async def check() -> None:
        outcomes = [*map(_outcome, script), OK]
        policy = RetryPolicy(attempts=attempts, timeout=timeout, budget=budget)
        inner, clock = FakeTransport(list(outcomes)), FakeClock()
        retrying = RetryingTransport(inner, policy=policy, clock=clock, rng=random.Random(5))
        request = make_request(idempotent=idempotent)
        (result,) = await asyncio.gather(retrying.send(request), return_exceptions=True)
        sent = len(inner.requests)
        last = outcomes[sent - 1]
        assert sent <= min(attempts, budget + 1)
        assert clock.monotonic() <= timeout
        assert isinstance(result, Response | TransportError)
        assert result.attempts == sent
        assert retrying.retries == sent - 1
        if isinstance(last, Response):
            assert isinstance(result, Response)
            assert (result.status, result.body) == (last.status, last.body)
        else:
            assert result is last

    asyncio.run(check())


def _outcome(kind: int | str) -> Response | TransportError:
    """Return the outcome that a word names."""
    if kind == "reset":
        return TransportError("reset")
    if kind == "html":
        return Response(status=200, body=b"<html>")
    return Response(status=int(kind), body=b"{}")
