from __future__ import annotations

import pickle
import traceback
from typing import Any

import orjson
import pytest

from aiobatch.dialects import Dialect
from aiobatch.errors import (
    AiobatchError,
    AudienceNotFoundError,
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    MaintenanceError,
    RateLimitedError,
    ResponseError,
    ServerError,
)
from aiobatch.interfaces import Request, Response

from .conftest import APP_KEY, PROJECT_KEY, REST_KEY

# Name, status and code as documented, and the class of the status.
DOCUMENTED: list[tuple[str, int, int, type[ResponseError]]] = [
    ("AUTHENTICATION_INVALID", 401, 10, AuthenticationError),
    ("API_MISUSE", 403, 12, ForbiddenError),
    ("ROUTE_NOT_FOUND", 404, 20, AudienceNotFoundError),
    ("MISSING_PARAMETER", 400, 30, InvalidRequestError),
    ("MALFORMED_PARAMETER", 400, 31, InvalidRequestError),
    ("MALFORMED_JSON_BODY", 400, 32, InvalidRequestError),
    ("SERVER_ERROR", 500, 1, ServerError),
    ("MAINTENANCE_ERROR", 503, 2, MaintenanceError),
]

MUTE_BODIES = [
    b"",
    b"<html>Forbidden",
    b"[]",
    b"null",
    b'"no"',
    b"{}",
    b'{"code": ',
    b"\xff",
    b'{"code": [], "message": 3}',
]


def keys_of(dialect: Dialect) -> set[str]:
    """Return the keys that a dialect holds."""
    return {REST_KEY, PROJECT_KEY if dialect.lists_states else APP_KEY}


def failure(
    dialect: Dialect, status: int, body: bytes = b"", *, request: Request | None = None, **fields: Any
) -> ResponseError:
    """Return the error of a response to *request*, by default a view."""
    response = Response(status=status, body=body, **fields)
    with pytest.raises(ResponseError) as caught:
        dialect.read_view(request or dialect.build_view("vip"), response)
    return caught.value


@pytest.mark.parametrize(("name", "status", "code", "cls"), DOCUMENTED)
def test_documented_errors_have_their_class_and_code(
    dialect: Dialect, name: str, status: int, code: int, cls: type[ResponseError]
) -> None:
    """Each documented error has its class, code, name and message, for both shapes of body."""
    request = dialect.build_update("vip", ["u1"], [])
    old = failure(dialect, status, orjson.dumps({"code": code, "message": "Batch's words"}), request=request)
    new = failure(
        dialect, status, orjson.dumps({"error_code": name, "error_message": "Batch's words"}), request=request
    )

    for error in (old, new):
        assert type(error) is cls
        assert (error.status, error.code, error.name) == (status, code, name)
        assert error.message == "Batch's words"
        assert "audience 'vip'" in str(error).lower()
        assert str(error).endswith(f" [{status} {name}]")


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (301, ResponseError),
        (304, ResponseError),
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, ForbiddenError),
        (404, AudienceNotFoundError),
        (405, ResponseError),
        (413, ResponseError),
        (429, RateLimitedError),
        (500, ServerError),
        (502, ServerError),
        (503, MaintenanceError),
        (504, ServerError),
        (599, ServerError),
    ],
)
def test_status_decides_the_class(dialect: Dialect, status: int, cls: type[ResponseError]) -> None:
    """The status decides the class of an error, unless a 4xx is not in Batch's form."""
    request = dialect.build_update("vip", ["u1"], [])
    for body in MUTE_BODIES:
        error = failure(dialect, status, body, request=request)

        is_batchs = body == b"{}" or not 400 <= status < 500 or status == 429
        assert type(error) is (cls if is_batchs else ResponseError)
        assert error.is_foreign == (body != b"{}")
        assert (error.code, error.name, error.message) == (None, None, None)
        assert str(error).startswith(("Update of audience 'vip' failed: ", "Audience 'vip' does not exist. "))
        assert str(error).endswith(f" [{status}]")


@pytest.mark.parametrize("status", [400, 404])
def test_message_alone_does_not_prove_that_an_audience_is_missing(dialect: Dialect, status: int) -> None:
    """A gateway's JSON has a message or its own status, but no code of Batch's."""
    for body in (
        {"message": "no Route matched with those values"},
        {"code": status, "message": "page not found"},
        {"error": "not found", "status": status},
        {"error_code": "NO", "padding": "x" * 300_000},
    ):
        error = failure(dialect, status, orjson.dumps(body))
        assert (type(error), error.is_foreign) == (ResponseError, True)
        assert "the response is not Batch's" in str(error)


def test_400_for_a_name_alone_means_that_the_audience_is_missing(dialect: Dialect) -> None:
    """Batch may answer 400 in place of 404. With a token or with members, 400 can mean something else."""
    body = orjson.dumps({"code": 31, "message": "unknown name"})
    for request in (dialect.build_view("vip"), dialect.build_delete("vip")):
        error = failure(dialect, 400, body, request=request)
        assert type(error) is AudienceNotFoundError
        assert str(error).startswith(
            "Audience 'vip' does not exist. Batch's message: \"unknown name\". Create"
        )
        other = failure(dialect, 400, orjson.dumps({"code": 32, "message": "no JSON"}), request=request)
        assert type(other) is InvalidRequestError
    for request in (dialect.build_view("vip", "t"), dialect.build_replace("vip", ["u1"])):
        assert type(failure(dialect, 400, body, request=request)) is InvalidRequestError


def test_error_has_request_and_attempts(dialect: Dialect) -> None:
    """An error has the request's method, path and attempts, also after pickling."""
    request = dialect.build_update("vip", ["u1"], [])
    error = failure(dialect, 500, request=request, attempts=4)
    copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled here

    assert (copied.status, copied.attempts) == (500, 4)
    assert (copied.method, copied.path) == (request.method, request.path)
    assert str(copied) == (
        "Update of audience 'vip' failed: Batch had an internal error. It is safe to send it again. "
        "[500, 4 attempts]"
    )


def test_undocumented_code_and_name_are_kept(dialect: Dialect) -> None:
    """A number or name that is not documented is kept."""
    number = failure(dialect, 400, b'{"code": 77}')
    name = failure(dialect, 400, b'{"error_code": "TOO_MANY_CATS"}')

    assert (number.code, number.name) == (77, None)
    assert str(number).endswith(" [400 code 77]")
    assert (name.code, name.name) == (None, "TOO_MANY_CATS")


@pytest.mark.parametrize("code", ["true", '"not a name"', '"x"', "1.5", f'"{"A" * 51}"'])
def test_values_that_are_no_code_or_name_are_ignored(dialect: Dialect, code: str) -> None:
    """A value that cannot be a code or name is ignored."""
    error = failure(dialect, 400, f'{{"code": {code}, "error_code": {code}}}'.encode())

    assert (error.code, error.name) == (None, None)


def test_message_is_one_short_line(dialect: Dialect) -> None:
    """Batch's message becomes one printable line of bounded length, even if it has megabytes."""
    noisy = failure(dialect, 400, orjson.dumps({"message": "a\r\nb\x1b[31m\u202e  c"}))
    endless = failure(dialect, 400, orjson.dumps({"message": "x" * 5_000_000}))

    assert noisy.message == "a b [31m c"
    assert endless.message == "x" * 200 + "…"


def test_message_echoes_no_key(dialect: Dialect) -> None:
    """A key in Batch's message is masked, even where the line is cut."""
    for key in keys_of(dialect):
        error = failure(dialect, 404, orjson.dumps({"message": f"{'x' * 190}/{key}/custom-audience"}))

        assert error.message == f"{'x' * 190}/***/custo…"


def test_name_echoes_no_key(dialect: Dialect) -> None:
    """A key in the name is masked too."""
    error = failure(dialect, 404, orjson.dumps({"error_code": "NO_SUCH_KEY", "message": REST_KEY}))

    assert (error.name, error.message) == ("NO_SUCH_KEY", "***")


@pytest.mark.parametrize("status", [200, 401, 500])
def test_traceback_shows_no_key(dialect: Dialect, status: int) -> None:
    """A traceback with the values of all variables, as error trackers record it, contains no key."""
    body = b"{}" if status == 200 else orjson.dumps({"message": f"{REST_KEY} {APP_KEY} {PROJECT_KEY}"})
    with pytest.raises(AiobatchError) as caught:
        dialect.read_view(dialect.build_view("vip"), Response(status=status, body=body))

    frames_of_aiobatch = caught.value.__traceback__.tb_next if caught.value.__traceback__ else None
    frames = traceback.StackSummary.extract(traceback.walk_tb(frames_of_aiobatch), capture_locals=True)
    shown = "".join(frames.format()) + repr(caught.value)

    assert "request = " in shown
    assert not any(key in shown for key in keys_of(dialect))


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (302, b"", "redirects are not followed. Check base_url"),
        (400, b'{"code": 32}', "Do not send it again unchanged"),
        (401, b"{}", r"Check rest_api_key \(BATCH_REST_API_KEY\)"),
        (401, b'{"message": "no"}', r"Check rest_api_key \(BATCH_REST_API_KEY\)"),
        (
            401,
            b" <!doctype html>",
            "not Batch's. The response is an HTML page, perhaps from a proxy. Check",
        ),
        (403, b"{}", "Ask Batch to give the key this permission"),
        (404, b"{}", "Create it first, or check the spelling: names are case-sensitive"),
        (404, b"", "not Batch's. Check the version and base_url"),
        (404, b'{"code": 20}', r"Create it first, .*\[404 ROUTE_NOT_FOUND\]$"),
        (404, b"<html>", "HTML page, perhaps from a proxy. Check the version and base_url"),
        (413, b"<html>", "accepts no body of this size. Let it accept 10 MB .* or send fewer IDs"),
        (418, b"{}", "Batch does not document this status. Check base_url"),
        (429, b"", r"Send fewer requests: set Limits\(rate=…\)"),
        (500, b"", "It is safe to send it again"),
        (503, b"", "It is safe to send it again"),
    ],
)
def test_error_contains_advice(dialect: Dialect, status: int, body: bytes, advice: str) -> None:
    """The text of an error explains what to do."""
    with pytest.raises(ResponseError, match=advice):
        dialect.read_view(dialect.build_view("vip"), Response(status=status, body=body))


def test_advice_after_a_failed_create(dialect: Dialect) -> None:
    """A create may have taken effect when Batch failed, and no audience is missing when it is not found."""
    request = dialect.build_create("vip")

    with pytest.raises(ServerError, match="Look for the audience before you create it again"):
        dialect.read_token(request, Response(status=502))
    with pytest.raises(AudienceNotFoundError, match=r"no such route\. Check the version and base_url"):
        dialect.read_token(request, Response(status=404, body=b"{}"))


@pytest.mark.parametrize("status", [400, 409])
def test_refused_create_names_the_likely_reason(dialect: Dialect, status: int) -> None:
    """Batch documents no status for a taken name, so it may be either. A view is different."""
    with pytest.raises(ResponseError, match="use it or choose another name") as caught:
        dialect.read_token(dialect.build_create("vip"), Response(status=status, body=b"{}"))
    assert "unchanged" not in str(caught.value)
    with pytest.raises(ResponseError) as caught:
        dialect.read_view(dialect.build_view("vip"), Response(status=status, body=b"{}"))
    assert "another name" not in str(caught.value)


def test_404_of_a_list_is_no_missing_audience(dialect: Dialect) -> None:
    """The error for a list that is not found names no audience."""
    with pytest.raises(AudienceNotFoundError, match=r"List of audiences failed: .* Check the version"):
        dialect.read_list(dialect.build_list(), Response(status=404, body=b"{}"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:05 GMT", "date": "Mon, 23 Nov 2026 12:00:00 GMT"}, 5.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:05 GMT", "date": "today"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:05 GMT"}, None),
    ],
    ids=repr,
)
def test_429_has_retry_after_in_seconds(
    dialect: Dialect, headers: dict[str, str], seconds: float | None
) -> None:
    """The error for a 429 has Batch's Retry-After in seconds. A date counts from the response's own."""
    error = failure(dialect, 429, headers=headers)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after == seconds
