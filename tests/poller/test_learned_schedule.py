from __future__ import annotations

import heapq
import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._poller._learned_schedule import _EDGES, _ENDS, LearnedSchedule, bin_of
from aiobatch.options import PollingPolicy

_AGES = st.floats(0, 1e6)
# Observations: a token was pending or applied, between two ages.
_SIGHTINGS = st.lists(st.tuples(st.booleans(), _AGES, st.floats(0, 100)), max_size=60)
_POSITIVE = st.floats(1e-6, 1e6)


def _schedule(
    sightings: list[tuple[bool, float, float]], policy: PollingPolicy | None = None
) -> LearnedSchedule:
    """Return a schedule that has learned from *sightings*."""
    schedule = LearnedSchedule(policy or PollingPolicy())
    for applied, since, seconds in sightings:
        record = schedule.record_applied if applied else schedule.record_pending
        record(since, since + seconds)
    return schedule


class TestNextAge:
    """The age of the next poll, for any observations."""

    @given(_SIGHTINGS, _AGES, _POSITIVE, _POSITIVE, _POSITIVE)
    def test_within_the_policy(
        self,
        sightings: list[tuple[bool, float, float]],
        seen: float,
        minimum: float,
        maximum: float,
        cost: float,
    ) -> None:
        """The interval is between minimum and maximum, or the smaller one if these cross."""
        policy = PollingPolicy(minimum=minimum, maximum=maximum, poll_cost=cost)
        age = _schedule(sightings, policy).next_age(seen)
        assert seen + min(minimum, maximum) <= age <= seen + maximum

    @given(_SIGHTINGS, _AGES, _POSITIVE, _POSITIVE)
    def test_monotone_in_cost(
        self, sightings: list[tuple[bool, float, float]], seen: float, cost: float, more: float
    ) -> None:
        """A higher cost of a poll never makes a poll earlier."""
        cheap = _schedule(sightings, PollingPolicy(poll_cost=cost)).next_age(seen)
        dear = _schedule(sightings, PollingPolicy(poll_cost=cost + more)).next_age(seen)
        assert cheap <= dear + 1e-9

    @given(_SIGHTINGS, st.lists(_AGES, max_size=5))
    def test_schedule_depends_on_observations_only(
        self, sightings: list[tuple[bool, float, float]], ages: list[float]
    ) -> None:
        """A replay polls at the same ages, and reading the schedule changes nothing."""
        schedule, replay = _schedule(sightings), _schedule(sightings)
        first = [schedule.next_age(age) for age in ages]
        assert [schedule.next_age(age) for age in ages] == [replay.next_age(age) for age in ages] == first

    @given(_SIGHTINGS, _AGES)
    def test_lag_is_worth_the_poll(self, sightings: list[tuple[bool, float, float]], seen: float) -> None:
        """Between minimum and maximum, the lag expected by the next poll equals the cost of a poll."""
        policy = PollingPolicy(minimum=1e-9, maximum=1e9)
        schedule = _schedule(sightings, policy)
        age = schedule.next_age(seen)
        assert _expected_lag(schedule, seen, age) == pytest.approx(policy.poll_cost, rel=1e-4)

    @pytest.mark.parametrize(
        "policy",
        [
            PollingPolicy(poll_cost=5e-324, minimum=5e-324, maximum=5e-324),
            PollingPolicy(poll_cost=5e-324),
            PollingPolicy(poll_cost=1.7e308, minimum=1e308, maximum=1.7e308),
            PollingPolicy(poll_cost=1e-300, maximum=1.7e308),
        ],
        ids=["tiny", "cheap", "huge", "wide"],
    )
    @pytest.mark.parametrize("seen", [-1.0, -1e-9, 0.0, 1e-300, 1e4, 1e16, 1e300])
    def test_extreme_values_stay_within_the_policy(self, policy: PollingPolicy, seen: float) -> None:
        """Values at the ends of the range of floats neither fail nor leave the policy."""
        schedule = _schedule([(True, 0, 5), (False, 0, 1e300), (True, 1e300, 1)], policy)
        age = schedule.next_age(seen)
        assert seen + min(policy.minimum, policy.maximum) <= age <= seen + policy.maximum
        assert not math.isnan(age)

    def test_intervals_grow_before_anything_is_known(self) -> None:
        """Without observations the intervals grow up to the maximum."""
        schedule, ages = LearnedSchedule(PollingPolicy()), [0.0]
        while ages[-1] < 3 * 3600:
            ages.append(schedule.next_age(ages[-1]))
        intervals = [after - before for before, after in itertools.pairwise(ages)]
        assert all(shorter <= longer * 1.05 for shorter, longer in itertools.pairwise(intervals))
        assert intervals[0] < 1
        assert intervals[-1] == pytest.approx(15)

    def test_ages_without_events_get_no_poll(self) -> None:
        """If tokens took 60 s each, young ones are polled at the maximum and old ones soon."""
        schedule = LearnedSchedule(PollingPolicy(poll_cost=0.26))
        for _ in range(100):
            schedule.record_pending(0, 59)
            schedule.record_applied(59, 61)
        assert [schedule.next_age(age) - age for age in (0, 15, 30)] == [15] * 3
        assert schedule.next_age(59) < 61

    @given(_SIGHTINGS, _AGES, st.floats(0, 1e4))
    def test_lag_is_the_integral_of_the_hazards(
        self, sightings: list[tuple[bool, float, float]], seen: float, more: float
    ) -> None:
        """The lag since the last observation is that of the hazards, bin by bin."""
        schedule = _schedule(sightings)
        gathered = schedule.gathered(seen, seen + more)
        assert gathered == pytest.approx(_expected_lag(schedule, seen, seen + more), rel=1e-6, abs=1e-9)


def _expected_lag(schedule: LearnedSchedule, start: float, stop: float) -> float:
    """Integrate hazard(s)·(stop - s) from *start* to *stop*, bin by bin."""
    total = 0.0
    for index, (low, high) in enumerate(zip(_EDGES, _ENDS, strict=True)):
        low, high = max(low, start), min(high, stop)  # noqa: PLW2901  # the part of the bin that counts
        if low < high:
            total += schedule._hazards[index] * (high - low) * (stop - (low + high) / 2)
    return total


class TestLearning:
    """The hazards, after any observations."""

    def test_rare_observations_find_the_hazard(self) -> None:
        """The hazard is found even if most tokens are applied between two observations."""
        schedule, rng = LearnedSchedule(PollingPolicy()), random.Random(5)
        for _ in range(5000):
            applied, age = rng.expovariate(1 / 20), 0.0
            while (then := age + rng.uniform(5, 80)) < applied:
                schedule.record_pending(age, then)
                age = then
            schedule.record_applied(age, then)
        assert schedule.gathered(0, 40) == pytest.approx(40, rel=0.15)

    @given(_SIGHTINGS)
    def test_hazards_are_up_to_date(self, sightings: list[tuple[bool, float, float]]) -> None:
        """The cached hazards equal a full estimate, and are all positive and finite."""
        schedule = _schedule(sightings)
        kept = list(schedule._hazards)
        schedule._mark_stale(0, len(kept) - 1)
        assert schedule._hazards == kept
        assert all(0 < hazard < math.inf for hazard in kept)

    @given(st.lists(st.tuples(_AGES, st.floats(0, 100)), max_size=20))
    def test_one_token_is_one_event(self, spans: list[tuple[float, float]]) -> None:
        """An event counts once, over however long a span it is spread."""
        schedule = _schedule([(True, since, seconds) for since, seconds in spans])
        assert sum(schedule._events) == pytest.approx(len(spans))
        assert sum(schedule._exposure) <= sum(seconds for _, seconds in spans) + 1e-3

    @given(_AGES, st.floats(0, 1e6))
    def test_pending_time_is_kept_whole(self, since: float, seconds: float) -> None:
        """Each second that a token was pending is in a bin."""
        schedule = _schedule([(False, since, seconds)])
        assert sum(schedule._exposure) == pytest.approx(since + seconds - since, abs=1e-6)
        assert sum(schedule._events) == 0

    @pytest.mark.parametrize("until", [3.0, 2.0, 0.0])
    def test_spans_of_no_width(self, until: float) -> None:
        """A token found applied at once, or by a clock that went back, is an event at that age."""
        schedule = _schedule([])
        schedule.record_pending(3, until)
        assert sum(schedule._exposure) == 0
        schedule.record_applied(3, until)
        assert schedule._events[bin_of(3)] == pytest.approx(1)

    def test_token_applied_at_age_zero_is_in_the_first_bin(self) -> None:
        """A token that its first poll finds applied is an event of the first bin."""
        schedule = _schedule([])
        schedule.record_applied(0, 0)
        assert schedule._events[0] == pytest.approx(1)

    def test_constant_hazard_gives_the_best_interval(self) -> None:
        """Tokens applied at a constant rate are polled at intervals of √(2·cost/rate)."""
        rng = random.Random(5)
        policy = PollingPolicy(poll_cost=0.25, minimum=0.01)
        schedule = LearnedSchedule(policy)
        for _ in range(5000):
            applied = rng.expovariate(0.5)
            schedule.record_pending(0, applied)
            schedule.record_applied(applied, applied + 0.01)
        for age in (0.0, 1.0, 2.0, 3.0):
            assert schedule.next_age(age) - age == pytest.approx(math.sqrt(2 * 0.25 / 0.5), rel=0.25)

    def test_schedule_follows_a_target_that_changes(self) -> None:
        """If tokens took a minute and now take seconds, a thousand of them are enough to follow."""
        rng = random.Random(6)
        schedule = LearnedSchedule(PollingPolicy())
        for _ in range(800):
            _watch(schedule, rng.uniform(50, 70))
        lags = []
        for _ in range(1000):
            applied = rng.uniform(2, 10)
            lags.append(_watch(schedule, applied) - applied)
        assert sum(lags[-300:]) / 300 < 1.5

    def test_last_bin_has_no_end(self) -> None:
        """Events after three hours are learned as well."""
        schedule = _schedule([(False, 0, 1e6), (True, 1e6, 10)])
        assert schedule._events[-1] == pytest.approx(1)
        assert schedule._exposure[-1] > 9e5


def _watch(schedule: LearnedSchedule, applied: float) -> float:
    """Poll one token that is applied at an age until that is found. Return the age of the last poll."""
    seen = 0.0
    while (age := schedule.next_age(seen)) < applied:
        schedule.record_pending(seen, age)
        seen = age
    schedule.record_applied(seen, age)
    return age


def test_two_thousand_tokens() -> None:
    """2,000 tokens applied after 2 to 10 s need at most 3.2 polls each, at a mean lag of at most 0.9 s."""
    polls, lag = _simulate(random.Random(1), tokens=2000)
    assert polls <= 3.2
    assert lag <= 0.9


def _simulate(rng: random.Random, tokens: int) -> tuple[float, float]:
    """Poll tokens in virtual time, in steps of half a second. Return polls and lag per token."""
    policy = PollingPolicy(poll_cost=0.26)
    schedule = LearnedSchedule(policy)
    applied = [rng.uniform(2, 10) for _ in range(tokens)]
    seen = [0.0] * tokens
    spread = [1 + policy.jitter * rng.uniform(-1, 1) for _ in range(tokens)]
    due = [(rng.uniform(0, 0.5), token) for token in range(tokens)]
    heapq.heapify(due)
    polls, lag = 0, 0.0
    while due:
        now, token = heapq.heappop(due)
        due_at = seen[token] + (schedule.next_age(seen[token]) - seen[token]) * spread[token]
        if due_at > now:  # it was moved by later observations, and may move again
            heapq.heappush(due, (min(due_at, now + 0.5), token))
            continue
        polls += 1
        if applied[token] <= now:
            schedule.record_applied(seen[token], now)
            lag += now - applied[token]
        else:
            schedule.record_pending(seen[token], now)
            seen[token] = now
            heapq.heappush(due, (now + policy.minimum, token))
    return polls / tokens, lag / tokens
