"""Events of a client, as frozen values for hooks: `AudienceClient(…, on_event=hook)`, or a list of hooks.

Events contain no key and no user ID. A hook is called on the event loop and must return quickly. Its
exceptions are logged and ignored. Each hook receives every event. A hook that several clients share can have
a method `for_client`: each client calls it once, and sends its events to the hook that it returns.

The attempts of one request share a `request_id`, and all events of the wait for one token a `wait_id`.
Both count from 1 in each client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
    "SyncFinished",
    "TokenPolled",
    "TokenSettled",
]


@attrs.frozen(kw_only=True)
class Event:
    """The base class of all events."""


@attrs.frozen(kw_only=True)
class RequestSent(Event):
    """A request was admitted and is about to be sent.

    Attributes:
        operation: create, update, replace, view, list or delete.
        method: The HTTP method.
        host: The host, with its port if that is not the default.
        path: The path, with its key redacted.
        audience: The audience's name. None for a list.
        body_bytes: Size of the body, bytes.
        request_id: Number of the request. Its attempts share it.
        attempt: Number of this attempt, from 1.
    """

    operation: str
    method: str
    host: str
    path: str
    audience: str | None
    body_bytes: int
    request_id: int
    attempt: int


@attrs.frozen(kw_only=True)
class RequestFinished(Event):
    """A request got a response or failed.

    Attributes:
        operation: create, update, replace, view, list or delete.
        method: The HTTP method.
        host: The host, with its port if that is not the default.
        path: The path, with its key redacted.
        audience: The audience's name. None for a list.
        body_bytes: Size of the request's body, bytes.
        request_id: Number of the request. Its attempts share it.
        attempt: Number of this attempt, from 1.
        status: The HTTP status. None if there was no response.
        error: The error's class name. None if there was a response.
        seconds: Seconds from admission to the last byte.
    """

    operation: str
    method: str
    host: str
    path: str
    audience: str | None
    body_bytes: int
    request_id: int
    attempt: int
    status: int | None
    error: str | None
    seconds: float


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """A request failed and will be retried.

    Attributes:
        operation: create, update, replace, view, list or delete.
        path: The path, with its key redacted.
        audience: The audience's name. None for a list.
        request_id: Number of the request. Its attempts share it.
        attempt: The attempt that failed, from 1.
        delay: Seconds until the next attempt.
        reason: The status or the error's class name.
    """

    operation: str
    path: str
    audience: str | None
    request_id: int
    attempt: int
    delay: float
    reason: str


@attrs.frozen(kw_only=True)
class PauseStarted(Event):
    """Batch responded with 503 or 429, so every request of the client waits.

    Attributes:
        status: 503 or 429.
        seconds: Seconds until one probe is sent.
        failures: Number of such responses in a row, including this one.
    """

    status: int
    seconds: float
    failures: int


@attrs.frozen(kw_only=True)
class PauseEnded(Event):
    """A probe succeeded, so requests are sent again, gradually.

    Attributes:
        seconds: Seconds since the pause started.
    """

    seconds: float


@attrs.frozen(kw_only=True)
class TokenPolled(Event):
    """A token was polled.

    Attributes:
        wait_id: Number of the wait. All callers that wait for the token share it.
        audience: The audience's name.
        state: The state in the response. None if the poll failed.
        error: The error's class name. None if the poll succeeded.
        polls: Number of polls of this token so far.
    """

    wait_id: int
    audience: str
    state: str | None
    error: str | None
    polls: int


@attrs.frozen(kw_only=True)
class TokenSettled(Event):
    """The wait for a token ended. Each caller that waited for it gets one, in its own context.

    Attributes:
        wait_id: Number of the wait. All callers that wait for the token share it.
        audience: The audience's name.
        outcome: APPLIED, REPLACED, TIMED_OUT or FAILED.
        polls: Number of polls of this token.
        seconds: Seconds since this client first saw the token.
        request_id: Number of the request that wrote. None if this client did not send it.
    """

    wait_id: int
    audience: str
    outcome: str
    polls: int
    seconds: float
    request_id: int | None = None


@attrs.frozen(kw_only=True)
class SyncFinished(Event):
    """A run of the sync engine ended, with success or not.

    Attributes:
        audience: The audience's name.
        mode: The run's mode.
        outcome: How the run ended, as in its report.
        error: The error's class name. None if nothing went wrong.
        run: The run's number in the history. None if nothing was to be sent.
        seconds: Seconds that the run took.
        phases: Each phase in order, with its seconds. A phase can come twice.
        ids: Action -> IDs: add, remove, attributes, resend, refuse and reject. A plan counts what is to do.
        members: Recorded members after the run.
    """

    audience: str
    mode: str
    outcome: str
    error: str | None
    run: int | None
    seconds: float
    phases: tuple[tuple[str, float], ...]
    ids: Mapping[str, int]
    members: int


@attrs.frozen(kw_only=True)
class Stats:
    """Counters of one client since it was opened.

    Attributes:
        requests: Number of requests sent, including polls and retries.
        retries: Number of requests that repeated a failed one.
        polls: Number of requests that polled tokens.
        tokens: Number of tokens with waits.
        rate: Requests per second, over the last seconds.
        seconds_paused: Seconds during which 503 and 429 paused the client.
    """

    requests: int
    retries: int
    polls: int
    tokens: int
    rate: float
    seconds_paused: float


EventHook = Callable[[Event], None]
