"""When a token is due, by what was seen of it and of others of the same target."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator

from .._backoff import jittered_delays
from ..options import PollingPolicy
from ._learned_schedule import LearnedSchedule, bin_of
from ._token_wait import Pending

_NEVER = float("inf")
# Seconds ahead of the deadline at most at which the last poll leaves, so that its answer is there in time.
LEAD = 1.0
# An interval that became less than this share of what it was when tokens were planned by it has them planned
# anew, for which all that wait are gone through.
_SHORTER = 0.95
# Share of the time since the last look by which a token may be asked about too early: to look at it again
# would cost more than the poll is worth later.
_NEARLY = 0.05
# Moments, for each doubling of the interval, at which tokens are asked about: many share a few.
_MOMENTS = 64
# Seconds after it became known within which a look at a token of unknown age tells whether it was applied
# long ago.
_AT_ONCE = 0.5
# What it is worth, seconds, to ask about a token that the list calls done: more than any guess.
_SURE = 1e9
# Seconds below which the first delay after a failed poll is drawn.
_FAILURE_INITIAL = 0.5


class Timing:
    """Says when to ask, and learns from the answers.

    Args:
        policy: How often.
        rng: The source of jitter.
    """

    def __init__(self, policy: PollingPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._schedule = LearnedSchedule(policy)
        self._round_trip: float | None = None
        self._first_looks = self._first_looks_applied = 0
        self._planned: list[float] = []

    # -- what is known --------------------------------------------------------------------------------

    def wobble(self) -> float:
        """Draw a factor for one interval."""
        return self._rng.uniform(1 - self._policy.jitter, 1 + self._policy.jitter)

    def failure_delays(self) -> Iterator[float]:
        """Return the delays after failed polls."""
        return jittered_delays(_FAILURE_INITIAL, self._policy.failure_maximum, self._rng)

    def lead(self, *, limited: bool) -> float:
        """Return the seconds ahead of a deadline at which the last poll leaves.

        Args:
            limited: Whether requests are, so that it may find another one in line before it.
        """
        return min((self._round_trip or 0.0) * (2 if limited else 1), LEAD)

    def due(self, pending: Pending) -> float:
        """Return the time at which to ask about *pending*, by what is known now."""
        if pending.urgent:
            return -_NEVER
        if pending.hinted or pending.failures:
            return pending.not_before
        interval = (self._schedule.next_age(pending.seen) - pending.seen) * pending.wobble
        due = _share(pending.born + pending.seen + interval, interval)
        if pending.is_first_look:
            # It may have been applied long ago: ask at once, unless such tokens turned out to be pending.
            due = min(due, pending.born + self._first_interval)
        return due

    def is_due(self, pending: Pending, now: float) -> bool:
        """Tell whether to ask about *pending* now, by what is known now."""
        slack = 0.0 if pending.failures else _NEARLY * (now - pending.born - pending.seen)
        return self.due(pending) <= now + slack

    def gain(self, pending: Pending, now: float) -> float:
        """Return what an answer about *pending* is worth now: the lag, seconds, that is expected to end."""
        if pending.urgent or pending.hinted:
            return _NEVER if pending.urgent else _SURE
        age = now - pending.born
        gain = self._schedule.gathered(pending.seen, age)
        return gain + self._likely * age if pending.is_first_look else gain

    def share_pending(self, sample: Iterable[Pending], now: float) -> float:
        """Return the share of *sample* that is still pending, as far as can be known without asking."""
        shares = [self._schedule.survival(pending.seen, now - pending.born) for pending in sample]
        return sum(shares) / len(shares)

    @property
    def _first_interval(self) -> float:
        """Seconds that a token of unknown age is left alone at first."""
        return self._policy.poll_cost * max(0.0, 1 / self._likely - 2)

    @property
    def _likely(self) -> float:
        """The share of tokens of unknown age that were applied before they became known."""
        return (self._first_looks_applied + 1) / (self._first_looks + 2)

    def hastened(self) -> Callable[[Pending], bool] | None:
        """Tell of which tokens an answer is wanted much sooner than when they were planned; None for none.

        What is wanted later needs no such look: it shows when the token's time has come.
        """
        intervals = [*self._schedule.intervals(), self._first_interval]
        planned = self._planned or [_NEVER] * len(intervals)
        shorter = {
            number for number, interval in enumerate(intervals) if interval < _SHORTER * planned[number]
        }
        self._planned = [
            interval if number in shorter else max(interval, planned[number])
            for number, interval in enumerate(intervals)
        ]
        if not shorter:
            return None
        first = len(intervals) - 1
        return lambda pending: bin_of(pending.seen) in shorter or (pending.is_first_look and first in shorter)

    def mean_interval(self, ages: Iterable[float]) -> float:
        """Return the mean interval, seconds, of tokens last seen pending at *ages*."""
        intervals = [self._schedule.next_age(age) - age for age in ages]
        return sum(intervals) / len(intervals)

    # -- what is learned ------------------------------------------------------------------------------

    def took(self, seconds: float) -> None:
        """Learn how long a poll takes, so that the last one leaves in time."""
        known = seconds if self._round_trip is None else self._round_trip
        self._round_trip = known + (seconds - known) / 8

    def looked(self, pending: Pending, now: float, *, applied: bool) -> None:
        """Learn from an answer that named a state."""
        age = now - pending.born
        at_once = pending.is_first_look and age < _AT_ONCE
        self._first_looks += at_once or (pending.is_first_look and not applied)
        if applied and at_once:
            self._first_looks_applied += 1  # when it was applied is anybody's guess
        elif applied:
            self._schedule.record_applied(pending.seen, age)

    def saw_pending(self, pending: Pending, now: float) -> None:
        """Learn from *pending* being pending now."""
        age = now - pending.born
        self._schedule.record_pending(pending.seen, age)
        pending.seen = max(age, 1e-9)
        pending.hinted = False
        pending.failures = 0
        pending.wobble = self.wobble()

    def failed(self, pending: Pending, now: float, why: str | None) -> None:
        """Ask again after a delay that grows with every failure in a row."""
        if pending.failure_delays is None or not pending.failures:
            pending.failure_delays = self.failure_delays()
        pending.failures += 1
        pending.last_failure = why
        pending.not_before = now + next(pending.failure_delays)


def _share(when: float, interval: float) -> float:
    """Move *when* by a hundredth of *interval* at most, to a moment that others have as well."""
    grain = math.ldexp(1 / _MOMENTS, math.frexp(interval)[1] - 1)
    return round(when / grain) * grain
