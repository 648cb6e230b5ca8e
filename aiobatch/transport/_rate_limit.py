"""Request rates: a meter of past requests, and a limit that learns how many the server accepts.

Pure: every method takes the time, monotonic seconds.
"""

from __future__ import annotations

import math
from typing import Self

import attrs

# Seconds over which a rate is measured. The meter keeps one more, the current one.
_WINDOW = 5
_MOST_COUNTED = 1 << 53
# Share by which slots are further apart than the limit requires. Clocks, timers and the network vary, and two
# requests must not arrive too soon after each other.
_MARGIN = 0.02
# Spacing of slots, seconds, below which a slot that a late timer missed may be used later, one at most:
# servers enforce such a limit with some burst. With wider spacing only most of the margin is made up for, as
# a server may count every single request.
_CLOSE_SPACING = 0.05
_MARGIN_KEPT = 0.005


class RateMeter:
    """Counts events, and measures their rate over the last seconds."""

    WINDOW = _WINDOW
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
        """Return events per second over the last seconds, or over one second if the meter is younger.

        Args:
            now: Monotonic seconds.
            without: Number of events not to count.
        """
        self._turn(int(now))
        seconds = min(now - self._start, _WINDOW + now % 1)
        return max(0, sum(self._counts) - without) / max(seconds, 1.0)

    def dump(self) -> list[float]:
        """Return the numbers that `load` accepts."""
        return [self._start, self._second, *self._counts]

    @classmethod
    def load(cls, numbers: list[float]) -> Self:
        """Return the meter of `dump`.

        Raises:
            ValueError: The numbers are invalid.
        """
        start, second, *counts = numbers
        meter = cls(start)
        if len(counts) != len(meter._counts) or not all(
            isinstance(number, int) and 0 <= number < _MOST_COUNTED for number in (second, *counts)
        ):
            msg = "the numbers of a meter are invalid"
            raise ValueError(msg)
        meter._second, meter._counts = int(second), [int(count) for count in counts]
        return meter

    def _turn(self, second: int) -> None:
        """Empty the buckets of the seconds that started since the last call."""
        for passed in range(max(self._second, second - _WINDOW - 1) + 1, second + 1):
            self._counts[passed % (_WINDOW + 1)] = 0
        self._second = second


# Requests per second that a lowered limit never goes below, later and at the first 429.
_MINIMUM, _FIRST_MINIMUM = 0.2, 1.0
# Share of a refused rate that is left when little is known. No refusal leaves less.
_LEFT = 0.7
# End of the next rise, as a share of the refused rate: the same rate while the server's limit is searched,
# just below it if it held long enough to be nearly right, halfway if it did not.
_SEARCHING, _NEARLY_RIGHT, _HALFWAY = 1.0, 0.98, 0.85
# A limit that was nearly right is lowered by a twentieth at least, so that a server without any burst
# recovers.
_STEP_BACK = 0.95
# Requests and seconds between two refusals that show a rate. Fewer are chance.
_MIN_ACCEPTED, _MIN_SECONDS = 10, 2.0
# Requests, and seconds' worth of them, until a rise ends. The factors are for none, one, and more consecutive
# refusals at the expected rate: the surer the limit, the rarer the probes.
_RISE, _RISE_SECONDS, _RARER = 50, 10, (1, 2, 4)
# Share of the limit by which it exceeds the end of a rise within as many requests again.
_CREEP = 0.05
# Factor above the refused rate at which the server's limit must have changed, so that it is searched again.
_RAISED = 1.1
# Requests until the limit has doubled during a search, and its growth within a second at most.
_DOUBLING, _GROWTH = 5, 0.5
# A limit this many times above the rate in use has no effect and is dropped.
_SLACK = 4


@attrs.define
class RateState:
    """What a `RateLimit` has learned, and its next slot. Times are monotonic seconds.

    Attributes:
        lowered: The learned limit, requests per second. None if there is none.
        is_known: Whether a second refusal showed the server's limit.
        floor: The start of the current rise.
        peak: The end of the current rise.
        refused_rate: The rate of the last refusal.
        refused_at: When that was.
        confirmed: Consecutive refusals at the expected rate.
        accepted: Requests accepted since the last refusal.
        grown: When the learned limit last grew.
        slot: The next slot.
    """

    lowered: float | None = None
    is_known: bool = False
    floor: float = 0.0
    peak: float = 0.0
    refused_rate: float = 0.0
    refused_at: float = 0.0
    confirmed: int = 0
    accepted: int = 0
    grown: float = 0.0
    slot: float = -math.inf


@attrs.define
class RateLimit:
    """Requests per second that may go: the configured limit, or a lower one learned from 429 responses.

    At the first 429 little is known, and a low limit grows exponentially until it is refused in turn. From
    then on the server's limit lies between the accepted rate since the last refusal and the refused rate. The
    limit rises within this bracket on a cubic curve, as CUBIC's window does (RFC 9438): steep at first, flat
    just below the refused rate, then ever steeper above it. The curve runs over accepted requests and not
    over time alone, so that few requests are refused at any rate.

    Args:
        ceiling: The configured requests per second. None means no limit.
        state: What 429 responses taught, and the next slot. Several limits may share it.
    """

    ceiling: float | None
    state: RateState = attrs.field(factory=RateState)

    @property
    def is_lowered(self) -> bool:
        """Whether a 429 lowered the limit."""
        return self.state.lowered is not None

    @property
    def current(self) -> float | None:
        """Requests per second now. None means no limit."""
        lowered, ceiling = self.state.lowered, self.ceiling
        if lowered is None or ceiling is None:
            return ceiling if lowered is None else lowered
        return min(lowered, ceiling)

    def delay(self, now: float) -> float:
        """Return the seconds until the next slot, 0 or less if it has come."""
        return self.state.slot - now

    def skip(self, now: float) -> None:
        """Drop the slots before now, because they were not missed by a late timer."""
        self.state.slot = max(self.state.slot, now)

    def take(self, now: float) -> None:
        """Use the current slot."""
        rate = self.current
        if rate is not None:
            spacing = (1 + _MARGIN) / rate
            earliest = now if spacing < _CLOSE_SPACING else now + (1 + _MARGIN_KEPT) / rate
            self.state.slot = max(self.state.slot + spacing, earliest)

    def accept(self, now: float, sent: float) -> None:
        """Raise a lowered limit after a request that was not refused.

        Args:
            now: Monotonic seconds.
            sent: Requests per second over the last seconds.
        """
        state = self.state
        if state.lowered is None or (state.is_known and 2 * sent < state.lowered):
            return  # below half of the limit, success proves nothing about the limit
        if self.ceiling is not None and state.lowered > self.ceiling:
            return  # a client with a higher ceiling learned it
        state.accepted += 1
        fastest = state.lowered * (1 + _GROWTH * min(now - state.grown, 1.0))
        state.lowered = max(state.lowered, min(self._curve(), fastest))
        state.grown = now
        if state.is_known and state.lowered > _RAISED * state.refused_rate:
            self._start_rise(now, state.lowered, state.lowered, is_known=False)
        if state.lowered >= (_SLACK * sent if self.ceiling is None else self.ceiling):
            state.lowered = None

    def _curve(self) -> float:
        """Return the limit on the curve after the requests accepted so far."""
        state = self.state
        if not state.is_known:
            return state.floor * math.exp2(min(state.accepted / _DOUBLING, 64))
        rise = max(_RISE, _RISE_SECONDS * state.peak) * _RARER[min(state.confirmed, len(_RARER) - 1)]
        distance = state.accepted / rise - 1
        height = state.peak - state.floor
        if distance > 0:
            height = max(height, _CREEP * state.peak)
        return state.peak + height * distance * distance * distance

    def refuse(self, now: float, *, sent: float, accepted: float) -> None:
        """Lower the limit after a 429.

        Args:
            now: Monotonic seconds.
            sent: Requests per second over the last seconds.
            accepted: The same, without refused requests and those in flight.
        """
        state, limit = self.state, self.current
        if state.lowered is None or limit is None:
            peak = min(max(accepted, _FIRST_MINIMUM / _LEFT), limit or math.inf)
            self._start_rise(now, _LEFT * peak, peak, is_known=False)
            return
        # If other clients use up the server's limit, the rate in use may be far below this one.
        state.refused_rate = refused = min(limit, 2 * sent)
        seconds = now - state.refused_at
        if not state.is_known:
            self._start_rise(now, _LEFT * refused, _SEARCHING * refused)
        elif state.accepted < _MIN_ACCEPTED or seconds < _MIN_SECONDS:
            self._start_rise(now, _LEFT * refused, _HALFWAY * refused)
        else:
            held = min(state.accepted / seconds, _STEP_BACK * refused)
            self._start_rise(
                now, max(held, _LEFT * refused), _NEARLY_RIGHT * refused, confirmed=state.confirmed + 1
            )

    def _start_rise(
        self, now: float, floor: float, peak: float, *, is_known: bool = True, confirmed: int = 0
    ) -> None:
        state = self.state
        state.floor, state.peak = max(floor, _MINIMUM), max(peak, _MINIMUM)
        state.lowered = state.floor
        state.is_known, state.confirmed = is_known, confirmed
        state.accepted = 0
        state.refused_at = state.grown = now
