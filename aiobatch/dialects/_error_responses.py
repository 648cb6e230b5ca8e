"""Errors from responses: the HTTP status decides the class, the body adds details if it has any.

Names and codes are documented: https://doc.batch.com/developer/api/mep/custom-audience/1.0/create. The body's
shape is not documented for 1.x, and third parties report `code` and `message`. 2.x documents `error_code`
and `error_message`. Proxies in front of Batch respond with HTML or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

from .._backoff import is_excessive, is_foreign, read_json, read_retry_after
from .._secret import Secret
from ..errors import (
    AudienceNotFoundError,
    AuthenticationError,
    ForbiddenError,
    InvalidRequestError,
    MaintenanceError,
    MalformedResponseError,
    RateLimitedError,
    ResponseError,
    ServerError,
)
from ..interfaces import Request, Response
from ._masking import clean

_CODES = {
    "SERVER_ERROR": 1,
    "MAINTENANCE_ERROR": 2,
    "AUTHENTICATION_INVALID": 10,
    "API_MISUSE": 12,
    "ROUTE_NOT_FOUND": 20,
    "MISSING_PARAMETER": 30,
    "MALFORMED_PARAMETER": 31,
    "MALFORMED_JSON_BODY": 32,
}
_NAMES = {code: name for name, code in _CODES.items()}
_CLASSES = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: ForbiddenError,
    404: AudienceNotFoundError,
    429: RateLimitedError,
    503: MaintenanceError,
}
_NAME = re.compile(r"[A-Z][A-Z0-9_]{2,49}")
_INVALID = 400
_NOT_FOUND = 404
_TOO_MANY = 429
# Statuses that mean the same in a proxy's response.
_FOREIGN_REASONS = frozenset({413, 429})
# The documented names of 400 that are not about the value of a parameter.
_OTHER_INVALID = frozenset({"MISSING_PARAMETER", "MALFORMED_JSON_BODY"})
_NEEDS_NO_AUDIENCE = frozenset({"list", "create"})
# BATCH_API.md, "Routes": the status for a name that is taken is not documented.
_NAME_TAKEN = frozenset({400, 409})
_SUCCESS = range(200, 300)
_REDIRECTION = range(300, 400)
_REQUEST_ERROR = range(400, 500)
_FAILURE = range(500, 600)
_LONGEST_MESSAGE = 200
_SHOWN_PROBLEMS = 3

_REASONS = {
    400: "Batch rejected the request",
    401: "Batch did not accept a key",
    403: "the key has no permission",
    404: "Batch has no such route",
    413: "the request body is too large",
    429: "too many requests",
    503: "Batch is unavailable",
}
_ROUTE = (
    "Check the version and base_url, and check that the app's api_key or the project_key is the right one."
)
_TAKEN = (
    "If an audience of this name exists, use it or choose another name. Otherwise compare the request with "
    "Batch's documentation."
)
_CHECK_PROXY = "Check base_url and any proxy between this machine and Batch."
_ADVICE = {
    400: "Do not send it again unchanged. Compare it with Batch's documentation.",
    401: "Check rest_api_key (BATCH_REST_API_KEY). The app or project must belong to the same company.",
    403: "Ask Batch to give the key this permission, and to open the API to your account.",
    404: _ROUTE,
    413: (
        "A server between this machine and Batch accepts no body of this size. Let it accept 10 MB (in "
        "nginx: client_max_body_size), or send fewer IDs per request."
    ),
    429: "Send fewer requests: set Limits(rate=…), and look for other programs that use the same key.",
}


@attrs.frozen
class ErrorDetails:
    """The contents of an error body.

    Attributes:
        code: Batch's number for the error.
        name: Batch's name for the error.
        message: Batch's message as one printable line. Keys and members' values are masked.
        is_foreign: Whether the response is not in Batch's form, so that a proxy may have sent it.
    """

    code: int | None = None
    name: str | None = None
    message: str | None = None
    is_foreign: bool = False


def check_status(request: Request, response: Response, secrets: Sequence[Secret]) -> None:
    """Raise the error of a response whose status is not 2xx.

    Args:
        request: The request.
        response: Its response.
        secrets: Keys to mask in the response's message.

    Raises:
        ResponseError: The status is not 2xx. The class depends on the status.
    """
    status = response.status
    if status in _SUCCESS:
        return
    details = _read_details(request, response, secrets)
    fields: dict[str, Any] = attrs.asdict(details) | {
        "status": status,
        "method": request.method,
        "path": request.path,
        "attempts": response.attempts,
    }
    problem, advice = _describe(request, response, details)
    cls = _class_of(request, status, details)
    if cls in {RateLimitedError, MaintenanceError}:
        fields["retry_after"] = read_retry_after(response)
    raise cls(problem, advice=advice, **fields)


def _class_of(request: Request, status: int, details: ErrorDetails) -> type[ResponseError]:
    """Return the class of an error. A proxy's 4xx does not mean what Batch's means."""
    if details.is_foreign and status in _REQUEST_ERROR and status != _TOO_MANY:
        return ResponseError
    if _is_missing(request, status, details):
        return AudienceNotFoundError
    return _CLASSES.get(status, ServerError if status in _FAILURE else ResponseError)


def _is_missing(request: Request, status: int, details: ErrorDetails) -> bool:
    """Return whether an error of Batch's means that the audience does not exist.

    Its status is not documented for all operations. 400 for a request with nothing but a valid name can mean
    nothing else, unless Batch names another error.
    """
    if request.operation in _NEEDS_NO_AUDIENCE or details.is_foreign:
        return False
    if status == _INVALID and details.name not in _OTHER_INVALID:
        is_view = request.operation == "view" and "indexing_token=" not in request.target
        return is_view or request.operation == "delete"
    return status == _NOT_FOUND


def malformed(request: Request, response: Response, problems: Sequence[str]) -> MalformedResponseError:
    """Return the error for a 2xx response that cannot be read.

    Args:
        request: The request.
        response: Its response.
        problems: What is wrong and where, one line each.
    """
    shown = ", ".join(problems[:_SHOWN_PROBLEMS])
    more = f", and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return MalformedResponseError(
        f"{request.subject} failed: the response cannot be read ({shown}{more}). Check base_url and any "
        f"proxy between this machine and Batch. {_resend(request)} [{response.status}{_attempts(response)}]",
        problems=problems,
        method=request.method,
        path=request.path,
        attempts=response.attempts,
    )


def _describe(request: Request, response: Response, details: ErrorDetails) -> tuple[str, str]:
    """Return what failed and why, and what to do."""
    status, page = response.status, is_html(response.body)
    message = f' Batch\'s message: "{details.message}".' if details.message else ""
    if _is_missing(request, status, details):
        # The message of a 404 adds nothing: 1.x and 2.x document no other 404 for an audience.
        return (
            f"Audience {request.audience!r} does not exist.{message if status == _INVALID else ''}",
            "Create it first, or check the spelling: names are case-sensitive.",
        )
    if status in _REDIRECTION:
        reason, advice = (
            "it was redirected",
            "Requests carry keys, so redirects are not followed. Check base_url.",
        )
    elif status in _FAILURE:
        reason, advice = _REASONS.get(status, "Batch had an internal error"), _resend(request)
    elif details.is_foreign and status not in _FOREIGN_REASONS:
        reason, advice = "the response is not Batch's", _ROUTE if status == _NOT_FOUND else _CHECK_PROXY
    else:
        reason = _REASONS.get(status, "Batch does not document this status")
        advice = _ADVICE.get(status, _CHECK_PROXY)
        if request.operation == "create" and status in _NAME_TAKEN:
            advice = _TAKEN
    html = " The response is an HTML page, perhaps from a proxy." if page else ""
    return f"{request.subject} failed: {reason}.{message}{html}", advice


def _resend(request: Request) -> str:
    """Return whether the request can be sent again."""
    if request.idempotent:
        return "It is safe to send it again."
    return "Whether it took effect is unknown. Look for the audience before you create it again."


def _attempts(response: Response) -> str:
    """Format the number of attempts, if more than one."""
    return f", {response.attempts} attempts" if response.attempts > 1 else ""


def is_html(body: bytes) -> bool:
    """Return whether *body* is a web page or another document in angle brackets."""
    return body.lstrip()[:1] == b"<"


def _read_details(request: Request, response: Response, secrets: Sequence[Secret]) -> ErrorDetails:
    """Return the contents of an error body. A gateway's JSON may have a message without Batch's code."""
    foreign = is_foreign(response)
    try:
        answer = None if is_excessive(response.body) else read_json(response.body)
    except ValueError:
        return ErrorDetails(is_foreign=foreign)
    if not isinstance(answer, dict):
        return ErrorDetails(is_foreign=foreign)
    numbers_and_names = [answer.get("error_code"), answer.get("code")]
    code: int | None = next((value for value in numbers_and_names if type(value) is int), None)
    name = next((_clean(value, secrets, request) for value in numbers_and_names if _is_name(value)), None)
    words = [_clean(answer.get(key), secrets, request) for key in ("error_message", "message")]
    return ErrorDetails(
        code=_CODES.get(name or "") if code is None else code,
        name=_NAMES.get(code or 0) if name is None else name,
        message=words[0] or words[1],
        is_foreign=foreign,
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _clean(value: object, secrets: Sequence[Secret], request: Request) -> str | None:
    """Return text as one short printable line without keys and members. Return None for any other type."""
    return clean(value, secrets, _LONGEST_MESSAGE, request) if isinstance(value, str) else None
