"""What goes over the wire, as values: one request, one response, and the secrets that they carry.

A 1.x request has a key in its path, so a `Request` holds two paths: the one to send, which only the edge
reads, and the one to show.
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


# Without slots, which attrs fills by a call for each where a class is frozen: there is one for every request.
@attrs.frozen(kw_only=True, eq=False, slots=False)
class Request:
    """One HTTP request.

    Attributes:
        label: What it does, in words for errors and logs: `"view of audience 'vip'"`.
        operation: Batch's verb: create, update, replace, view, list or delete.
        audience: The audience's name. None for a list.
        method: The HTTP method.
        path: The path with its key redacted; for errors, events and logs.
        target: The path as sent, percent-encoded, with its query; may hold a key.
        headers: Headers as sent; they hold a key.
        body: The body as sent, UTF-8 JSON; empty for none.
        idempotent: Whether sending it twice has the effect of sending it once.
    """

    label: str
    operation: str
    method: str
    path: str
    target: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    idempotent: bool = True
    audience: str | None = None

    def __reduce__(self) -> NoReturn:
        """Refuse: a request holds keys."""
        msg = "a request holds keys and cannot be pickled"
        raise TypeError(msg)


@attrs.frozen(kw_only=True, eq=False, slots=False)
class Response:
    """One HTTP response, whole.

    Attributes:
        status: The HTTP status.
        headers: Headers by lower-case name.
        body: The body, decompressed.
        attempts: Requests made until this answer, the first one included.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(default=MappingProxyType({}), repr=False)
    body: bytes = attrs.field(default=b"", repr=lambda body: f"<{len(body)} bytes>")
    attempts: int = 1


def read_retry_after(response: Response, now: float | None = None) -> float | None:
    """Read an answer's `Retry-After`: seconds to wait, or None where it says nothing readable.

    A date is compared with the answer's own: this machine's clock may be wrong, or jump.

    Args:
        response: The answer.
        now: Seconds since the epoch, for an answer without a date; None when unknown.
    """
    headers = response.headers
    sent = parse_http_date(headers.get("date"))
    return parse_retry_after(headers.get("retry-after"), now if sent is None else sent)


def parse_retry_after(value: str | None, now: float | None) -> float | None:
    """Read a `Retry-After` header: seconds to wait from now, or None where it says nothing readable.

    Args:
        value: Seconds or an HTTP date; None for no header.
        now: Seconds since the epoch, for a date; None when unknown: a date then says nothing.
    """
    if value is None:
        return None
    if match := _SECONDS.fullmatch(value.strip()):
        seconds = float(match[0])
        return seconds if math.isfinite(seconds) else None
    date = parse_http_date(value)
    return None if date is None or now is None else max(0.0, date - now)


def parse_http_date(value: str | None) -> float | None:
    """Read an HTTP date: seconds since the epoch, or None where it is none."""
    try:
        date = parsedate_to_datetime(value or "")
    except (OverflowError, ValueError):
        return None
    return (date if date.tzinfo else date.replace(tzinfo=dt.UTC)).timestamp()
