"""What happened, as frozen values for a hook: `AudienceClient(…, on_event=hook)`.

Events hold no key and no user id. A hook is called on the event loop, between two of our own steps: it must
return quickly and not block. What it raises is logged and goes no further.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = [
    "Event",
    "EventHook",
    "PauseEnded",
    "PauseStarted",
    "RequestFinished",
    "RequestSent",
    "RetryScheduled",
    "Stats",
    "TokenPolled",
    "TokenSettled",
]


@attrs.frozen(kw_only=True)
class Event:
    """The base of all events."""


@attrs.frozen(kw_only=True)
class RequestSent(Event):
    """A request was admitted and goes out.

    Attributes:
        operation: create, update, replace, view, list or delete.
        method: The HTTP method.
        path: The path, its key redacted.
        body_bytes: Bytes of the body.
    """

    operation: str
    method: str
    path: str
    body_bytes: int


@attrs.frozen(kw_only=True)
class RequestFinished(Event):
    """A request was answered or failed.

    Attributes:
        operation: create, update, replace, view, list or delete.
        method: The HTTP method.
        path: The path, its key redacted.
        status: The HTTP status; None when no answer came.
        error: The error's class name when no answer came.
        seconds: Seconds from admission to the last byte.
    """

    operation: str
    method: str
    path: str
    status: int | None
    error: str | None
    seconds: float


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """A request failed and will be tried again.

    Attributes:
        operation: create, update, replace, view, list or delete.
        path: The path, its key redacted.
        attempt: The attempt that failed, from 1.
        delay: Seconds until the next one.
        reason: The status or the error's class name.
    """

    operation: str
    path: str
    attempt: int
    delay: float
    reason: str


@attrs.frozen(kw_only=True)
class PauseStarted(Event):
    """Batch answered 503 or 429: every request of the client waits.

    Attributes:
        status: 503 or 429.
        seconds: Seconds until one probe goes ahead.
        failures: Such answers in a row, this one included.
    """

    status: int
    seconds: float
    failures: int


@attrs.frozen(kw_only=True)
class PauseEnded(Event):
    """A probe succeeded: requests go out again, gradually.

    Attributes:
        seconds: Seconds since the pause started.
    """

    seconds: float


@attrs.frozen(kw_only=True)
class TokenPolled(Event):
    """A token was asked about.

    Attributes:
        audience: The audience's name.
        state: The state that Batch named; None when the poll failed.
        error: The error's class name when the poll failed.
        polls: Polls of this token so far.
    """

    audience: str
    state: str | None
    error: str | None
    polls: int


@attrs.frozen(kw_only=True)
class TokenSettled(Event):
    """The wait for a token ended.

    Attributes:
        audience: The audience's name.
        outcome: APPLIED, REPLACED, TIMED_OUT or FAILED.
        polls: Polls of this token.
        seconds: Seconds since this client first knew the token.
    """

    audience: str
    outcome: str
    polls: int
    seconds: float


@attrs.frozen(kw_only=True)
class Stats:
    """Counters of one client since it was opened.

    Attributes:
        requests: Requests sent, polls and retries included.
        retries: Requests that repeated a failed one.
        polls: Requests that asked about tokens.
        tokens: Tokens that were waited for.
        rate: Requests per second over the last seconds.
        seconds_paused: Seconds that the client was paused by 503 and 429.
    """

    requests: int
    retries: int
    polls: int
    tokens: int
    rate: float
    seconds_paused: float


EventHook = Callable[[Event], None]
