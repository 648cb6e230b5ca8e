"""What requests must look like, and what the answer to one that does not looks like (BATCH_API.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    """What goes back; `ids` is the number of ids that the request carried, for the log of requests."""

    status: int
    body: bytes
    content_type: str = _JSON
    retry_after: int | None = None
    ids: int = 0


class ApiError(Exception):
    """A request is refused, with one of the documented errors."""

    def __init__(self, status: int, code: int | None, name: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.name = name
        self.message = message

    def answer(self, *, is_cep: bool) -> ApiResponse:
        """Write the error as the API's generation does."""
        if is_cep:
            body: dict[str, Any] = {"error_code": self.name, "error_message": self.message}
        else:
            body = {"message": self.message} | ({} if self.code is None else {"code": self.code})
        return ApiResponse(status=self.status, body=orjson.dumps(body))


def authentication_invalid(message: str) -> ApiError:
    """Refuse a key."""
    return ApiError(401, 10, "AUTHENTICATION_INVALID", message)


def api_misuse(message: str) -> ApiError:
    """Refuse a use that the keys do not allow."""
    return ApiError(403, 12, "API_MISUSE", message)


def not_found(message: str) -> ApiError:
    """Say that there is no such thing: the documented errors have one name for every 404."""
    return ApiError(404, 20, "ROUTE_NOT_FOUND", message)


def missing(message: str) -> ApiError:
    """Refuse a request that lacks something."""
    return ApiError(400, 30, "MISSING_PARAMETER", message)


def malformed(message: str) -> ApiError:
    """Refuse a value."""
    return ApiError(400, 31, "MALFORMED_PARAMETER", message)


def malformed_json(message: str) -> ApiError:
    """Refuse a body."""
    return ApiError(400, 32, "MALFORMED_JSON_BODY", message)


def server_error() -> ApiError:
    """Fail."""
    return ApiError(500, 1, "SERVER_ERROR", "Internal server error")


def maintenance() -> ApiError:
    """Be closed for maintenance."""
    return ApiError(503, 2, "MAINTENANCE_ERROR", "The service is down for maintenance")


def too_many_requests() -> ApiError:
    """Refuse for now: 1.x documents no code for it."""
    return ApiError(429, None, "TOO_MANY_REQUESTS", "Too many requests")


def require(parameters: Mapping[str, Any], name: str, place: str = "") -> Any:
    """Return a mandatory value."""
    if name not in parameters:
        msg = f"{place}.{name} is missing" if place else f"{name} is missing"
        raise missing(msg)
    return parameters[name]


def read_name(value: object) -> str:
    """Read the name of an audience."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        msg = "name must be 1 to 255 letters, digits, _ or -"
        raise malformed(msg)
    return value


def read_body(content_type: str, body: bytes, known: frozenset[str]) -> dict[str, Any]:
    """Read a JSON object that has no parameter but the known ones."""
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
    _refuse_unknown(parameters, known)
    return parameters


def read_query(query: Mapping[str, str], known: frozenset[str]) -> Mapping[str, str]:
    """Return a query that has no parameter but the known ones."""
    _refuse_unknown(query, known)
    return query


def _refuse_unknown(parameters: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse what no page mentions: it is a mistake of the caller's, and ignoring it would hide that."""
    if unknown := sorted(parameters.keys() - known):
        msg = f"unknown parameter {unknown[0]!r}"
        raise malformed(msg)


def read_text(parameters: Mapping[str, Any], name: str) -> str | None:
    """Read an optional string."""
    value = parameters.get(name)
    if value is not None and not isinstance(value, str):
        msg = f"{name} must be a string"
        raise malformed(msg)
    return value


def read_type(parameters: Mapping[str, Any], allowed: tuple[str, ...]) -> str:
    """Read the mandatory type of ids."""
    value = require(parameters, "type")
    if value not in allowed:
        msg = f"type must be {' or '.join(allowed)} in this version of the API"
        raise malformed(msg)
    return str(value)


def read_count(query: Mapping[str, str], name: str, default: int, bounds: tuple[int, float]) -> int:
    """Read an optional whole number of a query."""
    text = query.get(name, str(default))
    lowest, highest = bounds
    if not re.fullmatch(r"[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
        msg = f"{name} must be a whole number from {lowest} to {highest}"
        raise malformed(msg)
    return int(text)


def find_visible(namespace: Namespace, name: str) -> StoredAudience:
    """Return an audience whose creation is applied."""
    if (audience := namespace.visible.get(name)) is None:
        msg = "The audience does not exist"
        raise not_found(msg)
    return audience


def find_writable(namespace: Namespace, name: str) -> StoredAudience:
    """Return an audience that takes writes: its creation may still be on its way, its deletion may not."""
    audience = namespace.audiences.get(name)
    if audience is None or not audience.accepts:
        msg = "The audience does not exist"
        raise not_found(msg)
    return audience


def check_free(namespace: Namespace, name: str) -> None:
    """Refuse to create what exists."""
    if name in namespace.audiences and namespace.audiences[name].accepts:
        msg = "name is taken: an audience of this name exists"
        raise malformed(msg)


def requested_write(
    namespace: Namespace, audience: StoredAudience, query: Mapping[str, str]
) -> AcceptedWrite:
    """Return the operation of the token in a query, or the audience's last one."""
    if "indexing_token" not in query:
        return audience.last
    operation = namespace.operations.get(query["indexing_token"])
    if operation is None or operation.audience is not audience:
        msg = "indexing_token is not one of this audience's"
        raise malformed(msg)
    return operation
