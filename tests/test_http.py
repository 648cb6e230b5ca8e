from __future__ import annotations

import pickle
import traceback

import pytest

from aiobatch._http import Request, Response

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


def test_a_request_shows_neither_key_nor_body() -> None:
    """A request's repr has what it does and where, the body's size, and no key."""
    shown = repr(_request())
    assert KEY not in shown
    assert "u1" not in shown
    assert "path='/1.0/***/custom-audience/vip'" in shown
    assert "body=<15 bytes>" in shown


def test_a_request_is_idempotent_unless_said_otherwise() -> None:
    """All operations but create may be sent twice."""
    assert _request().idempotent


def test_requests_are_compared_by_identity() -> None:
    """No comparison of two requests shows their fields in an assertion."""
    request = _request()
    assert request == request  # noqa: PLR0124  # identity is the point
    assert request != _request()


def test_a_response_shows_its_status_and_size() -> None:
    """A response's repr holds neither headers nor body, which may have ids in them."""
    shown = repr(Response(status=200, headers={"x": "secret"}, body=b"u1u1"))
    assert shown == "Response(status=200, body=<4 bytes>, attempts=1)"
