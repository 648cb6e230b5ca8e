"""Why aiohttp could not read a response, in words without the response's text, which may contain anything."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiohttp import http_exceptions

from ..errors import MalformedResponseError, TransportError

__all__ = ["causes", "describe_response"]

_UNREADABLE = "no readable response"
_OUTCOME = "The request may have taken effect."
_ENCODING = re.compile(r"\b(br|deflate|gzip|zstd)\b")
# Before aiohttp 3.14 the error of a status line had no class of its own.
_NOT_HTTP = "Expected HTTP/"
_LIMIT = re.compile(r"more than (\d+) bytes")

_Kind = type[MalformedResponseError] | type[TransportError]


def describe_response(error: BaseException) -> tuple[_Kind, str] | None:
    """Return the class and the reason of the error for a response that breaks HTTP. None for another error.

    Args:
        error: aiohttp's error, whose causes are the parser's.
    """
    for cause in causes(error):
        if isinstance(cause, http_exceptions.LineTooLong):
            return TransportError, _describe_long_line(str(cause))
        if isinstance(cause, http_exceptions.ContentEncodingError):
            return MalformedResponseError, _describe_encoding(str(cause))
        if isinstance(cause, http_exceptions.BadStatusLine) or _NOT_HTTP in str(cause):
            return TransportError, (
                f"{_UNREADABLE}: it is not HTTP. {_OUTCOME} Check the host and the port of base_url, and "
                "whether a proxy is between."
            )
        if isinstance(cause, http_exceptions.BadHttpMessage) and "content-length" in str(cause).lower():
            return TransportError, (
                f"{_UNREADABLE}: it has two Content-Length headers or an invalid one, so its end is unknown. "
                f"{_OUTCOME} Check the proxies between this machine and Batch."
            )
    return None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, then its cause, then the cause's cause."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _describe_long_line(text: str) -> str:
    found = _LIMIT.search(text)
    limit = f"{found[1]} bytes" if found else "aiohttp's limit"
    return (
        f"{_UNREADABLE}: its status line or a header is longer than {limit}. {_OUTCOME} Check which proxy "
        "adds it, or pass a session with a larger max_line_size and max_field_size."
    )


def _describe_encoding(text: str) -> str:
    found = _ENCODING.search(text)
    name = found[1] if found else "an unknown encoding"
    if "install" not in text:
        return f"the response cannot be decompressed ({name}). {_OUTCOME}"
    return (
        f"the response is compressed with {name}, which was not requested. {_OUTCOME} Check which proxy "
        "ignores Accept-Encoding, or install the package that decompresses it."
    )
