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
# What is left of the rate that met a 429: a limit met for the first time, or again after a few requests, says
# little about the server's; one that held for long says nearly all.
_LEFT, _LEFT_WHEN_KNOWN = 0.7, 0.9
# A limit that held for long and then met a 429 was too high by no more than this.
_OVERSHOOT = 0.98
# Requests, and seconds' worth of them, until a lowered limit is back where it was met; then it grows faster.
_PLATEAU, _PLATEAU_SECONDS = 50, 10
# Requests until it has doubled, as long as it was met only once.
_DOUBLING = 5
# Share by which it grows at most within a second.
_GROWTH = 0.5
# A limit so many times higher than what is sent binds nobody.
_SLACK = 4


@attrs.define
class RateLimit:
    """How many requests a second may go: the configured limit, and a lower one that 429 answers teach.

    After a 429 the limit follows a cubic curve, as CUBIC's window does (RFC 9438), but over the requests that
    were accepted since and not over time, so that few are refused at any rate: steep up to the rate that was
    refused, flat around it, then ever steeper.

    Args:
        ceiling: Requests per second that are never passed; None for no limit.
    """

    ceiling: float | None
    _lowered: float | None = attrs.field(init=False, default=None)
    _peak: float = attrs.field(init=False, default=0.0)
    _floor: float = attrs.field(init=False, default=0.0)
    _is_known: bool = attrs.field(init=False, default=False)
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
        if self._lowered is None:
            return
        self._accepted += 1
        fastest = self._lowered * (1 + _GROWTH * min(now - self._grown, 1.0))
        self._lowered = max(self._lowered, min(self._curve(), fastest))
        self._grown = now
        if self._lowered >= (_SLACK * sent if self.ceiling is None else self.ceiling):
            self._lowered = None

    def _curve(self) -> float:
        """Return where the curve stands after the requests accepted so far."""
        if not self._is_known:
            return self._floor * math.exp2(min(self._accepted / _DOUBLING, 64))
        distance = self._accepted / self._plateau - 1
        return self._peak + (self._peak - self._floor) * distance * distance * distance

    @property
    def _plateau(self) -> float:
        return max(_PLATEAU, _PLATEAU_SECONDS * self._peak)

    def refuse(self, now: float, *, sent: float, accepted: float) -> None:
        """Lower the limit: a request met a 429.

        Args:
            now: Monotonic seconds.
            sent: Requests per second over the last seconds.
            accepted: The same, without those that were refused or are under way.
        """
        limit = self.current
        if self._lowered is None or limit is None:
            self._is_known = False
            self._peak = min(max(accepted, _LEAST_AT_FIRST / _LEFT), limit or math.inf)
        else:
            # What is sent may be far below the limit, when others use up the server's.
            met = min(limit, 2 * sent)
            self._peak = met * (
                _OVERSHOOT if self._is_known and self._accepted > self._plateau / 4 else _LEFT
            )
            self._is_known = True
        self._peak = max(self._peak, _LEAST)
        self._floor = max(self._peak * (_LEFT_WHEN_KNOWN if self._is_known else _LEFT), _LEAST)
        self._lowered = self._floor
        self._grown = now
        self._accepted = 0
