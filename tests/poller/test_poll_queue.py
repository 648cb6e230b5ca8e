"""The queue of due polls, and its limiter."""

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
    """The client's queue of requests."""

    queued: int = 0
    limit: float | None = None
    poll_at: float | None = None
    resumed_at: float = -math.inf


_LIMITER = PollLimiter(PollingPolicy(), UNLIMITED)


def _all(queue: PollQueue) -> list[TokenWait]:
    gone = []
    while queue.first is not None:
        gone.append(queue.pop())
    return gone


def test_queue_keeps_the_order_of_arrival() -> None:
    """A token that is prepended comes before all others."""
    queue = PollQueue(lambda *_: 0.0, _LIMITER)
    one, two, three = pending_token(), pending_token(), pending_token()
    queue.append(one)
    queue.append(two)
    queue.prepend(three)

    assert _all(queue) == [three, one, two]


def test_removed_token_is_skipped() -> None:
    """A token that is no longer queued is skipped, and one that is prepended comes only once."""
    queue = PollQueue(lambda *_: 0.0, _LIMITER)
    gone, twice = pending_token(), pending_token()
    for pending in gone, twice:
        queue.append(pending)
    gone.queued = False
    queue.prepend(twice)

    assert _all(queue) == [twice]


def test_sort_puts_the_highest_priority_first() -> None:
    """Tokens of equal priority keep their order."""
    queue = PollQueue(lambda pending, now: now - pending.pending_age, _LIMITER)
    many = [pending_token(seen) for seen in (3.0, 1.0, 2.0, 1.0)]
    for pending in many:
        queue.append(pending)

    queue.sort(10.0)

    assert _all(queue) == [many[1], many[3], many[2], many[0]]


def test_long_queue_is_sorted_rarely() -> None:
    """The longer the queue, the longer it keeps its order, so that sorting costs little."""
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


def test_policy_limits_polls_if_requests_are_not_limited() -> None:
    """The policy's rate allows a burst, and its limit of polls in flight counts."""
    limiter = PollLimiter(PollingPolicy(rate=10, in_flight=2), UNLIMITED)

    assert limiter.limit is None
    assert limiter.delay(5.0, 2, urgent=True) == math.inf
    for _ in range(3):
        assert limiter.delay(5.0, 1, urgent=False) == 0
        limiter.take(5.0)
    assert limiter.delay(5.0, 1, urgent=True) == pytest.approx(0.1)


def test_polls_keep_to_the_limit_of_requests() -> None:
    """Polls leave without a burst. One at its deadline leaves at once."""
    limiter = PollLimiter(PollingPolicy(), Requests(limit=5))
    limiter.take(7.0)

    assert limiter.limit == 5
    assert limiter.delay(7.0, 0, urgent=False) == pytest.approx(0.2)
    assert limiter.delay(7.2, 0, urgent=False) == pytest.approx(0)
    assert limiter.delay(7.0, 0, urgent=True) == 0


def test_only_one_poll_joins_queued_requests() -> None:
    """While other requests wait, one poll waits among them, and no second one."""
    limiter = PollLimiter(PollingPolicy(), Requests(queued=8, limit=5))

    assert limiter.delay(7.0, 0, urgent=False) == 0
    assert limiter.delay(7.0, 1, urgent=False) == pytest.approx(0.2)


def test_one_poll_probes_each_time_during_a_pause() -> None:
    """No second poll leaves until the probe has failed. One at its deadline leaves at once."""
    requests = Requests(poll_at=8.0)
    limiter = PollLimiter(PollingPolicy(), requests)

    assert limiter.delay(7.0, 0, urgent=False) == pytest.approx(1)
    assert limiter.delay(7.0, 0, urgent=True) == 0
    assert limiter.delay(8.0, 0, urgent=False) == 0
    limiter.take(8.0)
    assert 0 < limiter.delay(8.0, 1, urgent=False) < 0.1
    requests.poll_at = 9.0
    assert limiter.delay(9.0, 0, urgent=False) == 0


@pytest.mark.parametrize(("busiest", "rate"), [(1, 50), (20, 300)])
def test_polls_after_a_pause_are_spread(busiest: int, rate: float) -> None:
    """They leave at most one and a half times as fast as in the busiest tenth of a second before."""
    requests = Requests()
    limiter = PollLimiter(PollingPolicy(), requests)
    for when in (5.0, *[6.0] * busiest):
        limiter.take(when)
    requests.resumed_at = 10.0

    limiter.take(10.5)
    assert limiter.delay(10.5, 1, urgent=False) == pytest.approx(1 / rate)
    limiter.take(11.0)
    assert limiter.delay(11.0, 1, urgent=False) == 0
