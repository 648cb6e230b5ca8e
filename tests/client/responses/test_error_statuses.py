from __future__ import annotations

from collections.abc import Mapping

import pytest

from aiobatch import (
    AudienceClient,
    AudienceNotFoundError,
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    MaintenanceError,
    RateLimitedError,
    ResponseError,
    ServerError,
)

from .scripted_server import HTML, MEGABYTE, Script, Service, close, fails, json, raw, reset, then, whole

STATUSES: Mapping[int, tuple[type[ResponseError], str]] = {
    400: (AudienceNotFoundError, "check the spelling"),
    401: (AuthenticationError, "Check rest_api_key"),
    403: (ForbiddenError, "Ask Batch to give the key this permission"),
    404: (AudienceNotFoundError, "check the spelling"),
    429: (RateLimitedError, r"Send fewer requests: set Limits\(rate=…\)"),
    500: (ServerError, "It is safe to send it again"),
    502: (ServerError, "It is safe to send it again"),
    503: (MaintenanceError, "It is safe to send it again"),
    504: (ServerError, "It is safe to send it again"),
    301: (ResponseError, "redirects are not followed"),
    418: (ResponseError, "does not document this status"),
}
BODIES: Mapping[str, bytes] = {
    "nothing": b"",
    "html": HTML,
    "truncated json": b'{"code": 10, "mess',
    "a list": b'["code", 10]',
    "a string": b'"no"',
    "null": b"null",
    "wrong types": b'{"code": true, "message": {"a": 1}, "error_code": [], "error_message": 5}',
    "no utf-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("status", list(STATUSES))
async def test_status_decides_the_error(service: Service, client: AudienceClient, status: int) -> None:
    """The status of a response of Batch's decides the class. The message contains the remedy."""
    kind, advice = STATUSES[status]
    service.scripts.append(whole(status, b"{}"))
    error = await fails(client, kind, rf"(?:{advice}).*\[{status}\]")
    assert isinstance(error, ResponseError)
    assert (error.status, error.code, error.name, error.message) == (status, None, None, None)
    assert not error.is_foreign


@pytest.mark.parametrize("body", list(BODIES))
@pytest.mark.parametrize("status", list(STATUSES))
async def test_refusal_of_a_proxy_is_not_batchs(
    service: Service, client: AudienceClient, status: int, body: str
) -> None:
    """A 4xx that is not in Batch's form states no fact about the key, the request or the audience."""
    kind, advice = STATUSES[status]
    if 400 <= status < 500 and status != 429:
        kind, advice = ResponseError, "the response is not Batch's"
    service.scripts.append(whole(status, BODIES[body]))
    error = await fails(client, kind, rf"(?:{advice}).*\[{status}\]")
    assert isinstance(error, ResponseError)
    assert (error.status, error.code, error.name, error.message) == (status, None, None, None)
    assert error.is_foreign
    assert ("HTML" in str(error)) == (body == "html")


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (401, 10, "AUTHENTICATION_INVALID"),
        (403, 12, "API_MISUSE"),
        (404, 20, "ROUTE_NOT_FOUND"),
        (400, 30, "MISSING_PARAMETER"),
        (400, 31, "MALFORMED_PARAMETER"),
        (400, 32, "MALFORMED_JSON_BODY"),
        (500, 1, "SERVER_ERROR"),
        (503, 2, "MAINTENANCE_ERROR"),
    ],
)
async def test_documented_errors_have_code_and_name(
    service: Service, client: AudienceClient, label: str, status: int, code: int, name: str
) -> None:
    """Code, name and message are read in the form of 1.x and of 2.x."""
    words = "Batch's own words"
    shape = (
        {"code": code, "message": words} if label == "1.x" else {"error_code": name, "error_message": words}
    )
    service.scripts.append(json(status, shape))
    kind = (
        InvalidRequestError if name in {"MISSING_PARAMETER", "MALFORMED_JSON_BODY"} else STATUSES[status][0]
    )
    error = await fails(client, kind, rf"\[{status} {name}\]$")
    assert isinstance(error, ResponseError)
    assert (error.code, error.name, error.message) == (code, name, words)
    assert (error.method, error.attempts) == ("GET", 1)


async def test_message_with_a_key_is_masked(service: Service, client: AudienceClient, label: str) -> None:
    """No error shows a key that the response repeats."""
    words = "unknown: rest-key, app-key, project-key"
    service.scripts.append(json(401, {"message": words}))
    with pytest.raises(AuthenticationError) as caught:
        await client.view("vip")
    own = ["rest-key", "app-key" if label == "1.x" else "project-key"]
    assert not [key for key in own if key in str(caught.value) + repr(vars(caught.value))]


@pytest.mark.parametrize(
    ("field", "seconds"), [("5", 5), ("0.5", 0.5), ("Mon, 23 Nov 2026 10:00:07 GMT", 7), ("soon", None)]
)
async def test_rate_limited_error_has_retry_after(
    service: Service, client: AudienceClient, field: str, seconds: float | None
) -> None:
    """`retry_after` is in seconds. A date is compared with the date of the response."""
    fields = (f"Retry-After: {field}", "Date: Mon, 23 Nov 2026 10:00:00 GMT")
    service.scripts.append(json(429, {"message": "slow down"}, *fields))
    with pytest.raises(RateLimitedError, match="slow down") as caught:
        await client.view("vip")
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("label", ["2.x"])
@pytest.mark.parametrize("status", [401, 404, 503])
@pytest.mark.parametrize(
    "case",
    ["closed in the body", "reset in the body", "too large", "too large and unannounced", "gzip garbage"],
)
async def test_status_counts_if_the_body_is_unreadable(
    service: Service, client: AudienceClient, status: int, case: str
) -> None:
    """The status is known even if the body is broken, but a 4xx may then be a proxy's."""
    chunked = b"HTTP/1.1 %d Sorry\r\nTransfer-Encoding: chunked\r\n\r\n" % status
    chunks = (b"100000\r\n" + MEGABYTE + b"\r\n") * 20
    cases: Mapping[str, Script] = {
        "closed in the body": then(whole(status, HTML[:9], length=99), close),
        "reset in the body": then(whole(status, HTML[:9], length=99), reset),
        "too large": whole(status, b"<", length=200 * 1024**2),
        "too large and unannounced": then(raw(chunked + chunks), close),
        "gzip garbage": whole(status, b"garbage", "Content-Encoding: gzip"),
    }
    service.scripts.append(cases[case])
    kind, advice = STATUSES[503] if status == 503 else (ResponseError, "the response is not Batch's")
    await fails(client, kind, rf"(?:{advice}).*\[{status}\]")
