"""Delays before a request is sent again, and the responses that call for it.

Randomness and time are arguments, so that a test replays them.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import random
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from .interfaces import Response

__all__ = [
    "is_excessive",
    "is_foreign",
    "jittered_delays",
    "parse_http_date",
    "parse_retry_after",
    "read_json",
    "read_retry_after",
]

# https://www.rfc-editor.org/rfc/rfc9110#field.retry-after: seconds or an HTTP date.
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def jittered_delays(initial: float, maximum: float, rng: random.Random) -> Iterator[float]:
    """Return endless delays with exponential growth and full jitter.

    Each delay is uniform between 0 and its bound, which spreads callers that failed together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Args:
        initial: Bound of the first delay, seconds.
        maximum: Bound of every delay, seconds.
        rng: The source of randomness.
    """
    import backoff  # noqa: PLC0415 - it takes a tenth of the import of this package

    bounds = backoff.expo(base=2, factor=initial, max_value=maximum)
    next(bounds)  # the package's generators yield None before the first delay
    return map(functools.partial(rng.uniform, 0), bounds)


# Bytes of an error response that may be Batch's.
_LONGEST_ERROR = 256 * 1024
_NEEDS_CODE = frozenset({400, 404})
# Texts such as descriptions may contain commas too.
_MOST_COMMAS = 100_000


def is_excessive(body: bytes) -> bool:
    """Return whether a JSON body has so many values that to read it would block the event loop.

    The largest answer of Batch's is a list of 100 audiences, with less than 1,000 values.
    """
    return body.count(b",") > _MOST_COMMAS


def read_json(body: bytes) -> Any:
    """Return the value of a JSON body, even if some of its text or numbers are invalid.

    A description that ends in half of an emoji, a byte that is not UTF-8 or a NaN must not hide the fields
    beside it. Invalid text then contains lone surrogates, and a number may not be finite.

    Args:
        body: The body of a response.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        refusal = error
    try:
        return json.loads(body.decode("utf-8-sig", "surrogateescape"), strict=False)
    except (ValueError, RecursionError):
        raise refusal from None
    finally:
        del refusal  # its traceback holds this frame, and that holds the body


def is_foreign(response: Response) -> bool:
    """Return whether an error response is not in Batch's form, so that a proxy may have sent it.

    Batch's errors are JSON objects with a code or a name. 1.x does not document its form, so that a message
    alone will do. But gateways send one too, so it does not prove that a request or its audience is wrong.
    """
    body = response.body
    try:
        error = None if len(body) > _LONGEST_ERROR or is_excessive(body) else read_json(body)
    except ValueError:
        return True
    if not isinstance(error, dict):
        return True
    if not error:
        return False
    codes = (error.get("error_code"), error.get("code"))
    if any(isinstance(code, str) or (type(code) is int and code != response.status) for code in codes):
        return False
    words = (error.get("error_message"), error.get("message"))
    return response.status in _NEEDS_CODE or not any(isinstance(word, str) for word in words)


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
