"""The line of those who are due, and the gate at its head."""

from __future__ import annotations

import math

import attrs
import pytest

from aiobatch._poller._poll_queue import UNPACED, Gate, Line
from aiobatch._poller._token_wait import Pending
from aiobatch.options import PollingPolicy

from .simulation import pending_token


@attrs.define
class Requests:
    """The client's line of requests."""

    queued: int = 0
    limit: float | None = None


_GATE = Gate(PollingPolicy(), UNPACED)


def _all(line: Line) -> list[Pending]:
    gone = []
    while line.first is not None:
        gone.append(line.pop())
    return gone


def test_line_keeps_the_order() -> None:
    """Who came first goes first, and whoever was put ahead goes before."""
    line = Line(lambda *_: 0.0, _GATE)
    one, two, three = pending_token(), pending_token(), pending_token()
    line.put(one)
    line.put(two)
    line.put_first(three)

    assert _all(line) == [three, one, two]


def test_who_left_the_line_is_passed_over() -> None:
    """A token that is not queued any more is not asked about, and one that is put ahead only once."""
    line = Line(lambda *_: 0.0, _GATE)
    gone, twice = pending_token(), pending_token()
    for pending in gone, twice:
        line.put(pending)
    gone.queued = False
    line.put_first(twice)

    assert _all(line) == [twice]


def test_sorted_by_worth() -> None:
    """Sorting puts first who is worth most now, and leaves equals in their order."""
    line = Line(lambda pending, now: now - pending.seen, _GATE)
    many = [pending_token(seen) for seen in (3.0, 1.0, 2.0, 1.0)]
    for pending in many:
        line.put(pending)

    line.sort(10.0)

    assert _all(line) == [many[1], many[3], many[2], many[0]]


def test_long_line_is_not_sorted_all_the_time() -> None:
    """The longer the line, the longer it keeps its order: sorting takes a small share of the time."""
    sorts: set[float] = set()

    def worth(_: Pending, now: float) -> float:
        sorts.add(now)
        return 0.0

    line = Line(worth, _GATE)
    for _ in range(1000):
        line.put(pending_token())
    for tenths in range(100):
        line.sort(tenths / 10)

    assert len(sorts) == 4


def test_gate_without_a_limit() -> None:
    """Where requests are not limited the policy's rate counts, with a burst, and its polls at once."""
    gate = Gate(PollingPolicy(rate=10, in_flight=2), UNPACED)

    assert gate.limit is None
    assert gate.delay(5.0, 2, urgent=True) == math.inf
    for _ in range(3):
        assert gate.delay(5.0, 1, urgent=False) == 0
        gate.take(5.0)
    assert gate.delay(5.0, 1, urgent=True) == pytest.approx(0.1)


def test_gate_keeps_to_the_limit_of_requests() -> None:
    """Polls leave no faster than requests may go, without a burst; one at a deadline waits for nobody."""
    gate = Gate(PollingPolicy(), Requests(limit=5))
    gate.take(7.0)

    assert gate.limit == 5
    assert gate.delay(7.0, 0, urgent=False) == pytest.approx(0.2)
    assert gate.delay(7.2, 0, urgent=False) == pytest.approx(0)
    assert gate.delay(7.0, 0, urgent=True) == 0


def test_gate_holds_while_requests_stand_in_line() -> None:
    """While others' requests wait, one poll stands among them; it does not become two."""
    gate = Gate(PollingPolicy(), Requests(queued=8, limit=5))

    assert gate.delay(7.0, 0, urgent=False) == 0
    assert gate.delay(7.0, 1, urgent=False) == pytest.approx(0.2)
