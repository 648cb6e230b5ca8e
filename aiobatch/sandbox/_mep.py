"""The Custom Audience API 1.0 and 1.1."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from math import inf
from typing import Any, ClassVar, Final

import attrs
import orjson

from ._api import SandboxApi
from ._options import REST_API_KEY
from ._request_checks import (
    MAX_PAGE,
    ApiResponse,
    authentication_invalid,
    check_known,
    malformed,
    read_body,
    read_integer,
    read_name,
    read_text,
    read_type,
    requested_write,
)
from ._routes import ApiCall
from ._store import Create, Delete, Namespace, StoredAudience


@attrs.frozen(kw_only=True)
class _VersionRules:
    """The differences between 1.0 and 1.1.

    Attributes:
        types: Types of IDs.
        parameters: Fields of the body of an update or a replace.
        extras: Fields of a row besides its ID and action.
    """

    types: tuple[str, ...]
    parameters: frozenset[str]
    extras: frozenset[str]


_VERSIONS: Final[Mapping[str, _VersionRules]] = {
    # https://doc.batch.com/developer/api/mep/custom-audience/1.0/update
    "1.0": _VersionRules(
        types=("custom_ids", "advertising_ids"),
        parameters=frozenset({"ids", "type"}),
        extras=frozenset(),
    ),
    # https://doc.batch.com/developer/api/mep/custom-audience/1.1/update
    "1.1": _VersionRules(
        types=("install_ids",),
        parameters=frozenset({"ids"}),
        extras=frozenset({"attributes", "tags"}),
    ),
}


#: "HTTP 200 confirmation" on the page, with an empty object on an older one.
_DELETED: Final[Mapping[str, bytes]] = {"empty": b"{}", "object": b'{"message":"deleted"}', "nothing": b""}


class MepSandbox(SandboxApi):
    """The API 1.x: each API key is an app with audiences of its own, shared by both versions."""

    accepted_status: ClassVar = 200

    def _authenticate(self, call: ApiCall) -> Namespace:
        if call.headers.get("X-Authorization") != REST_API_KEY:
            msg = "The REST API key is missing or invalid"
            raise authentication_invalid(msg)
        app = self._namespaces.get(call.route.api_key)
        if app is None:
            msg = "The API key is invalid"
            raise authentication_invalid(msg)
        if call.route.operation != "list":
            read_name(call.route.name)
        return app

    def _create(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """Create at once, because 1.x has no token for it."""
        body = read_body(call.content_type, call.body, frozenset({"type", "description"}))
        id_type = read_type(body, _VERSIONS[call.route.version].types)
        create = Create(id_type=id_type, description=read_text(body, "description"))
        self._check_free(namespace, call.route.name)
        self._store.apply_now(namespace, call.route.name, create)
        return ApiResponse(status=200, body=b"{}")

    def _write(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        version = _VERSIONS[call.route.version]
        body = read_body(call.content_type, call.body, version.parameters)
        types = (read_type(body, version.types),) if "type" in version.parameters else version.types
        audience = self._find_writable(namespace, call.route.name)
        if audience.id_type not in types:
            msg = f"type does not match the audience, whose type is {audience.id_type}"
            raise malformed(msg)
        effect = self._read_effect(call, body, version.extras)
        return self._submit(namespace, call.route.name, effect, len(body["ids"]))

    def _view(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        check_known(call.query, frozenset({"indexing_token"}))
        audience = self._find_visible(namespace, call.route.name)
        state = requested_write(namespace, audience, call.query).state
        return ApiResponse(status=200, body=orjson.dumps({**self._row(audience), "indexing_state": state}))

    def _list(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """List the newest first, from an offset."""
        check_known(call.query, frozenset({"from", "limit"}))
        offset = read_integer(call.query, "from", 0, (0, inf))
        limit = read_integer(call.query, "limit", 10, (1, MAX_PAGE))
        page = islice(reversed(namespace.visible.values()), offset, offset + limit)
        rows = [self._row(audience) for audience in page]
        return ApiResponse(status=200, body=orjson.dumps({"custom_audiences": rows}))

    def _delete(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """Delete at once, because the page shows no token."""
        self._find_visible(namespace, call.route.name)
        self._store.apply_now(namespace, call.route.name, Delete())
        return ApiResponse(status=200, body=_DELETED[self._options.delete_answer])

    def _row(self, audience: StoredAudience) -> dict[str, Any]:
        return {
            "name": audience.name,
            "type": audience.id_type,
            "description": audience.description,
            "created": self._store.format_time(audience.created_at),
            "updated": self._store.format_time(audience.updated_at),
            "nb_ids": len(audience.members),
        }
