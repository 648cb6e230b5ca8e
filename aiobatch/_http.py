"""Requests and responses as values, and the `Retry-After` header.

A 1.x request has a key in its path. A `Request` therefore has two paths: `target`, which only the transport
reads, and `path`, which is safe to show.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import NoReturn

import attrs

# https://www.rfc-editor.org/rfc/rfc9110#field.retry-after: seconds or an HTTP date.
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


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
    """

    label: str
    operation: str
    method: str
    path: str
    target: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    idempotent: bool = True
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


def read_retry_after(response: Response, now: float | None = None) -> float | None:
    """Return the seconds of a response's `Retry-After`, or None if it has no readable one.

    A date is compared with the response's own date, because this machine's clock may be wrong.

    Args:
        response: The response.
        now: Seconds since the epoch, for a response without a date. None if unknown.
    """
    headers = response.headers
    sent = parse_http_date(headers.get("date"))
    return parse_retry_after(headers.get("retry-after"), now if sent is None else sent)


def parse_retry_after(value: str | None, now: float | None) -> float | None:
    """Return the seconds to wait from now, or None if the `Retry-After` header is missing or unreadable.

    Args:
        value: Seconds or an HTTP date. None for no header.
        now: Seconds since the epoch, to compare a date with. None if unknown, so that a date is unreadable.
    """
    if value is None:
        return None
    if match := _SECONDS.fullmatch(value.strip()):
        seconds = float(match[0])
        return seconds if math.isfinite(seconds) else None
    date = parse_http_date(value)
    return None if date is None or now is None else max(0.0, date - now)


def parse_http_date(value: str | None) -> float | None:
    """Return an HTTP date as seconds since the epoch, or None if it is unreadable."""
    try:
        date = parsedate_to_datetime(value or "")
    except (OverflowError, ValueError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=dt.UTC)).timestamp()
