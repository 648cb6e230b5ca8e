"""The Audience API 2.x: the same routes in every version, so the version's number decides nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from itertools import dropwhile, islice
from math import inf
from typing import Any, Final

import orjson

from ._member_rows import check_refused_ids, read_changes, read_members
from ._options import REST_API_KEY
from ._request_checks import (
    MAX_PAGE,
    ApiResponse,
    api_misuse,
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
from ._store import (
    AcceptedWrite,
    AudienceStore,
    Create,
    Delete,
    Effect,
    Namespace,
    Replace,
    StoredAudience,
    Update,
)

_EXTRAS: Final = frozenset({"attributes"})


class AudienceApi:
    """Answer calls of 2.x: every write is applied some time after its answer, creating and deleting too."""

    def __init__(
        self,
        store: AudienceStore,
        projects: Mapping[str, Namespace],
        refused_ids: AbstractSet[str] = frozenset(),
    ) -> None:
        self._store = store
        self._refused_ids = refused_ids
        self._projects = projects
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
        return self._operations[call.route.operation](self._authenticate(call.headers), call)

    def _authenticate(self, headers: Mapping[str, str]) -> Namespace:
        """Find the project.

        Which error answers an unknown project is not documented: the REST key is valid, but not for this
        project, so API_MISUSE.
        """
        if headers.get("Authorization") != f"Bearer {REST_API_KEY}":
            msg = "The REST API key is missing or invalid"
            raise authentication_invalid(msg)
        if "X-Batch-Project" not in headers:
            msg = "The header X-Batch-Project is missing"
            raise authentication_invalid(msg)
        project = self._projects.get(headers["X-Batch-Project"])
        if project is None:
            msg = "The project is not one of this REST API key's"
            raise api_misuse(msg)
        return project

    def _create(self, project: Namespace, call: ApiCall) -> ApiResponse:
        """Create after a while.

        Whether a view finds the audience before that is not documented; here it does not, the harder case.
        """
        body, name = _read_named(call, "type", "display_name")
        effect = Create(id_type=read_type(body, ("custom_ids",)), label=read_text(body, "display_name"))
        check_free(project, name)
        return self._submit(project, name, effect)

    def _replace(self, project: Namespace, call: ApiCall) -> ApiResponse:
        body, name = _read_named(call, "ids")
        effect = Replace(members=read_members(require(body, "ids"), _EXTRAS))
        check_refused_ids(body["ids"], self._refused_ids)
        find_writable(project, name)
        return self._submit(project, name, effect, len(body["ids"]))

    def _update(self, project: Namespace, call: ApiCall) -> ApiResponse:
        body, name = _read_named(call, "ids")
        effect = Update.of(read_changes(require(body, "ids"), _EXTRAS))
        check_refused_ids(body["ids"], self._refused_ids)
        find_writable(project, name)
        return self._submit(project, name, effect, len(body["ids"]))

    def _view(self, project: Namespace, call: ApiCall) -> ApiResponse:
        query = read_query(call.query, frozenset({"name", "indexing_token"}))
        audience = find_visible(project, read_name(require(query, "name")))
        row = self._row(audience, requested_write(project, audience, query))
        return ApiResponse(status=200, body=orjson.dumps(row))

    def _list(self, project: Namespace, call: ApiCall) -> ApiResponse:
        """List newest first, from a cursor that stands whatever is created meanwhile."""
        query = read_query(call.query, frozenset({"from", "limit"}))
        limit = read_count(query, "limit", 10, (1, MAX_PAGE))
        last_rank = _read_cursor(query["from"]) if "from" in query else inf
        rest = dropwhile(lambda row: row.rank >= last_rank, reversed(project.visible.values()))
        page = list(islice(rest, limit + 1))
        answer: dict[str, Any] = {
            "audiences": [self._row(row, requested_write(project, row, {})) for row in page[:limit]],
            "has_more": len(page) > limit,
        }
        if len(page) > limit:
            answer["next_from"] = _write_cursor(page[limit - 1].rank)
        if "from" not in query:
            answer["count"] = len(project.visible)
        return ApiResponse(status=200, body=orjson.dumps(answer))

    def _delete(self, project: Namespace, call: ApiCall) -> ApiResponse:
        _, name = _read_named(call)
        find_writable(project, name)
        return self._submit(project, name, Delete())

    def _submit(self, project: Namespace, name: str, effect: Effect, ids: int = 0) -> ApiResponse:
        operation = self._store.submit(project, name, effect)
        return ApiResponse(status=202, body=orjson.dumps({"indexing_token": operation.token}), ids=ids)

    def _row(self, audience: StoredAudience, operation: AcceptedWrite) -> dict[str, Any]:
        return {
            "name": audience.name,
            "display_name": audience.label,
            "type": "CUSTOM_ID",
            "created": f"{self._store.format_time(audience.created_at)}Z",
            "updated": f"{self._store.format_time(audience.updated_at)}Z",
            "nb_ids": len(audience.members),
            "indexing_state": operation.state,
        }


def _read_named(call: ApiCall, *parameters: str) -> tuple[dict[str, Any], str]:
    """Read a body and the name of its audience."""
    body = read_body(call.content_type, call.body, frozenset({"name", *parameters}))
    return body, read_name(require(body, "name"))


def _write_cursor(rank: int) -> str:
    return base64.urlsafe_b64encode(f"after:{rank}".encode()).decode()


def _read_cursor(cursor: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("after:"))
    except ValueError:
        msg = "from is not a cursor of this list"
        raise malformed(msg) from None
