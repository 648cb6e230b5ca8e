"""Responses that break HTTP: each kind has its own error."""

from __future__ import annotations

import pytest
from aiohttp import compression_utils, http_exceptions

from aiobatch.errors import AiobatchError, MalformedResponseError, TransportError
from aiobatch.transport import Session
from aiobatch.transport._response_errors import describe_response

from .support import assert_no_key, fail, http, lingering, raw_server, receive

OUTCOME = "The request may have taken effect."


async def _fail(answer: bytes) -> AiobatchError:
    """Return the error for a response, which has neither a key nor a word of the response."""
    async with raw_server(lingering(answer)) as url:
        error = await fail(url)
    assert "s3cret" not in str(error)
    assert_no_key(error)
    return error


@pytest.mark.parametrize(
    "answer",
    [
        http(b"{}", b"X-Big: " + b"s3cret" * 1_700),
        http(b"{}", b"X-Big: " + b"s3cret" * 17_000),
        http(b"{}", b"X-Big: " + b"s3cret" * 1_700, status=b"502 Bad Gateway"),
        http(b"{}", b"s3cret" * 1_700 + b": x"),
        http(b"{}", status=b"200 " + b"s3cret" * 1_700),
    ],
    ids=["10 kB", "100 kB", "with 502", "name", "status line"],
)
async def test_long_header_names_the_limit(answer: bytes) -> None:
    """Aiohttp reads no header of 10 kB. The error has the limit and the remedy."""
    error = await _fail(answer)
    assert type(error) is TransportError
    assert "no readable response: its status line or a header is longer than 8190 bytes." in str(error)
    assert f"{OUTCOME} Check which proxy adds it, or pass a session with a larger max_line_size" in str(error)


async def test_session_may_accept_long_headers() -> None:
    """The remedy works."""
    answer = http(b"{}", b"X-Big: " + b"x" * 10_000)
    async with Session(max_line_size=20_000, max_field_size=20_000) as session:
        response = await receive(lingering(answer), session=session)
    assert response.body == b"{}"


@pytest.mark.parametrize(
    ("encoding", "is_installed"),
    [
        ("br", compression_utils.HAS_BROTLI),
        ("zstd", getattr(compression_utils, "HAS_ZSTD", True)),
    ],
)
async def test_encoding_that_was_not_requested_is_named(encoding: str, is_installed: bool) -> None:
    """A proxy that compresses without being asked is the reason, not Batch's response."""
    if is_installed:
        pytest.skip(f"a package for {encoding} is installed")
    error = await _fail(http(b"s3cret", b"Content-Encoding: " + encoding.encode()))
    assert isinstance(error, MalformedResponseError)
    assert (error.method, error.path) == ("GET", "/1.0/***/custom-audience/vip")
    assert f"the response is compressed with {encoding}, which was not requested. {OUTCOME}" in str(error)
    assert "Check which proxy ignores Accept-Encoding" in str(error)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_broken_compression_is_named(encoding: str) -> None:
    """A body that does not match Content-Encoding has an error of its own."""
    error = await _fail(http(b"\x78\x9cs3cret", b"Content-Encoding: " + encoding.encode()))
    assert isinstance(error, MalformedResponseError)
    assert f"the response cannot be decompressed ({encoding}). {OUTCOME}" in str(error)


@pytest.mark.parametrize("value", [b"2", b"3", b"2, 2", b"-1", b"2_0"])
async def test_duplicate_content_length_is_named(value: bytes) -> None:
    """Two lengths, equal or not, and one that is no number have one error."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: " + value + b"\r\n\r\n{}"
    error = await _fail(answer)
    assert type(error) is TransportError
    assert "no readable response: it has two Content-Length headers or an invalid one" in str(error)
    assert f"{OUTCOME} Check the proxies" in str(error)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-s3cret\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"220 s3cret ESMTP\r\n\r\n"]
)
async def test_other_protocol_names_the_base_url(answer: bytes) -> None:
    """What answers on this port does not speak HTTP: the base_url is wrong."""
    error = await _fail(answer)
    assert type(error) is TransportError
    assert f"no readable response: it is not HTTP. {OUTCOME} Check the host and the port of base_url" in str(
        error
    )


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (http_exceptions.LineTooLong("s3cret"), "longer than aiohttp's limit"),
        (http_exceptions.ContentEncodingError("s3cret"), "cannot be decompressed (an unknown encoding)"),
        (http_exceptions.BadHttpMessage("Duplicate 'Content-Length' header found."), "two Content-Length"),
        (http_exceptions.BadHttpMessage("Expected HTTP/: s3cret"), "it is not HTTP"),
        (http_exceptions.BadHttpMessage("s3cret"), None),
        (ValueError("Content-Length"), None),
    ],
    ids=repr,
)
def test_words_of_other_versions_are_understood(cause: Exception, text: str | None) -> None:
    """Other versions of aiohttp, and its parser in Python, use other words."""
    error = RuntimeError()
    error.__cause__ = cause
    found = describe_response(error)
    assert found is None if text is None else found is not None and text in found[1]
