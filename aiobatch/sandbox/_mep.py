"""The Custom Audience API, 1.0 and 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import islice
from math import inf
from typing import Any, Final

import attrs
import orjson

from ._member_rows import check_refused_ids, read_changes, read_members
from ._options import REST_API_KEY
from ._request_checks import (
    MAX_PAGE,
    ApiResponse,
    authentication_invalid,
    check_free,
    find_visible,
    find_writable,
    malformed,
    read_body,
    read_count,
    read_name,
    read_query,
    read_text,
    read_type,
    requested_write,
    require,
)
from ._routes import ApiCall
from ._store import AudienceStore, Create, Delete, Effect, Namespace, Replace, StoredAudience, Update


@attrs.frozen(kw_only=True)
class _Version:
    """How 1.0 and 1.1 differ: `parameters` are a write's, `extras` those of a row."""

    types: tuple[str, ...]
    parameters: frozenset[str]
    extras: frozenset[str]


_VERSIONS: Final[Mapping[str, _Version]] = {
    "1.0": _Version(
        types=("custom_ids", "advertising_ids"),
        parameters=frozenset({"ids", "type"}),
        extras=frozenset(),
    ),
    "1.1": _Version(
        types=("install_ids",),
        parameters=frozenset({"ids"}),
        extras=frozenset({"attributes", "tags"}),
    ),
}


class CustomAudienceApi:
    """Answer calls of 1.x: every API key is an app with audiences of its own, shared by both versions."""

    def __init__(
        self, store: AudienceStore, apps: Mapping[str, Namespace], refused_ids: AbstractSet[str] = frozenset()
    ) -> None:
        self._store = store
        self._refused_ids = refused_ids
        self._apps = apps
        self._operations = {
            "create": self._create,
            "replace": self._replace,
            "update": self._update,
            "view": self._view,
            "list": self._list,
            "delete": self._delete,
        }

    def answer(self, call: ApiCall) -> ApiResponse:
        """Answer a call, or raise `ApiError`."""
        if call.headers.get("X-Authorization") != REST_API_KEY:
            msg = "The REST API key is missing or invalid"
            raise authentication_invalid(msg)
        app = self._apps.get(call.route.api_key)
        if app is None:
            msg = "The API key is invalid"
            raise authentication_invalid(msg)
        if call.route.operation != "list":
            read_name(call.route.name)
        return self._operations[call.route.operation](app, call)

    def _create(self, app: Namespace, call: ApiCall) -> ApiResponse:
        """Create at once: 1.x answers no token."""
        body = read_body(call.content_type, call.body, frozenset({"type", "description"}))
        id_type = read_type(body, _VERSIONS[call.route.version].types)
        description = read_text(body, "description")
        check_free(app, call.route.name)
        self._store.apply_now(app, call.route.name, Create(id_type=id_type, label=description))
        return ApiResponse(status=200, body=b"{}")

    def _replace(self, app: Namespace, call: ApiCall) -> ApiResponse:
        body = self._read_write(app, call)
        members = read_members(require(body, "ids"), _VERSIONS[call.route.version].extras)
        check_refused_ids(body["ids"], self._refused_ids)
        return self._submit(app, call, Replace(members=members), len(body["ids"]))

    def _update(self, app: Namespace, call: ApiCall) -> ApiResponse:
        body = self._read_write(app, call)
        outcomes = read_changes(require(body, "ids"), _VERSIONS[call.route.version].extras)
        check_refused_ids(body["ids"], self._refused_ids)
        return self._submit(app, call, Update.of(outcomes), len(body["ids"]))

    def _view(self, app: Namespace, call: ApiCall) -> ApiResponse:
        query = read_query(call.query, frozenset({"indexing_token"}))
        audience = find_visible(app, call.route.name)
        state = requested_write(app, audience, query).state
        return ApiResponse(status=200, body=orjson.dumps({**self._row(audience), "indexing_state": state}))

    def _list(self, app: Namespace, call: ApiCall) -> ApiResponse:
        """List newest first, from an offset."""
        query = read_query(call.query, frozenset({"from", "limit"}))
        offset = read_count(query, "from", 0, (0, inf))
        limit = read_count(query, "limit", 10, (1, MAX_PAGE))
        page = islice(reversed(app.visible.values()), offset, offset + limit)
        return ApiResponse(
            status=200, body=orjson.dumps({"custom_audiences": [self._row(row) for row in page]})
        )

    def _delete(self, app: Namespace, call: ApiCall) -> ApiResponse:
        """Delete at once: the page shows no token."""
        find_visible(app, call.route.name)
        self._store.apply_now(app, call.route.name, Delete())
        return ApiResponse(status=200, body=b"{}")

    def _read_write(self, app: Namespace, call: ApiCall) -> dict[str, Any]:
        """Read the body of an update or a replace, and hold its type of ids against the audience's."""
        version = _VERSIONS[call.route.version]
        body = read_body(call.content_type, call.body, version.parameters)
        types = (read_type(body, version.types),) if "type" in version.parameters else version.types
        audience = find_writable(app, call.route.name)
        if audience.id_type not in types:
            msg = f"type does not match the audience, which holds {audience.id_type}"
            raise malformed(msg)
        return body

    def _submit(self, app: Namespace, call: ApiCall, effect: Effect, ids: int) -> ApiResponse:
        operation = self._store.submit(app, call.route.name, effect)
        return ApiResponse(status=200, body=orjson.dumps({"indexing_token": operation.token}), ids=ids)

    def _row(self, audience: StoredAudience) -> dict[str, Any]:
        return {
            "name": audience.name,
            "type": audience.id_type,
            "description": audience.label,
            "created": self._store.format_time(audience.created_at),
            "updated": self._store.format_time(audience.updated_at),
            "nb_ids": len(audience.members),
        }
