"""The Audience API 2.x, whose versions all have the same routes."""

from __future__ import annotations

import base64
from itertools import dropwhile, islice
from math import inf
from typing import Any, ClassVar, Final

import orjson

from ._api import SandboxApi
from ._options import REST_API_KEY
from ._request_checks import (
    MAX_PAGE,
    ApiResponse,
    api_misuse,
    authentication_invalid,
    check_known,
    malformed,
    read_body,
    read_integer,
    read_name,
    read_text,
    read_type,
    requested_write,
    require,
)
from ._routes import ApiCall
from ._store import AcceptedWrite, Create, Delete, Namespace, StoredAudience

_EXTRAS: Final = frozenset({"attributes"})
#: Types of IDs in requests and in answers. The pages name the first, and the others are inferred from it.
_TYPES: Final = {"custom_ids": "CUSTOM_ID", "emails": "EMAIL", "install_ids": "INSTALL_ID"}


class CepSandbox(SandboxApi):
    """The API 2.x: every write is applied some time after its response, also create and delete."""

    accepted_status: ClassVar = 202

    def _authenticate(self, call: ApiCall) -> Namespace:
        """Return the project. For an unknown one the pages document 401, "not valid for this project"."""
        if call.headers.get("Authorization") != f"Bearer {REST_API_KEY}":
            msg = "The REST API key is missing or invalid"
            raise authentication_invalid(msg)
        if "X-Batch-Project" not in call.headers:
            msg = "The header X-Batch-Project is missing"
            raise authentication_invalid(msg)
        project = self._namespaces.get(call.headers["X-Batch-Project"])
        if project is None:
            msg = "The REST API key is not valid for this project"
            error = authentication_invalid if self._options.unknown_project == 401 else api_misuse  # noqa: PLR2004 - HTTP's
            raise error(msg)
        return project

    def _create(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """Create after the indexing delay.

        Whether a view finds the audience earlier is not documented. Here it does not, the harder case.
        """
        body, name = _read_named(call, "type", "display_name")
        create = Create(id_type=read_type(body, tuple(_TYPES)), description=read_text(body, "display_name"))
        self._check_free(namespace, name)
        return self._submit(namespace, name, create)

    def _write(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        body, name = _read_named(call, "ids")
        effect = self._read_effect(call, body, _EXTRAS)
        self._find_writable(namespace, name)
        return self._submit(namespace, name, effect, len(body["ids"]))

    def _view(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        check_known(call.query, frozenset({"name", "indexing_token"}))
        audience = self._find_visible(namespace, read_name(require(call.query, "name")))
        row = self._row(audience, requested_write(namespace, audience, call.query))
        return ApiResponse(status=200, body=orjson.dumps(row))

    def _list(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """List the newest first, from a cursor that stays valid when audiences are created meanwhile."""
        check_known(call.query, frozenset({"from", "limit"}))
        limit = read_integer(call.query, "limit", 10, (1, MAX_PAGE))
        last_rank = _read_cursor(call.query["from"]) if "from" in call.query else inf
        rest = dropwhile(lambda row: row.rank >= last_rank, reversed(namespace.visible.values()))
        page = list(islice(rest, limit + 1))
        answer: dict[str, Any] = {
            "audiences": [self._row(row, row.last_write) for row in page[:limit]],
            "has_more": len(page) > limit,
        }
        if len(page) > limit:
            answer["next_from"] = _write_cursor(page[limit - 1].rank)
        if "from" not in call.query:
            answer["count"] = len(namespace.visible)
        return ApiResponse(status=200, body=orjson.dumps(answer))

    def _delete(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        _, name = _read_named(call)
        self._find_writable(namespace, name)
        return self._submit(namespace, name, Delete())

    def _row(self, audience: StoredAudience, write: AcceptedWrite) -> dict[str, Any]:
        return {
            "name": audience.name,
            "display_name": audience.description,
            "type": _TYPES[audience.id_type],
            "created": f"{self._store.format_time(audience.created_at)}Z",
            "updated": f"{self._store.format_time(audience.updated_at)}Z",
            "nb_ids": len(audience.members),
            "indexing_state": write.state,
        }


def _read_named(call: ApiCall, *parameters: str) -> tuple[dict[str, Any], str]:
    """Return a body and the name of its audience."""
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
