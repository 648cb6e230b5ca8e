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
# enforce such a limit with some depth. Wider slots are not, as a server may count every single request.
_FINE = 0.05


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


# Requests per second that an adapted limit never goes below.
_LEAST = 0.2
# What a 429 leaves of the rate that ran into it.
_BACK_OFF = 0.7
_BACK_OFF_KNOWN = 0.9
# Accepted requests after which an adapted limit is back where a 429 met it; then it grows ever faster.
_PLATEAU = 50
# Accepted requests in which it doubles as long as the server's limit has been met only once.
_DOUBLING = 5
# A limit so many times larger than what is sent binds nobody.
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
    _refused_at: float | None = attrs.field(init=False, default=None)  # None: nothing was refused lately
    _floor: float = attrs.field(init=False, default=0.0)
    _known: bool = attrs.field(init=False, default=False)
    _accepted: int = attrs.field(init=False, default=0)
    _slot: float = attrs.field(init=False, default=float("-inf"))

    @property
    def binds(self) -> bool:
        """Whether there is any limit now."""
        return self._refused_at is not None or self.ceiling is not None

    @property
    def is_lowered(self) -> bool:
        """Whether a 429 lowered the limit."""
        return self._refused_at is not None

    @property
    def current(self) -> float | None:
        """Requests per second now; None for no limit."""
        if self._refused_at is None:
            return self.ceiling
        return min(self._grown(self._refused_at), self.ceiling or float("inf"))

    def _grown(self, refused_at: float) -> float:
        """Return where the curve stands after the requests accepted so far."""
        if not self._known:
            return self._floor * math.exp2(min(self._accepted / _DOUBLING, 64))
        distance: float = self._accepted / _PLATEAU - 1
        return refused_at + (refused_at - self._floor) * distance * distance * distance

    def delay(self, now: float) -> float:
        """Return the seconds until the next slot; 0 or less when it is there."""
        return self._slot - now

    def take(self, now: float) -> None:
        """Use the slot that is there."""
        rate = self.current
        if rate is not None:
            spacing = (1 + _MARGIN) / rate
            self._slot = max(self._slot + spacing, now if spacing < _FINE else now + spacing)

    def accept(self, sent: float) -> None:
        """Note that a request was not refused.

        Args:
            sent: Requests per second over the last seconds.
        """
        if self._refused_at is None:
            return
        self._accepted += 1
        free = _SLACK * sent if self.ceiling is None else self.ceiling
        if self._grown(self._refused_at) > free:
            self._refused_at = None
            self._known = False

    def refuse(self, accepted: float) -> None:
        """Note a 429.

        Args:
            accepted: Requests per second that were not refused over the last seconds.
        """
        limit = self.current
        if self._refused_at is None or limit is None:
            self._refused_at = max(min(accepted, limit or accepted), _LEAST)
            self._floor = max(_BACK_OFF * self._refused_at, _LEAST)
        else:
            # What was accepted lags behind a limit that grew; a limit may be far above what is asked for.
            top = min(limit, 1.5 * accepted)
            self._refused_at = max(min(accepted, limit), 0.85 * top, _LEAST)
            self._floor = max((_BACK_OFF_KNOWN if self._known else _BACK_OFF) * self._refused_at, _LEAST)
            self._known = True
        self._accepted = 0
