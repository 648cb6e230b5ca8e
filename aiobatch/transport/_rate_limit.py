"""Rates: how many requests a second there were, how many there may be, and when the next one may go.

Pure: every method takes the time, monotonic seconds.
"""

from __future__ import annotations

import math

import attrs

# Seconds over which a rate is told; the meter keeps one more, the current one.
_WINDOW = 5
# Share by which slots lie further apart than the limit asks, so that a server's clock, the timers' grain and
# a network that is not always equally fast do not make two requests arrive too soon after each other.
_MARGIN = 0.02
# Slots closer together than these seconds may be made up for when a timer was late, one slot at most: servers
# enforce such a limit with some depth. Of wider ones only most of the margin is, as a server may count every
# single request.
_FINE = 0.05
_KEPT = 0.005


class RateMeter:
    """Counts events, and tells their rate over the last seconds."""

    __slots__ = ("_counts", "_second", "_start")

    def __init__(self, now: float) -> None:
        self._start = now
        self._second = int(now)
        self._counts = [0] * (_WINDOW + 1)

    def add(self, now: float) -> None:
        """Count one event."""
        second = int(now)
        if second != self._second:
            self._turn(second)
        self._counts[second % (_WINDOW + 1)] += 1

    def rate(self, now: float, *, without: int = 0) -> float:
        """Return events per second over the last seconds, over one second at least.

        Args:
            now: Monotonic seconds.
            without: Events not to count.
        """
        self._turn(int(now))
        seconds = min(now - self._start, _WINDOW + now % 1)
        return max(0, sum(self._counts) - without) / max(seconds, 1.0)

    def _turn(self, second: int) -> None:
        """Empty the buckets of the seconds that have begun since."""
        for passed in range(max(self._second, second - _WINDOW - 1) + 1, second + 1):
            self._counts[passed % (_WINDOW + 1)] = 0
        self._second = second


# Requests per second that a lowered limit never goes below, and not below at first, when nothing is known.
_LEAST, _LEAST_AT_FIRST = 0.2, 1.0
# What is left of a rate that is refused when little is known, and the least that is ever left.
_LEFT = 0.7
# Where the next rise is to end, as shares of the rate that was refused: at it while the server's limit is
# still searched; just below it when it held long enough to be nearly right; halfway when it did not.
_SEARCHED, _NEARLY, _HALFWAY = 1.0, 0.98, 0.85
# A limit that was nearly right is left by a twentieth at least, so that a server without any depth gets even.
_STEP_BACK = 0.95
# Requests, and seconds, between two refusals that tell a rate; fewer are chance.
_ENOUGH, _ENOUGH_SECONDS = 10, 2.0
# Requests, and seconds' worth of them, until a rise ends, by how many refusals in a row came where they were
# expected, none, one or more: the surer, the rarer are probes.
_RISE, _RISE_SECONDS, _RARER = 50, 10, (1, 2, 4)
# Share of the limit by which it goes on above the end of a rise within as many requests again.
_CREEP = 0.05
# So far above the rate that was refused, the server's limit must be another one: it is searched anew.
_RAISED = 1.1
# Requests until the limit has doubled while the server's is searched, and its growth within a second at most.
_DOUBLING, _GROWTH = 5, 0.5
# A limit so many times higher than what is sent binds nobody.
_SLACK = 4


@attrs.define
class RateLimit:
    """How many requests a second may go: the configured limit, and a lower one that 429 answers teach.

    At the first 429 little is known, and a low limit grows exponentially until it is refused in turn. From
    then on the server's lies between what it accepted since the last refusal (at a refusal nothing is saved
    up) and what it refused. The limit rises within this bracket on a cubic curve, as CUBIC's window does (RFC
    9438), but over the requests that were accepted and not over time alone, so that few are refused at any
    rate: steep at first, flat just below the rate that was refused, then ever steeper above it.

    Args:
        ceiling: Requests per second that are never passed; None for no limit.
    """

    ceiling: float | None
    _lowered: float | None = attrs.field(init=False, default=None)
    _is_known: bool = attrs.field(init=False, default=False)
    _floor: float = attrs.field(init=False, default=0.0)
    _peak: float = attrs.field(init=False, default=0.0)
    _met: float = attrs.field(init=False, default=0.0)
    _met_at: float = attrs.field(init=False, default=0.0)
    _confirmed: int = attrs.field(init=False, default=0)
    _accepted: int = attrs.field(init=False, default=0)
    _grown: float = attrs.field(init=False, default=0.0)
    _slot: float = attrs.field(init=False, default=-math.inf)

    @property
    def is_lowered(self) -> bool:
        """Whether a 429 lowered the limit."""
        return self._lowered is not None

    @property
    def current(self) -> float | None:
        """Requests per second now; None for no limit."""
        return self.ceiling if self._lowered is None else self._lowered

    def delay(self, now: float) -> float:
        """Return the seconds until the next slot; 0 or less when it is there."""
        return self._slot - now

    def skip(self, now: float) -> None:
        """Give up the slots before now: something else than a late timer let them pass."""
        self._slot = max(self._slot, now)

    def take(self, now: float) -> None:
        """Use the slot that is there."""
        rate = self.current
        if rate is not None:
            spacing = (1 + _MARGIN) / rate
            self._slot = max(self._slot + spacing, now if spacing < _FINE else now + (1 + _KEPT) / rate)

    def accept(self, now: float, sent: float) -> None:
        """Let a lowered limit grow: a request was not refused.

        Args:
            now: Monotonic seconds.
            sent: Requests per second over the last seconds.
        """
        if self._lowered is None or (self._is_known and 2 * sent < self._lowered):
            return  # where half of the limit is not used, that nothing is refused tells nothing
        self._accepted += 1
        fastest = self._lowered * (1 + _GROWTH * min(now - self._grown, 1.0))
        self._lowered = max(self._lowered, min(self._curve(), fastest))
        self._grown = now
        if self._is_known and self._lowered > _RAISED * self._met:
            self._begin(now, self._lowered, self._lowered, is_known=False)
        if self._lowered >= (_SLACK * sent if self.ceiling is None else self.ceiling):
            self._lowered = None

    def _curve(self) -> float:
        """Return where the curve stands after the requests accepted so far."""
        if not self._is_known:
            return self._floor * math.exp2(min(self._accepted / _DOUBLING, 64))
        rise = max(_RISE, _RISE_SECONDS * self._peak) * _RARER[min(self._confirmed, len(_RARER) - 1)]
        distance = self._accepted / rise - 1
        height = self._peak - self._floor
        if distance > 0:
            height = max(height, _CREEP * self._peak)
        return self._peak + height * distance * distance * distance

    def refuse(self, now: float, *, sent: float, accepted: float) -> None:
        """Lower the limit: a request met a 429.

        Args:
            now: Monotonic seconds.
            sent: Requests per second over the last seconds.
            accepted: The same, without those that were refused or are under way.
        """
        limit = self.current
        if self._lowered is None or limit is None:
            peak = min(max(accepted, _LEAST_AT_FIRST / _LEFT), limit or math.inf)
            self._begin(now, _LEFT * peak, peak, is_known=False)
            return
        # What is sent may be far below the limit, when others use up the server's.
        self._met = met = min(limit, 2 * sent)
        seconds = now - self._met_at
        if not self._is_known:
            self._begin(now, _LEFT * met, _SEARCHED * met)
        elif self._accepted < _ENOUGH or seconds < _ENOUGH_SECONDS:
            self._begin(now, _LEFT * met, _HALFWAY * met)
        else:
            held = min(self._accepted / seconds, _STEP_BACK * met)
            self._begin(now, max(held, _LEFT * met), _NEARLY * met, confirmed=self._confirmed + 1)

    def _begin(
        self, now: float, floor: float, peak: float, *, is_known: bool = True, confirmed: int = 0
    ) -> None:
        """Begin to rise from *floor* to *peak*."""
        self._floor, self._peak = max(floor, _LEAST), max(peak, _LEAST)
        self._lowered = self._floor
        self._is_known, self._confirmed = is_known, confirmed
        self._accepted = 0
        self._met_at = self._grown = now
