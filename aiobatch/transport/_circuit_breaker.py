"""The circuit breaker: one 503 or 429 pauses all requests, a probe ends the pause, then the window reopens.

Pure: every method takes the time, monotonic seconds.
"""

from __future__ import annotations

import math
import random

import attrs

from ..options import Limits

# Shortest pause, seconds, whatever `Retry-After` asks for.
_MIN_PAUSE = 0.05
# Requests of a new client in flight before the first responses. Each response then allows one more, so that a
# server with an unknown limit sees no burst. At a limit of one request a second, each further request here
# would be one more 429. Without a limit, eight more would save two round trips.
_FIRST_WINDOW = 2
# Until the next poll may probe after a 503: a share of the first pause, and a share of the outage so far. A
# poll that is refused costs its token nothing, while a call has few attempts.
_SHARE_OF_PAUSE, _SHARE_OF_OUTAGE = 0.5, 0.25
_TOO_MANY_REQUESTS = 429


@attrs.define
class CircuitBreaker:
    """Whether requests may go now, and how many at once.

    Each request belongs to a generation, and each pause starts a new one. A response to a request of an
    earlier generation, sent before the pause started, proves nothing about the end of the pause.

    Attributes:
        window: Requests of this generation that may be in flight.
        half_open: Whether a probe is in flight.
        is_early: Whether the last probe was a poll that went before `paused_until`.
        paused_since: When the pause started. None if there is none.
        paused_until: When the next probe may go.
        poll_at: When the next probe may go if it is a poll.
        resumed_at: When the last pause ended.
        status: The status that caused the pause, 503 or 429.
        failures: Consecutive failures.
    """

    limits: Limits
    max_in_flight: int
    rng: random.Random
    window: int = attrs.field(init=False)
    generation: int = attrs.field(init=False, default=0)
    half_open: bool = attrs.field(init=False, default=False)
    is_early: bool = attrs.field(init=False, default=False)
    paused_since: float | None = attrs.field(init=False, default=None)
    paused_until: float = attrs.field(init=False, default=0.0)
    poll_at: float = attrs.field(init=False, default=0.0)
    resumed_at: float = attrs.field(init=False, default=-math.inf)
    status: int = attrs.field(init=False, default=0)
    failures: int = attrs.field(init=False, default=0)
    _paused_before: float = attrs.field(init=False, default=0.0)

    def __attrs_post_init__(self) -> None:
        self.window = min(_FIRST_WINDOW, self.max_in_flight)

    def seconds_paused(self, now: float) -> float:
        """Return the seconds of all pauses, the current one included."""
        return self._paused_before + (0.0 if self.paused_since is None else now - self.paused_since)

    def on_failure(self, now: float, status: int, retry_after: float | None) -> bool:
        """Start a pause, or lengthen it after a failed probe. A poll that probed early changes nothing else.

        Args:
            now: Monotonic seconds.
            status: The status of the response, 503 or 429. 0 if there was no response.
            retry_after: Seconds that the response asked to wait.

        Returns:
            Whether the pause changed for other requests than polls.
        """
        if self.paused_since is None:
            self.paused_since = now
            self.generation += 1
        self.status = status or self.status
        can_poll = retry_after is None and self.status != _TOO_MANY_REQUESTS
        changed = not (self.is_early and can_poll)
        self.is_early = False
        if changed:
            self.failures += 1
            self.paused_until = now + self._draw_pause(retry_after)
        self.poll_at = self.paused_until
        if can_poll:
            self.poll_at = min(now + self._draw_poll_pause(now - self.paused_since), self.paused_until)
        return changed

    def follow(self, now: float, until: float, status: int, failures: int) -> None:
        """Start a pause that another client's refusal caused, or change its end.

        Args:
            now: Monotonic seconds.
            until: When the next probe may go. At most `retry_after_max` ahead.
            status: The status of the refusal.
            failures: Consecutive failures so far.
        """
        if self.paused_since is None:
            self.paused_since = now
            self.generation += 1
        self.failures, self.status = failures, status
        self.paused_until = min(until, now + max(self.limits.retry_after_max, self.limits.pause_maximum))
        self.poll_at = self.paused_until  # only the client that was refused probes earlier

    def _draw_pause(self, retry_after: float | None) -> float:
        """Return the seconds until the next probe."""
        if retry_after is not None:
            return min(max(retry_after, _MIN_PAUSE), self.limits.retry_after_max)
        longest = min(
            self.limits.pause_initial * 2.0 ** min(self.failures - 1, 64), self.limits.pause_maximum
        )
        return longest * self.rng.uniform(0.75, 1.0)  # so that several clients do not probe at once

    def _draw_poll_pause(self, elapsed: float) -> float:
        """Return the seconds until a poll may probe, *elapsed* seconds after the first refusal."""
        longest = max(_SHARE_OF_PAUSE * self.limits.pause_initial, _SHARE_OF_OUTAGE * elapsed)
        return longest * self.rng.uniform(0.75, 1.0)

    def on_success(self, now: float) -> float | None:
        """Widen the window. If there is a pause, end it and return how many seconds it lasted."""
        if self.paused_since is None:
            # One more for each success doubles the window with each round of responses.
            self.window = min(self.window + 1, self.max_in_flight)
            return None
        lasted = now - self.paused_since
        self._paused_before += lasted
        self.paused_since = None
        self.resumed_at = now
        self.failures = 0
        self.window = min(2, self.max_in_flight)
        return lasted
