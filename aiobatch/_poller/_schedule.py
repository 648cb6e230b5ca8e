"""The poll schedule: when a token is due, by what is known of it and of other tokens of the same target."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable

from .._backoff import jittered_delays
from ..errors import AiobatchError
from ..options import PollingPolicy
from ._learned_schedule import LearnedSchedule, bin_of
from ._token_wait import TokenWait

# Seconds ahead of a deadline at most at which the last poll leaves, so that its answer arrives in time.
MAX_DEADLINE_LEAD = 1.0
# Polls are rescheduled if their interval shrank below this share of the one they were scheduled by. That
# visits every token.
_SHRUNK = 0.95
# Share of the time since the last observation by which a token may be polled early: checking it again would
# cost more than the later poll gains.
_EARLY = 0.05
# Instants at which tokens are polled, for each doubling of the interval. Many tokens share one wake-up.
_INSTANTS = 64
# Seconds since a token of unknown age became known, within which its first poll shows whether it was applied
# before.
_FIRST_POLL_WINDOW = 0.5
# The priority, in seconds, of a token that the list shows as done: above any estimate.
_CERTAIN = 1e9
# Upper bound, seconds, of the first delay after a failed poll.
_FAILURE_INITIAL = 0.5


class PollSchedule:
    """Decides when to poll, and learns from the answers."""

    def __init__(self, policy: PollingPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._learned = LearnedSchedule(policy)
        self._round_trip = 0.0
        self._first_polls = self._first_polls_applied = 0
        self._scheduled_intervals: list[float] = []

    @property
    def poll_cost(self) -> float:
        """Seconds of lag that one poll is worth."""
        return self._policy.poll_cost

    # -- when to poll ---------------------------------------------------------------------------------

    def draw_jitter_factor(self) -> float:
        """Return a random factor for one interval."""
        return self._rng.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)

    def deadline_lead(self, *, is_limited: bool) -> float:
        """Return the seconds ahead of a deadline at which the last poll leaves.

        Args:
            is_limited: Whether requests are limited, so that one other request may be admitted before it.
        """
        return min(self._round_trip * (2 if is_limited else 1), MAX_DEADLINE_LEAD)

    def due(self, wait: TokenWait) -> float:
        """Return the time at which to poll *wait*, by what is known now."""
        if wait.urgent:
            return -math.inf
        if wait.probably_done or wait.failures:
            return wait.not_before
        interval = (self._learned.next_age(wait.pending_age) - wait.pending_age) * wait.jitter_factor
        due = _round_to_instant(wait.issued_at + wait.pending_age + interval, interval)
        if wait.is_first_poll:
            # It may have been applied long ago, so poll at once unless such tokens turned out to be pending.
            due = min(due, wait.issued_at + self._first_interval)
        return due

    def is_due(self, wait: TokenWait, now: float) -> bool:
        """Return whether to poll *wait* now, by what is known now."""
        slack = 0.0 if wait.failures else _EARLY * (now - wait.issued_at - wait.pending_age)
        return self.due(wait) <= now + slack

    def priority(self, wait: TokenWait, now: float) -> float:
        """Return what a poll of *wait* gains now: the lag, in seconds, that it is expected to end."""
        if wait.urgent or wait.probably_done:
            return math.inf if wait.urgent else _CERTAIN
        age = now - wait.issued_at
        lag = self._learned.gathered(wait.pending_age, age)
        return lag + self._applied_before_share * age if wait.is_first_poll else lag

    def share_pending(self, sample: Iterable[TokenWait], now: float) -> float:
        """Return the share of *sample* that is expected to be pending now."""
        shares = [self._learned.survival(wait.pending_age, now - wait.issued_at) for wait in sample]
        return sum(shares) / len(shares)

    def expected_lag(self, sample: Iterable[TokenWait], now: float) -> float:
        """Return the mean lag, seconds, that polls of *sample* are expected to end now.

        It is infinite if one of them was not observed for longer than the policy allows.
        """
        seen = [(wait.pending_age, now - wait.issued_at) for wait in sample]
        if max(age - since for since, age in seen) > self._policy.maximum:
            return math.inf
        return sum(self._learned.gathered(since, age) for since, age in seen) / len(seen)

    @property
    def _first_interval(self) -> float:
        """Seconds until the first poll of a token of unknown age."""
        return self._policy.poll_cost * max(0.0, 1 / self._applied_before_share - 2)

    @property
    def _applied_before_share(self) -> float:
        """The share of tokens of unknown age that were applied before they became known."""
        return (self._first_polls_applied + 1) / (self._first_polls + 2)

    def due_earlier(self) -> Callable[[TokenWait], bool] | None:
        """Return a predicate for tokens that are due much earlier than scheduled, or None for no token.

        Tokens that are due later need no predicate: their old time comes first, and then they are checked.
        """
        intervals = [*self._learned.intervals(), self._first_interval]
        scheduled = self._scheduled_intervals or [math.inf] * len(intervals)
        shrunk = {
            number for number, interval in enumerate(intervals) if interval < _SHRUNK * scheduled[number]
        }
        self._scheduled_intervals = [
            interval if number in shrunk else max(interval, scheduled[number])
            for number, interval in enumerate(intervals)
        ]
        if not shrunk:
            return None
        first = len(intervals) - 1
        return lambda wait: bin_of(wait.pending_age) in shrunk or (wait.is_first_poll and first in shrunk)

    def mean_interval(self, ages: Iterable[float]) -> float:
        """Return the mean interval, seconds, of tokens last found pending at *ages*."""
        intervals = [self._learned.next_age(age) - age for age in ages]
        return sum(intervals) / len(intervals)

    # -- what is learned ------------------------------------------------------------------------------

    def record_round_trip(self, seconds: float) -> None:
        """Record how long a poll took, so that the last one before a deadline leaves in time."""
        known = self._round_trip or seconds
        self._round_trip = known + (seconds - known) / 8

    def record_state(self, wait: TokenWait, now: float, *, applied: bool) -> None:
        """Learn from the answer to a poll that contained a state."""
        age = now - wait.issued_at
        in_window = wait.is_first_poll and age < _FIRST_POLL_WINDOW
        self._first_polls += in_window or (wait.is_first_poll and not applied)
        if applied and in_window:
            self._first_polls_applied += 1  # when it was applied is unknown, so the schedule learns nothing
        elif applied:
            self._learned.record_applied(wait.pending_age, age)

    def record_pending(self, wait: TokenWait, now: float) -> None:
        """Learn that *wait* is pending now."""
        age = now - wait.issued_at
        self._learned.record_pending(wait.pending_age, age)
        wait.pending_age = max(age, 1e-9)
        wait.probably_done = False
        wait.failures = 0
        wait.jitter_factor = self.draw_jitter_factor()

    def record_failure(self, wait: TokenWait, now: float, failure: AiobatchError) -> None:
        """Delay the next poll of *wait*, longer with each consecutive failure."""
        if wait.failure_delays is None or not wait.failures:
            wait.failure_delays = jittered_delays(_FAILURE_INITIAL, self._policy.failure_maximum, self._rng)
        wait.failures += 1
        # A copy, because the traceback holds the poll's frames, which hold *wait*.
        wait.last_failure = copy.copy(failure)
        wait.not_before = now + next(wait.failure_delays)


def _round_to_instant(when: float, interval: float) -> float:
    """Move *when* by at most a hundredth of *interval*, to an instant that other tokens share."""
    grain = math.ldexp(1 / _INSTANTS, math.frexp(interval)[1] - 1)
    return round(when / grain) * grain
