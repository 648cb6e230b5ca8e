"""What an error answer means, whatever its body: decided by the HTTP status, enriched from any shape of body.

Names and codes are documented: https://doc.batch.com/developer/api/mep/custom-audience/1.0/create. The body's
shape is not: 1.x is said to answer `code` and `message`, 2.x `error_code` and `error_message`; and proxies in
front of Batch answer HTML or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import orjson

from .._http import Request, Response, read_retry_after
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
_SUCCESS = range(200, 300)
_REDIRECTION = range(300, 400)
_FAILURE = range(500, 600)
_LONGEST_MESSAGE = 200
_SHOWN_PROBLEMS = 3
_MASK = "***"

_ROUTE = "check the version and base_url, and that the app's api_key or the project_key belongs to it"
_NO_AUDIENCE = {(404, "list"), (404, "create")}  # these ask for no audience that could be missing
_ADVICE = {
    400: "do not send it again as it is; compare what was sent with Batch's documentation",
    401: "check rest_api_key (BATCH_REST_API_KEY), and that the app or project is of the same company",
    403: "the key may not do this: ask for its rights, and for the API to be open to your account, at Batch",
    404: "create the audience first, or check its spelling: names are case sensitive",
    413: (
        "what stands between here and Batch takes no body of this size: let it take 10 MB (in nginx, "
        "client_max_body_size), or send fewer ids at once"
    ),
    429: "send fewer requests: set Limits(rate=…), and see what else uses the same key",
}


@attrs.frozen
class ErrorDetails:
    """What an error body told.

    Attributes:
        code: Batch's number of the error.
        name: Batch's name of the error.
        message: Batch's words, in printable characters and without keys.
    """

    code: int | None = None
    name: str | None = None
    message: str | None = None


def check_status(request: Request, response: Response, secrets: Sequence[Secret]) -> None:
    """Raise the error that *response* stands for, unless it is a 2xx.

    Args:
        request: What was asked.
        response: What was answered.
        secrets: Keys, which the error must not repeat should the answer do so.

    Raises:
        ResponseError: The status is no 2xx; the class says which.
    """
    status = response.status
    if status in _SUCCESS:
        return
    details = _read_details(response.body, secrets)
    fields: dict[str, Any] = attrs.asdict(details) | {
        "status": status,
        "method": request.method,
        "path": request.path,
        "attempts": response.attempts,
    }
    text = _describe(request, response, details)
    cls = _CLASSES.get(status, ServerError if status in _FAILURE else ResponseError)
    if cls is RateLimitedError:
        fields["retry_after"] = read_retry_after(response)
    raise cls(text, **fields)


def malformed(request: Request, response: Response, problems: Sequence[str]) -> MalformedResponseError:
    """Return the error for a 2xx that cannot be read.

    Args:
        request: What was asked.
        response: What was answered.
        problems: What is wrong and where, one line each.
    """
    shown = "; ".join(problems[:_SHOWN_PROBLEMS])
    more = f" and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
    return MalformedResponseError(
        f"{request.label}: the answer {response.status}{_after(response)} cannot be read: {shown}{more}; "
        f"check base_url and what stands between here and Batch; {_resend(request)}",
        problems=problems,
        method=request.method,
        path=request.path,
        attempts=response.attempts,
    )


def _describe(request: Request, response: Response, details: ErrorDetails) -> str:
    """Say what was answered to what, and what to do about it."""
    known = f" {details.name}" if details.name else f" (code {details.code})" if details.code else ""
    words = f": {details.message}" if details.message else ""
    page = " with a page of HTML, perhaps a proxy's" if is_html(response.body) else ""
    return (
        f"{request.label}: answered {response.status}{known}{_after(response)}{page}{words}; "
        f"{_advice(request, response, details)}"
    )


def _advice(request: Request, response: Response, details: ErrorDetails) -> str:
    """Say what to do next."""
    status = response.status
    if status in _REDIRECTION:
        return "redirects are not followed, since requests carry keys: check base_url"
    if status in _FAILURE:
        return _resend(request)
    if (status, request.operation) in _NO_AUDIENCE:
        return _ROUTE
    if (status, details.name) == (404, "ROUTE_NOT_FOUND"):  # 1.x documents no other 404
        return f"{_ADVICE[404]}; else {_ROUTE}"
    return _ADVICE.get(status, "Batch does not document this status: check base_url and what stands between")


def _resend(request: Request) -> str:
    """Say whether the request can be sent again."""
    if request.idempotent:
        return "it is safe to send it again"
    return "whether it took effect is unknown: look for the audience before you create it again"


def _after(response: Response) -> str:
    """Say how many attempts it took, if more than one."""
    return f" after {response.attempts} attempts" if response.attempts > 1 else ""


def is_html(body: bytes) -> bool:
    """Tell whether *body* is a web page or another document in angle brackets."""
    return body.lstrip()[:1] == b"<"


def _read_details(body: bytes, secrets: Sequence[Secret]) -> ErrorDetails:
    """Find what a body of any shape tells of the error."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ErrorDetails()
    if not isinstance(answer, dict):
        return ErrorDetails()
    numbers_and_names = [answer.get("error_code"), answer.get("code")]
    code: int | None = next((value for value in numbers_and_names if type(value) is int), None)
    name: str | None = next((_clean(value, secrets) for value in numbers_and_names if _is_name(value)), None)
    words = [_clean(answer.get(key), secrets) for key in ("error_message", "message")]
    return ErrorDetails(
        code=_CODES.get(name or "") if code is None else code,
        name=_NAMES.get(code or 0) if name is None else name,
        message=words[0] or words[1],
    )


def _is_name(value: object) -> bool:
    """Tell whether *value* looks like the name of an error."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _clean(value: object, secrets: Sequence[Secret]) -> str | None:
    """Return text as one short printable line without keys; None for anything else."""
    if not isinstance(value, str):
        return None
    # The longest first: one key may hold another.
    for key in sorted((secret.reveal() for secret in secrets), key=len, reverse=True):
        value = value.replace(key, _MASK)
    start = value[: 10 * _LONGEST_MESSAGE]  # it may have megabytes
    line = " ".join("".join(char if char.isprintable() else " " for char in start).split())
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"
