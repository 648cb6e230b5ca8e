"""The line of those who are due, and the gate at its head."""

from __future__ import annotations

import math

import attrs
import pytest

from aiobatch._poller._poll_queue import UNLIMITED, PollLimiter, PollQueue
from aiobatch._poller._token_wait import TokenWait
from aiobatch.options import PollingPolicy

from .simulation import pending_token


@attrs.define
class Requests:
    """The client's line of requests."""

    queued: int = 0
    limit: float | None = None


_LIMITER = PollLimiter(PollingPolicy(), UNLIMITED)


def _all(queue: PollQueue) -> list[TokenWait]:
    gone = []
    while queue.first is not None:
        gone.append(queue.pop())
    return gone


def test_line_keeps_the_order() -> None:
    """Who came first goes first, and whoever was put ahead goes before."""
    queue = PollQueue(lambda *_: 0.0, _LIMITER)
    one, two, three = pending_token(), pending_token(), pending_token()
    queue.append(one)
    queue.append(two)
    queue.prepend(three)

    assert _all(queue) == [three, one, two]


def test_who_left_the_line_is_passed_over() -> None:
    """A token that is not queued any more is not asked about, and one that is put ahead only once."""
    queue = PollQueue(lambda *_: 0.0, _LIMITER)
    gone, twice = pending_token(), pending_token()
    for pending in gone, twice:
        queue.append(pending)
    gone.queued = False
    queue.prepend(twice)

    assert _all(queue) == [twice]


def test_sorted_by_worth() -> None:
    """Sorting puts first who is worth most now, and leaves equals in their order."""
    queue = PollQueue(lambda pending, now: now - pending.pending_age, _LIMITER)
    many = [pending_token(seen) for seen in (3.0, 1.0, 2.0, 1.0)]
    for pending in many:
        queue.append(pending)

    queue.sort(10.0)

    assert _all(queue) == [many[1], many[3], many[2], many[0]]


def test_long_line_is_not_sorted_all_the_time() -> None:
    """The longer the line, the longer it keeps its order: sorting takes a small share of the time."""
    sorts: set[float] = set()

    def worth(_: TokenWait, now: float) -> float:
        sorts.add(now)
        return 0.0

    queue = PollQueue(worth, _LIMITER)
    for _ in range(1000):
        queue.append(pending_token())
    for tenths in range(100):
        queue.sort(tenths / 10)

    assert len(sorts) == 4


def test_gate_without_a_limit() -> None:
    """Where requests are not limited the policy's rate counts, with a burst, and its polls at once."""
    limiter = PollLimiter(PollingPolicy(rate=10, in_flight=2), UNLIMITED)

    assert limiter.limit is None
    assert limiter.delay(5.0, 2, urgent=True) == math.inf
    for _ in range(3):
        assert limiter.delay(5.0, 1, urgent=False) == 0
        limiter.take(5.0)
    assert limiter.delay(5.0, 1, urgent=True) == pytest.approx(0.1)


def test_gate_keeps_to_the_limit_of_requests() -> None:
    """Polls leave no faster than requests may go, without a burst; one at a deadline waits for nobody."""
    limiter = PollLimiter(PollingPolicy(), Requests(limit=5))
    limiter.take(7.0)

    assert limiter.limit == 5
    assert limiter.delay(7.0, 0, urgent=False) == pytest.approx(0.2)
    assert limiter.delay(7.2, 0, urgent=False) == pytest.approx(0)
    assert limiter.delay(7.0, 0, urgent=True) == 0


def test_gate_holds_while_requests_stand_in_line() -> None:
    """While others' requests wait, one poll stands among them; it does not become two."""
    limiter = PollLimiter(PollingPolicy(), Requests(queued=8, limit=5))

    assert limiter.delay(7.0, 0, urgent=False) == 0
    assert limiter.delay(7.0, 1, urgent=False) == pytest.approx(0.2)
