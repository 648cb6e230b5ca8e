from __future__ import annotations

import copy
import itertools
import pickle
import traceback

import attrs
import pytest

from aiobatch._http import Request, Response, Secret

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


@attrs.frozen
class _Holder:
    """Something with a key in it."""

    key: Secret
    nested: object = None


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(KEY)),
        str(Secret(KEY)),
        format(Secret(KEY)),
        f"{Secret(KEY)} {Secret(KEY)!r} {Secret(KEY)!a}",
        "%s %r" % (Secret(KEY), Secret(KEY)),  # noqa: UP031  # the way of logging
        repr([Secret(KEY)]),
        repr(_Holder(Secret(KEY))),
        repr(attrs.asdict(_Holder(Secret(KEY), _Holder(Secret(KEY))), recurse=True)),
        repr(attrs.astuple(_Holder(Secret(KEY)))),
        repr(copy.copy(Secret(KEY))),
        repr(copy.deepcopy(_Holder(Secret(KEY)))),
    ],
    ids=itertools.count(1),
)
def test_a_secret_shows_a_mask(shown: str) -> None:
    """However a secret is turned into text, the text is a mask."""
    assert KEY not in shown
    assert "***" in shown


def test_a_secret_is_revealed_on_request() -> None:
    """`reveal` gives the key, also from a copy."""
    assert Secret(KEY).reveal() == copy.deepcopy(Secret(KEY)).reveal() == KEY


def test_secrets_compare_by_value() -> None:
    """Equal keys are equal secrets with one hash; a secret is not equal to its text."""
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY


def test_a_secret_has_no_dict() -> None:
    """`vars` finds nothing to show."""
    with pytest.raises(TypeError):
        vars(Secret(KEY))


@pytest.mark.parametrize(
    "holder", [Secret(KEY), _Holder(Secret(KEY)), _request()], ids=["key", "holder", "request"]
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_holds_a_key_refuses_to_be_pickled(holder: object, protocol: int) -> None:
    """Pickling a secret, or anything with one in it, fails with a text that says so and shows no key."""
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        pickle.dumps(holder, protocol)
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
