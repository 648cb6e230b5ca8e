"""When to try again: delays between the tries of a request, and the instants at which a token is asked about.

Pure: time and randomness come in as arguments, so that a schedule can be replayed from its seed.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Iterator

import attrs
import backoff

from .options import PollingPolicy

__all__ = ["LearnedSchedule", "jittered_delays"]


def jittered_delays(initial: float, maximum: float, rng: random.Random) -> Iterator[float]:
    """Yield delays with exponential growth and full jitter, without end.

    Full jitter (each delay uniform between 0 and its bound) spreads callers that failed together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Args:
        initial: Bound of the first delay, seconds.
        maximum: Bound that no delay passes, seconds.
        rng: The source of randomness.
    """
    bounds = backoff.expo(base=2, factor=initial, max_value=maximum)
    next(bounds)  # the package's generators yield once before the first delay
    for bound in bounds:
        yield rng.uniform(0, min(bound, maximum))


# Ages are sorted into bins that grow by an eighth, from 50 ms to three hours: fine where answers come in
# seconds, coarse where they come in minutes, and few enough to walk in microseconds.
_EDGES = [0.0, *itertools.accumulate(range(104), lambda age, _: age * 1.125, initial=0.05)]
# Seconds of observation that the assumption made before any observation is worth.
_PRIOR_WEIGHT = 0.5
# What was seen halves in weight after so many applied tokens, so that a change of the target is noticed.
_HALVE_EVERY = 2000


@attrs.define
class LearnedSchedule:
    """When to ask about a token, learned from how long this target's tokens took.

    It keeps a hazard rate for each age: how likely a token that is not yet applied at this age is to be
    applied within the next second, estimated as events over exposure. The next poll comes when the lag
    that is expected to have gathered since the last look has grown to the cost of a poll: ∫
    hazard(s)·(t-s) ds = cost. For a constant hazard that is an interval of √(2·cost/hazard), which
    minimises lag plus the cost of polls. An age at which nothing was ever applied is passed over without
    a poll; before anything is known the hazard of an age *a* is 1/(1+a), which asks at intervals that
    grow.
    """

    policy: PollingPolicy
    _exposure: list[float] = attrs.field(init=False, factory=lambda: [0.0] * len(_EDGES))
    _events: list[float] = attrs.field(init=False, factory=lambda: [0.0] * len(_EDGES))
    _counted: int = attrs.field(init=False, default=0)

    def record_pending(self, since: float, until: float) -> None:
        """Note that a token was pending from age *since* to age *until*, seconds."""
        for index, seconds in _overlaps(since, until):
            self._exposure[index] += seconds

    def record_applied(self, since: float, until: float) -> None:
        """Note that a token, pending at age *since*, was found applied at age *until*, seconds.

        When exactly is unknown, so the event is spread over the ages between, by the hazard known so far
        (the self-consistent estimate for interval-censored times: Turnbull, J. R. Stat. Soc. B 38, 1976).
        """
        bins = list(_overlaps(since, max(until, since + 1e-6)))
        weights = [seconds * self.hazard(index) for index, seconds in bins]
        total = sum(weights)
        left = 1.0
        for (index, seconds), weight in zip(bins, weights, strict=True):
            share = weight / total
            self._events[index] += share
            self._exposure[index] += seconds * (left - share / 2)
            left -= share
        self._counted += 1
        if self._counted % _HALVE_EVERY == 0:
            self._exposure = [seconds / 2 for seconds in self._exposure]
            self._events = [events / 2 for events in self._events]

    def hazard(self, index: int) -> float:
        """Return the estimated events per second for the bin *index*.

        Before a bin was observed its neighbour below speaks for it, halfway: where nothing was applied just
        before, nothing is likely to be applied now.
        """
        prior = 1 / (1 + _EDGES[index])
        if index:
            prior = min(prior, (prior * self._estimate(index - 1, prior)) ** 0.5)
        return self._estimate(index, prior)

    def _estimate(self, index: int, prior: float) -> float:
        """Weigh what was seen in the bin *index* against *prior*, events per second."""
        return (self._events[index] + prior * _PRIOR_WEIGHT) / (self._exposure[index] + _PRIOR_WEIGHT)

    def next_age(self, seen: float) -> float:
        """Return the age at which to ask next about a token last seen pending at age *seen*, in seconds."""
        mass = lag = 0.0  # ∫ hazard and ∫∫ hazard since *seen*
        age = seen
        last = seen + self.policy.maximum
        index = bisect.bisect_right(_EDGES, seen) - 1
        while age < last:
            end = _EDGES[index + 1] if index + 1 < len(_EDGES) else last
            width = min(end, last) - age
            rate = self.hazard(index)
            gained = mass * width + rate * width * width / 2
            if lag + gained >= self.policy.poll_cost:
                step = _positive_root(rate / 2, mass, lag - self.policy.poll_cost)
                return max(age + step, seen + self.policy.minimum)
            lag += gained
            mass += rate * width
            age += width
            index += 1
        return last


def _overlaps(start: float, stop: float) -> Iterator[tuple[int, float]]:
    """Yield each bin that the ages from *start* to *stop* touch, with the seconds spent in it."""
    index = bisect.bisect_right(_EDGES, start) - 1
    while start < stop:
        end = min(_EDGES[index + 1], stop) if index + 1 < len(_EDGES) else stop
        yield index, end - start
        start = end
        index += 1


def _positive_root(a: float, b: float, c: float) -> float:
    """Return the x ≥ 0 at which a·x² + b·x + c = 0, for a, b ≥ 0 and c ≤ 0."""
    # The usual formula loses all digits when a is tiny; this form of it does not.
    discriminant: float = (b * b - 4 * a * c) ** 0.5
    return -2 * c / (b + discriminant)
