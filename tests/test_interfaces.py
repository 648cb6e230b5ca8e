from __future__ import annotations

import pickle
import traceback

import pytest

from aiobatch.interfaces import Request, Response

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
