from __future__ import annotations

import math
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._http import Request, Response, parse_http_date, parse_retry_after, read_retry_after

KEY = "k3y-0123456789abcdef"


def _request() -> Request:
    return Request(
        label="view of audience 'vip'",
        operation="view",
        method="GET",
        path="/1.0/***/custom-audience/vip",
        target=f"/1.0/{KEY}/custom-audience/vip",
        headers={"X-Authorization": KEY},
        body=b'{"ids": ["u1"]}',
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_request_cannot_be_pickled(protocol: int) -> None:
    """Pickling a request fails with a text that gives the reason and shows no key."""
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(_request(), protocol)
    assert KEY not in "".join(traceback.TracebackException.from_exception(caught.value).format())


def test_request_shows_no_key_and_no_body() -> None:
    """A request's repr has its label, its path and the body's size."""
    shown = repr(_request())
    assert KEY not in shown
    assert "u1" not in shown
    assert "path='/1.0/***/custom-audience/vip'" in shown
    assert "body=<15 bytes>" in shown


def test_request_is_idempotent_by_default() -> None:
    """All operations but create may be sent twice."""
    assert _request().idempotent


def test_requests_compare_by_identity() -> None:
    """A comparison of two requests shows no fields in an assertion."""
    request = _request()
    assert request == request  # noqa: PLR0124  # identity is the point
    assert request != _request()


def test_response_shows_status_and_size() -> None:
    """A response's repr contains no headers and no body, which may contain IDs."""
    shown = repr(Response(status=200, headers={"x": "secret"}, body=b"u1u1"))
    assert shown == "Response(status=200, body=<4 bytes>, attempts=1)"


NOW = 1_445_412_400.0  # 80 s before the date below
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        (" 1.5 ", 1.5),
        ("\x1c2\x85", 2.0),
        (DATE, 80.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 80.0),
        ("Wed, 21 Oct 2015 09:28:00 +0200", 80.0),
        ("Wed, 21 Oct 2009 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("9" * 400, None),
        ("٣", None),
        ("soon", None),
    ],
)
def test_parse_retry_after(value: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are read. A past date is 0 seconds, and an unreadable value None."""
    assert parse_retry_after(value, NOW) == seconds


def test_date_needs_the_time() -> None:
    """Without the current time a date is unreadable."""
    assert parse_retry_after(DATE, None) is None
    assert parse_retry_after("3", None) == 3.0


def test_parse_http_date() -> None:
    """A date becomes seconds since the epoch, another text None."""
    assert parse_http_date(DATE) == NOW + 80
    assert parse_http_date(None) is None


WORDS = ["Wed,", "21", "Oct", "2015", "07:28:00", "GMT", "+9999", "-0000", "99", "0", "9" * 20, ",", ":", " "]


@given(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)), st.floats(0, 1e12))
def test_any_value_is_readable_or_none(value: str, now: float) -> None:
    """Any value is a finite number of seconds, not negative, or None."""
    seconds = parse_retry_after(value, now)

    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)


@pytest.mark.parametrize("now", [None, NOW, NOW + 86400, NOW - 86400])
def test_date_is_compared_with_the_date_of_the_response(now: float | None) -> None:
    """This machine's clock, which may be wrong, is used only if the response has no date."""
    headers = {"retry-after": DATE, "date": "Wed, 21 Oct 2015 07:27:50 GMT"}
    assert read_retry_after(Response(status=429, headers=headers), now) == 10
    undated = Response(status=429, headers={"retry-after": DATE})
    assert read_retry_after(undated, now) == parse_retry_after(DATE, now)
