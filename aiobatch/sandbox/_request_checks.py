"""Checks of requests, and the error responses to those that fail them (BATCH_API.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs
import orjson

from ._store import AcceptedWrite, Namespace, StoredAudience

MAX_IDS: Final = 10_000
MAX_PAGE: Final = 100

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_JSON = "application/json"


@attrs.frozen(kw_only=True)
class ApiResponse:
    """A response. `ids` is the number of IDs in the request, for the log of requests."""

    status: int
    body: bytes
    content_type: str = _JSON
    retry_after: int | None = None
    ids: int = 0


class ApiError(Exception):
    """A request is refused with one of the documented errors."""

    def __init__(self, status: int, code: int | None, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.name = name
        self.message = message

    def answer(self, *, is_cep: bool) -> ApiResponse:
        """Return the response, in the form of the API's generation."""
        if is_cep:
            body: dict[str, Any] = {"error_code": self.name, "error_message": self.message}
        else:
            body = {"message": self.message} | ({} if self.code is None else {"code": self.code})
        return ApiResponse(status=self.status, body=orjson.dumps(body))


# https://doc.batch.com/developer/api/mep/custom-audience/1.0/create documents these codes and names. It has
# ROUTE_NOT_FOUND as the only 404, and no code for 429.
authentication_invalid = partial(ApiError, 401, 10, "AUTHENTICATION_INVALID")
api_misuse = partial(ApiError, 403, 12, "API_MISUSE")
not_found = partial(ApiError, 404, 20, "ROUTE_NOT_FOUND")
missing = partial(ApiError, 400, 30, "MISSING_PARAMETER")
malformed = partial(ApiError, 400, 31, "MALFORMED_PARAMETER")
# No page names the error for a name that is taken.
name_taken = partial(ApiError, 409, None, "NAME_TAKEN")
malformed_json = partial(ApiError, 400, 32, "MALFORMED_JSON_BODY")
server_error = partial(ApiError, 500, 1, "SERVER_ERROR", "Internal server error")
maintenance = partial(ApiError, 503, 2, "MAINTENANCE_ERROR", "The service is down for maintenance")
too_many_requests = partial(ApiError, 429, None, "TOO_MANY_REQUESTS", "Too many requests")


def require(parameters: Mapping[str, Any], name: str, place: str = "") -> Any:
    """Return a required value."""
    if name not in parameters:
        msg = f"{place}.{name} is missing" if place else f"{name} is missing"
        raise missing(msg)
    return parameters[name]


def read_name(value: object) -> str:
    """Return the name of an audience."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        msg = "name must be 1 to 255 letters, digits, _ or -"
        raise malformed(msg)
    return value


def read_body(content_type: str, body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """Return a JSON object that has no fields but the known ones."""
    if content_type != _JSON:
        msg = f"Content-Type must be {_JSON}"
        raise malformed_json(msg)
    try:
        parameters = orjson.loads(body)
    except orjson.JSONDecodeError:
        msg = "the body is not JSON"
        raise malformed_json(msg) from None
    if not isinstance(parameters, dict):
        msg = "the body must be a JSON object"
        raise malformed_json(msg)
    check_known(parameters, known)
    return parameters


def check_known(parameters: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise ApiError if a parameter is undocumented. Ignoring it would hide a mistake of the client."""
    if unknown := sorted(parameters.keys() - known):
        msg = f"unknown parameter {unknown[0]!r}"
        raise malformed(msg)


def read_text(parameters: Mapping[str, Any], name: str) -> str | None:
    """Return an optional string."""
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        msg = f"{name} must be a string"
        raise malformed(msg)
    return value


def read_type(parameters: Mapping[str, Any], allowed: tuple[str, ...]) -> str:
    """Return the required type of IDs."""
    value = require(parameters, "type")
    if value not in allowed:
        msg = f"type must be {' or '.join(allowed)} in this version of the API"
        raise malformed(msg)
    return str(value)


def read_integer(query: Mapping[str, str], name: str, default: int, bounds: tuple[int, float]) -> int:
    """Return an optional integer of a query."""
    text = query.get(name, str(default))
    lowest, highest = bounds
    if not re.fullmatch(r"[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
        msg = f"{name} must be an integer from {lowest} to {highest}"
        raise malformed(msg)
    return int(text)


def requested_write(
    namespace: Namespace, audience: StoredAudience, query: Mapping[str, str]
) -> AcceptedWrite:
    """Return the write of the token in a query, or the audience's last one."""
    if "indexing_token" not in query:
        return audience.last_write
    write = namespace.writes.get(query["indexing_token"])
    if write is None or write.audience is not audience:
        msg = "indexing_token does not belong to this audience"
        raise malformed(msg)
    return write
