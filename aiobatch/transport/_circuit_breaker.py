"""The brown-out: one 503 or 429 stops everybody, a probe finds out when it is over, the window reopens.

Pure: every method takes the time, monotonic seconds.
"""

from __future__ import annotations

import random

import attrs

from ..options import Limits

# Seconds of `Retry-After` that are obeyed; a server that says more is probed earlier.
_OBEYED = 120.0
# Seconds that a pause lasts at least, whatever `Retry-After` says.
_SHORTEST = 0.05
# Requests that a new client has in flight before the first answers came, and then one more for each answer: a
# server whose limit is unknown is not met with a burst. Where a limit is one request a second, each one more
# here is a 429 more; where there is none, eight more would save two round trips.
_FIRST_WINDOW = 2


@attrs.define
class Brownout:
    """Whether requests may go now, and how many at once.

    Requests belong to an epoch; each pause begins one. The answer to a request of an earlier epoch, one that
    went out before the pause began, says nothing of its end.
    """

    limits: Limits
    in_flight_limit: int
    rng: random.Random
    window: int = attrs.field(init=False)
    epoch: int = attrs.field(init=False, default=0)
    probing: bool = attrs.field(init=False, default=False)
    since: float | None = attrs.field(init=False, default=None)
    until: float = attrs.field(init=False, default=0.0)
    status: int = attrs.field(init=False, default=0)
    failures: int = attrs.field(init=False, default=0)
    _paused_before: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.window = min(_FIRST_WINDOW, self.in_flight_limit)

    def seconds_paused(self, now: float) -> float:
        """Return the seconds of all pauses, the current one included."""
        return self._paused_before + (0.0 if self.since is None else now - self.since)

    def fail(self, now: float, status: int, retry_after: float | None) -> None:
        """Begin a pause, or lengthen it after a probe that failed.

        Args:
            now: Monotonic seconds.
            status: What was answered, 503 or 429; 0 when nothing was.
            retry_after: Seconds that the answer asked to wait.
        """
        if self.since is None:
            self.since = now
            self.epoch += 1
        self.failures += 1
        self.status = status or self.status
        self.until = now + self._draw(retry_after)

    def _draw(self, retry_after: float | None) -> float:
        """Return how long to wait before the next probe, seconds."""
        if retry_after is not None:
            return min(max(retry_after, _SHORTEST), _OBEYED)
        longest = min(
            self.limits.pause_initial * 2.0 ** min(self.failures - 1, 64), self.limits.pause_maximum
        )
        return longest * self.rng.uniform(0.75, 1.0)  # several clients do not probe in step

    def succeed(self, now: float) -> float | None:
        """Widen the window; end the pause if there is one, and return how many seconds it lasted."""
        if self.since is None:
            # One more for each success: as many again as there were, each round.
            self.window = min(self.window + 1, self.in_flight_limit)
            return None
        lasted = now - self.since
        self._paused_before += lasted
        self.since = None
        self.failures = 0
        self.window = min(2, self.in_flight_limit)
        return lasted
