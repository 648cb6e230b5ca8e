from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.transport._rate_limit import RateLimit, RateMeter, RateState


def test_meter_measures_events_per_second() -> None:
    """Steady events give their rate, from the first second on."""
    meter = RateMeter(100.0)
    assert meter.rate(100.0) == 0
    for event in range(200):
        meter.add(100.0 + event / 10)
        assert meter.rate(100.0 + event / 10) <= 11
    assert meter.rate(119.99) == pytest.approx(10, rel=0.02)


def test_meter_forgets_old_events() -> None:
    """Events before the last seconds do not count, however late the next call is."""
    meter = RateMeter(0.0)
    for _ in range(50):
        meter.add(1.0)
    assert meter.rate(4.0) == pytest.approx(12.5)
    assert meter.rate(7.0) == 0
    meter.add(1e6)
    assert meter.rate(1e6) == pytest.approx(0.2)


def test_rate_is_measured_over_one_second_at_least() -> None:
    """A burst at the start is not a rate of thousands, and excluded events are subtracted."""
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
    """However late requests are, no period has more than its share and one missed slot."""
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


def test_late_timer_costs_no_slot_if_slots_are_close() -> None:
    """At 100 a second, delays of a millisecond do not add up."""
    limit = RateLimit(100.0)
    now = 0.0
    for _ in range(1000):
        now += max(0.0, limit.delay(now)) + 0.001
        limit.take(now)
    assert 1000 / now > 97


def test_no_limit_needs_no_slots() -> None:
    """Without a limit no request waits."""
    limit = RateLimit(None)
    for _ in range(5):
        limit.take(1.0)
        assert limit.delay(1.0) <= 0
    limit.accept(1.0, 10.0)
    assert limit.current is None


def test_first_429_lowers_the_limit_below_the_accepted_rate() -> None:
    """The first 429 shows little, so 70 % are left."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=100.0, accepted=50.0)
    assert limit.current == pytest.approx(35)
    assert limit.is_lowered


def test_429_lowers_a_configured_limit() -> None:
    """The server's limit counts. Then the limit grows back to the configured one, and no further."""
    limit = RateLimit(10.0)
    limit.refuse(0.0, sent=10.0, accepted=10.0)
    assert limit.current == pytest.approx(7)
    for second in range(60):
        limit.accept(float(second), 7.0)
        assert limit.current is not None
        assert limit.current <= 10
    assert limit.current == 10
    assert not limit.is_lowered


def test_searched_limit_doubles_every_few_requests() -> None:
    """After one 429 it is probably far off, but it grows by half within a second at most."""
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
    """Accept requests as fast as the limit allows. Return the limits."""
    now, seen = start, []
    for _ in range(requests):
        assert limit.current is not None
        now += 1 / limit.current
        limit.accept(now, limit.current)
        seen.append(limit.current)
    return [now, *seen]


def test_known_limit_rises_between_the_accepted_and_the_refused_rate() -> None:
    """It starts at the accepted rate, and soon stays just below the refused one."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)  # during a search it rises to the refused rate
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


def test_early_refusal_lowers_the_limit_further() -> None:
    """After a few requests the limit may be far too high, because the server's has changed."""
    limit = RateLimit(None)
    for now in (0.0, 1.0, 2.0, 3.0):
        limit.refuse(now, sent=10.0, accepted=10.0)
    assert limit.current == pytest.approx(10 * 0.7**4)


def test_probes_become_rarer_while_refusals_are_expected() -> None:
    """Twice, then four times as many requests pass between two refusals."""
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


def test_limit_well_above_the_refused_rate_is_searched_again() -> None:
    """The server's limit has changed, so this one doubles soon."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)
    _, *seen = _grow(limit, 1.0, 200)
    raised = next(index for index, rate in enumerate(seen) if rate > 1.1 * 3.5)
    assert 75 < raised < 100
    assert seen[raised + 10] > 2 * 3.5


def test_unused_limit_does_not_grow() -> None:
    """A known limit does not grow while less than half of it is used, and is not dropped."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    limit.refuse(1.0, sent=5.0, accepted=5.0)
    before = limit.current
    for second in range(1000):
        limit.accept(float(second), 1.0)
    assert limit.current == before


def test_limit_above_the_rate_in_use_falls_with_it() -> None:
    """If other clients use up the server's limit, the rate in use is the measure."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=100.0, accepted=100.0)
    limit.refuse(1.0, sent=2.0, accepted=2.0)
    assert limit.current == pytest.approx(4 * 0.7)


def test_limit_far_above_the_rate_in_use_is_dropped() -> None:
    """It has no effect any more."""
    limit = RateLimit(None)
    limit.refuse(0.0, sent=5.0, accepted=5.0)
    for second in range(100):
        limit.accept(float(second), 1.0)
    assert limit.current is None


@given(
    ceiling=st.none() | st.floats(0.2, 50),
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 100), st.floats(0, 10)), max_size=200),
)
def test_limit_stays_within_its_bounds(ceiling: float | None, steps: list[tuple[bool, float, float]]) -> None:
    """It is never zero, never above the ceiling, and never falls after a success."""
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


def test_limits_with_one_state_keep_their_ceilings() -> None:
    """A client with a low ceiling neither exceeds it nor changes what one with a higher ceiling learned."""
    state = RateState(lowered=8.0, floor=8.0, peak=20.0)
    low, high = RateLimit(5.0, state), RateLimit(50.0, state)
    assert (low.current, high.current) == (5.0, 8.0)
    low.accept(1.0, 5.0)
    assert state.lowered == 8.0
    high.accept(1.0, 5.0)
    assert state.lowered > 8.0
