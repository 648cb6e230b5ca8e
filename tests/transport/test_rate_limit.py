from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.transport._rate_limit import RateLimit, RateMeter


def test_a_meter_tells_events_per_second() -> None:
    """Steady events give their rate, from the first second on."""
    meter = RateMeter(100.0)
    assert meter.rate(100.0) == 0
    for event in range(200):
        meter.add(100.0 + event / 10)
        assert meter.rate(100.0 + event / 10) <= 11
    assert meter.rate(119.99) == pytest.approx(10, rel=0.02)


def test_a_meter_forgets() -> None:
    """What is older than the last seconds does not count, however long nobody asked."""
    meter = RateMeter(0.0)
    for _ in range(50):
        meter.add(1.0)
    assert meter.rate(4.0) == pytest.approx(12.5)
    assert meter.rate(7.0) == 0
    meter.add(1e6)
    assert meter.rate(1e6) == pytest.approx(0.2)


def test_a_burst_at_the_start_is_no_rate_of_thousands() -> None:
    """The rate is told over a second at least; what should not count is taken off."""
    meter = RateMeter(0.5)
    for _ in range(30):
        meter.add(0.51)
    assert meter.rate(0.52) == 30
    assert meter.rate(0.52, without=29) == 1
    assert meter.rate(0.52, without=99) == 0


@given(
    rate=st.floats(0.2, 500),
    late=st.lists(st.floats(0, 3), min_size=5, max_size=40),
    idle=st.floats(0, 100),
)
def test_slots_never_come_faster_than_the_rate(rate: float, late: list[float], idle: float) -> None:
    """However late the takers are, no stretch of time holds more than its share and one to make up for."""
    limit = RateLimit(rate)
    now, taken = idle, []
    for lateness in late:
        now += max(0.0, limit.delay(now)) + lateness / rate
        limit.take(now)
        taken.append(now)
    for start in range(len(taken)):
        for stop in range(start + 1, len(taken)):
            spent = taken[stop] - taken[start]
            assert stop - start <= spent * rate + 1 + 1e-6
            if rate <= 20:
                assert stop - start <= spent * rate + 1e-6


def test_a_late_timer_costs_no_slot_where_slots_are_close() -> None:
    """At 100 a second a millisecond's lateness does not add up."""
    limit = RateLimit(100.0)
    now = 0.0
    for _ in range(1000):
        now += max(0.0, limit.delay(now)) + 0.001
        limit.take(now)
    assert 1000 / now > 97


def test_without_a_ceiling_nothing_waits() -> None:
    """No limit, no slots."""
    limit = RateLimit(None)
    for _ in range(5):
        limit.take(1.0)
        assert limit.delay(1.0) <= 0
    limit.accept(1.0, 10.0)
    assert limit.current is None


def test_a_429_lowers_the_limit_below_what_was_accepted() -> None:
    """The first one says little, so that seven tenths are left."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=100.0, accepted=50.0)
    assert limit.current == pytest.approx(35)
    assert limit.is_lowered


def test_a_429_lowers_a_configured_limit() -> None:
    """The limit was meant well, and the server knows better; then it grows back to it, and no further."""
    limit = RateLimit(10.0)
    limit.refuse(0.0, sent=10.0, accepted=10.0)
    assert limit.current == pytest.approx(7)
    for second in range(60):
        limit.accept(float(second), 7.0)
        assert limit.current is not None
        assert limit.current <= 10
    assert limit.current == 10
    assert not limit.is_lowered


def test_at_first_a_lowered_limit_doubles_every_few_requests() -> None:
    """One that was met once is probably far off, but it never grows by more than half in a second."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=64.0, accepted=0.0)
    assert limit.current == 1
    now, before = 0.0, 1.0
    for _ in range(40):
        now += 1 / before
        limit.accept(now, before)
        assert limit.current is not None
        assert limit.current <= before * 1.5 + 1e-9
        before = limit.current
    assert before > 15


def _grow(limit: RateLimit, start: float, requests: int) -> list[float]:
    """Let so many requests be accepted, as fast as the limit has it; return the limits."""
    now, seen = start, []
    for _ in range(requests):
        assert limit.current is not None
        now += 1 / limit.current
        limit.accept(now, limit.current)
        seen.append(limit.current)
    return [now, *seen]


def test_a_limit_that_is_met_again_rises_within_what_was_accepted_and_refused() -> None:
    """It begins at what got through, is soon nearly back, and stays there for long."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)  # of a search: it rises to where it was refused
    assert limit.current == pytest.approx(3.5 * 0.7)
    now, *seen = _grow(limit, 1.0, 60)
    assert seen == sorted(seen)
    assert seen[49] == pytest.approx(3.5)
    met = seen[-1]
    assert met == pytest.approx(3.5, rel=0.01)
    limit.refuse(now, sent=met, accepted=met)
    assert limit.current == pytest.approx(60 / (now - 1.0))
    _, *seen = _grow(limit, now, 120)
    assert seen[99] == pytest.approx(0.98 * met)
    assert seen[119] == pytest.approx(0.98 * met, rel=0.01)


def test_what_is_refused_too_soon_to_tell_a_rate_is_left_for_less() -> None:
    """After a few requests the limit may have been far too high: another one may hold now."""
    limit = RateLimit(None)
    for now in (0.0, 1.0, 2.0, 3.0):
        limit.refuse(now, sent=10.0, accepted=10.0)
    assert limit.current == pytest.approx(10 * 0.7**4)


def test_probes_grow_rarer_as_long_as_the_limit_is_met_where_it_was_expected() -> None:
    """Twice, then four times as many requests pass between two refusals as at first."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)
    now, passed = 1.0, []
    for _ in range(5):
        count = 0
        while (limit.current or 0.0) < 3.52:
            now, *_ = _grow(limit, now, 1)
            count += 1
        passed.append(count)
        limit.refuse(now, sent=3.52, accepted=3.52)
    assert passed == sorted(passed)
    assert passed[-1] > 3 * passed[0]
    assert passed[-1] == pytest.approx(passed[-2], abs=2)


def test_a_limit_that_rises_well_above_what_was_refused_is_searched_anew() -> None:
    """The server's is another one now: soon ours has doubled."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)
    _, *seen = _grow(limit, 1.0, 200)
    raised = next(index for index, rate in enumerate(seen) if rate > 1.1 * 3.5)
    assert 75 < raised < 100
    assert seen[raised + 10] > 2 * 3.5


def test_what_is_not_used_says_nothing() -> None:
    """A known limit does not grow while less than half of it is sent, and is not forgotten."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)
    before = limit.current
    for second in range(1000):
        limit.accept(float(second), 1.0)
    assert limit.current == before


def test_a_limit_that_binds_nobody_falls_with_what_is_sent() -> None:
    """When others use up the server's limit, ours is measured by what we send."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=100.0, accepted=100.0)
    limit.refuse(1.0, sent=2.0, accepted=2.0)
    assert limit.current == pytest.approx(4 * 0.7)


def test_a_limit_far_above_what_is_sent_is_dropped() -> None:
    """It binds nobody, and costs nothing any more."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    for second in range(100):
        limit.accept(float(second), 1.0)
    assert limit.current is None


@given(
    ceiling=st.none() | st.floats(0.2, 50),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 10)), max_size=200),
)
def test_a_limit_stays_within_its_bounds(
    ceiling: float | None, steps: list[tuple[bool, float, float]]
) -> None:
    """Whatever comes, it never stops all, never passes the ceiling, and never falls for a success."""
    limit = RateLimit(ceiling)
    now = 0.0
    for refused, rate, passed in steps:
        now += passed
        before = limit.current
        if refused:
            limit.refuse(now, sent=rate, accepted=rate)
            assert limit.is_lowered
        else:
            limit.accept(now, rate)
            assert before is None or limit.current is None or limit.current >= before
        if limit.current is not None:
            assert limit.current >= 0.2
            assert ceiling is None or limit.current <= ceiling
