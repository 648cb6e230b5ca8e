"""The learned schedule: the ages at which to poll a token, estimated from observations.

Pure: time comes in as an argument, so that a schedule can be replayed.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator

import attrs

from ..options import PollingPolicy

__all__ = ["LearnedSchedule", "bin_of"]

# Ages are sorted into bins of a tenth of a second up to 0.5 s, then of a fifth of their age, to three hours:
# fine where answers come in seconds, coarse where they come in minutes, few enough to walk in microseconds.
_EDGES = [*(tenths / 10 for tenths in range(5)), *(0.5 * 1.2**power for power in range(55))]
# Where each bin ends. The last one has no end.
_ENDS = [*_EDGES[1:], math.inf]
# Seconds assigned to an event that was observed in no time.
_INSTANT = 1e-6
# Events per second at an age before anything is known: 1/(1+age) gives intervals that grow.
_PRIOR = [1 / (1 + edge) for edge in _EDGES]
# Weight of this assumption, in seconds of observation.
_PRIOR_WEIGHT = 0.5
# Applied tokens after which the weight of all observations is halved. In simulations of targets that go from
# a minute to seconds, 2,000 kept the old lag for thousands of tokens, and 250 cost a steady target nothing.
_HALVE_EVERY = 250


@attrs.define
class LearnedSchedule:
    """When to poll a token, learned from how long other tokens of this target took.

    It estimates a hazard rate for each age: the probability that a token still pending at this age is applied
    within the next second, as events over exposure. The next poll comes when the lag that is expected since
    the last observation equals the cost of a poll: ∫ hazard(s)·(t-s) ds = cost. For a constant hazard that is
    an interval of √(2·cost/hazard), which minimises lag plus the cost of polls. Ages at which no token was
    applied get no poll. Before anything is known the hazard of an age *a* is 1/(1+a), so the intervals grow.
    """

    policy: PollingPolicy
    _exposure: list[float] = attrs.field(init=False, factory=lambda: [0.0] * len(_EDGES))
    _events: list[float] = attrs.field(init=False, factory=lambda: [0.0] * len(_EDGES))
    _estimates: list[float] = attrs.field(init=False, factory=_PRIOR.copy)
    _applied: int = attrs.field(init=False, default=0)
    # Bins to estimate again at the next read: a sweep records hundreds of tokens in a row.
    _stale: range = attrs.field(init=False, default=range(0))

    def record_pending(self, since: float, until: float) -> None:
        """Record that a token was pending from age *since* to age *until*, seconds."""
        first = index = bin_of(since)
        while since < until:
            end = min(_ENDS[index], until)
            self._exposure[index] += end - since
            since, index = end, index + 1
        self._mark_stale(first, index - 1)

    def record_applied(self, since: float, until: float) -> None:
        """Record that a token, pending at age *since*, was applied at age *until*, seconds.

        The exact age is unknown, so the event is spread over the ages between, by the hazard known so far
        (the self-consistent estimate for interval-censored times: Turnbull, J. R. Stat. Soc. B 38, 1976).
        """
        until = max(until, since + _INSTANT)
        bins, hazards = list(_overlaps(since, until)), self._hazards
        weights: list[float] = []
        alive = 1.0
        for index, seconds in bins:
            mass = seconds * hazards[index]
            if self._applied < _HALVE_EVERY:
                # The hazard is mostly assumed, and too high. Survival would crowd the events at the start.
                weights.append(mass)
            else:
                weights.append(-alive * math.expm1(-mass))
                alive -= weights[-1]
        total = sum(weights)
        pending = 1.0
        for (index, seconds), weight in zip(bins, weights, strict=True):
            share = weight / total
            self._events[index] += share
            self._exposure[index] += seconds * (pending - share / 2)
            pending -= share
        self._mark_stale(bin_of(since), bin_of(until))
        self._applied += 1
        if self._applied % _HALVE_EVERY == 0:
            self._forget_half()

    def _forget_half(self) -> None:
        self._exposure = [seconds / 2 for seconds in self._exposure]
        self._events = [events / 2 for events in self._events]
        self._mark_stale(0, len(_EDGES) - 1)

    def _mark_stale(self, first: int, last: int) -> None:
        """Mark the bins *first* to *last* as observed, and the next one, whose estimate depends on them."""
        stale, end = self._stale, min(last + 2, len(_EDGES))
        self._stale = range(min(first, stale.start), max(end, stale.stop)) if stale else range(first, end)

    def intervals(self) -> list[float]:
        """Return the seconds to the next poll, for tokens found pending at the start of each bin."""
        return [self.next_age(edge) - edge for edge in _EDGES]

    @property
    def _hazards(self) -> list[float]:
        """Events per second in each bin, estimated again for bins with new observations."""
        for index in self._stale:
            self._estimates[index] = self._hazard(index)
        self._stale = range(0)
        return self._estimates

    def _hazard(self, index: int) -> float:
        """Estimate the events per second in the bin *index*.

        For a bin without observations, half of the estimate comes from the bin below. If no token was applied
        just before this age, none is likely to be applied now.
        """
        prior = _PRIOR[index]
        if index:
            prior = min(prior, math.sqrt(prior * self._weigh(index - 1, prior)))
        return self._weigh(index, prior)

    def _weigh(self, index: int, prior: float) -> float:
        """Return the observed rate of the bin *index*, weighted against *prior*, events per second."""
        return (self._events[index] + prior * _PRIOR_WEIGHT) / (self._exposure[index] + _PRIOR_WEIGHT)

    def gathered(self, seen: float, age: float) -> float:
        """Return the lag expected at *age* since *seen*: ∫ hazard(s)·(age-s) ds."""
        hazards, mass, lag = self._hazards, 0.0, 0.0
        for index, seconds in _overlaps(seen, age):
            gained = hazards[index] * seconds
            lag += (mass + gained / 2) * seconds
            mass += gained
        return lag

    def survival(self, seen: float, age: float) -> float:
        """Return the probability that a token pending at age *seen* is still pending at *age*."""
        hazards = self._hazards
        return math.exp(-sum(hazards[index] * seconds for index, seconds in _overlaps(seen, age)))

    def next_age(self, seen: float) -> float:
        """Return the age, seconds, of the next poll of a token last found pending at age *seen*."""
        policy = self.policy
        soonest, latest = seen + min(policy.minimum, policy.maximum), seen + policy.maximum
        mass = 0.0  # ∫ hazard since *seen*
        lacking = policy.poll_cost  # minus ∫∫ hazard, the lag expected so far
        hazards, age, index = self._hazards, seen, bin_of(seen)
        while age < latest:
            rate, end = hazards[index], _ENDS[index]
            width = end - age
            gained = (mass + rate * width / 2) * width
            if gained >= lacking:
                due = age + _positive_root(rate / 2, mass, -lacking)
                return min(max(due, soonest), latest)
            lacking -= gained
            mass += rate * width
            age = end
            index += 1
        return latest


def bin_of(age: float) -> int:
    """Return the index of the bin of *age*. The first bin also takes ages below zero."""
    return max(bisect.bisect_right(_EDGES, age) - 1, 0)


def _overlaps(start: float, stop: float) -> Iterator[tuple[int, float]]:
    """Yield each bin between the ages *start* and *stop*, with the seconds spent in it."""
    for index in range(bin_of(start), len(_EDGES)):
        if start >= stop:
            return
        end = min(_ENDS[index], stop)
        yield index, end - start
        start = end


def _positive_root(a: float, b: float, c: float) -> float:
    """Return the x ≥ 0 at which a·x² + b·x + c = 0, for a > 0, b ≥ 0 and c < 0."""
    # The usual formula loses all digits if a is tiny. This form does not, and it does not overflow.
    return -2 * c / (b + math.hypot(b, 2 * math.sqrt(a) * math.sqrt(-c)))
