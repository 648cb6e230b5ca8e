"""The interfaces between a client and the parts that a program may replace: its transport and its clock.

`AudienceClient(…, transport=…, clock=…)` accepts any object with the methods of `Transport` or `Clock`.

A 1.x request has a key in its path. A `Request` therefore has two paths: `target`, which only the transport
reads, and `path`, which is safe to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NoReturn, Protocol

import attrs

__all__ = ["Clock", "Request", "Response", "Transport"]


# Without slots, because attrs sets each slot of a frozen class by a call, and this is created per request.
@attrs.frozen(kw_only=True, eq=False, slots=False)
class Request:
    """One HTTP request.

    Attributes:
        label: Its name in errors and logs: `"view of audience 'vip'"`.
        operation: Batch's verb: create, update, replace, view, list or delete.
        audience: The name of the audience. Empty for a list.
        method: The HTTP method.
        path: The path with its key redacted, for errors, events and logs.
        target: The path as sent, percent-encoded, with its query. It may contain a key.
        headers: Headers as sent. They contain a key.
        body: The body as sent, UTF-8 JSON. Empty for none.
        idempotent: Whether sending it twice has the same effect as sending it once.
        allows_empty: Whether a success may have no body.
    """

    label: str
    operation: str
    method: str
    path: str
    target: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    idempotent: bool = True
    allows_empty: bool = False
    audience: str = ""

    @property
    def subject(self) -> str:
        """The label as the start of a sentence."""
        return f"{self.label[:1].upper()}{self.label[1:]}"

    def __reduce__(self) -> NoReturn:
        """Raise TypeError, because a request contains keys."""
        msg = "A request contains keys and cannot be pickled."
        raise TypeError(msg)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Response:
    """One complete HTTP response.

    Attributes:
        status: The HTTP status.
        headers: Headers by lower-case name.
        body: The body, decompressed.
        attempts: Number of requests made until this response, including the first.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(default=MappingProxyType({}), repr=False)
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    attempts: int = 1


class Transport(Protocol):
    """Sends requests."""

    async def send(self, request: Request) -> Response:
        """Send *request* and return the response, whatever its status.

        Raises:
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Close what this transport opened. A second call does nothing."""
        ...


class Clock(Protocol):
    """Monotonic time and sleep, in seconds."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start. They never decrease."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch, for `Retry-After` dates."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep for *seconds*. Cancelling is safe."""
        ...
