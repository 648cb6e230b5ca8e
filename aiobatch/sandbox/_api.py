"""The part that all generations of the API share: dispatch, reading `ids`, and accepting a write."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

import orjson

from ._member_rows import check_refused_ids, read_changes, read_members
from ._options import SandboxOptions
from ._request_checks import ApiError, ApiResponse, malformed, name_taken, not_found, require
from ._routes import ApiCall
from ._store import AudienceStore, Effect, Namespace, Replace, StoredAudience, Update


class SandboxApi(abc.ABC):
    """Answers the calls of one generation of the API.

    Args:
        store: The audiences.
        namespaces: The apps by API key, or the projects by project key.
        options: The answers that Batch does not document, and IDs for which a write is refused.
    """

    accepted_status: ClassVar[int]

    def __init__(
        self,
        store: AudienceStore,
        namespaces: Mapping[str, Namespace],
        options: SandboxOptions,
    ) -> None:
        self._store = store
        self._namespaces = namespaces
        self._options = options
        self._operations: Final[Mapping[str, Callable[[Namespace, ApiCall], ApiResponse]]] = {
            "create": self._create,
            "replace": self._write,
            "update": self._write,
            "view": self._view,
            "list": self._list,
            "delete": self._delete,
        }

    def answer(self, call: ApiCall) -> ApiResponse:
        """Answer a call, or raise `ApiError`."""
        return self._operations[call.route.operation](self._authenticate(call), call)

    @abc.abstractmethod
    def _authenticate(self, call: ApiCall) -> Namespace: ...

    @abc.abstractmethod
    def _create(self, namespace: Namespace, call: ApiCall) -> ApiResponse: ...

    @abc.abstractmethod
    def _write(self, namespace: Namespace, call: ApiCall) -> ApiResponse:
        """Accept an update or a replace."""

    @abc.abstractmethod
    def _view(self, namespace: Namespace, call: ApiCall) -> ApiResponse: ...

    @abc.abstractmethod
    def _list(self, namespace: Namespace, call: ApiCall) -> ApiResponse: ...

    @abc.abstractmethod
    def _delete(self, namespace: Namespace, call: ApiCall) -> ApiResponse: ...

    def _read_effect(self, call: ApiCall, body: Mapping[str, Any], extras: frozenset[str]) -> Effect:
        """Read the `ids` of an update or a replace, whose rows may have *extras*."""
        rows = require(body, "ids")
        effect: Effect
        if call.route.operation == "replace":
            effect = Replace(members=read_members(rows, extras))
        else:
            effect = Update.of(read_changes(rows, extras))
        check_refused_ids(rows, self._options.refused_ids)
        return effect

    def _find_visible(self, namespace: Namespace, name: str) -> StoredAudience:
        """Return an audience whose creation is applied."""
        if (audience := namespace.visible.get(name)) is None:
            raise self._missing()
        return audience

    def _find_writable(self, namespace: Namespace, name: str) -> StoredAudience:
        """Return an audience that accepts writes: its creation may be in progress, its deletion may not."""
        audience = namespace.audiences.get(name)
        if audience is None or not audience.accepts_writes:
            raise self._missing()
        return audience

    def _missing(self) -> ApiError:
        error = not_found if self._options.missing_audience == 404 else malformed  # noqa: PLR2004 - HTTP's
        return error("The audience does not exist")

    def _check_free(self, namespace: Namespace, name: str) -> None:
        """Raise ApiError if the audience exists already."""
        if name in namespace.audiences and namespace.audiences[name].accepts_writes:
            error = malformed if self._options.taken_name == 400 else name_taken  # noqa: PLR2004 - HTTP's
            msg = "name is taken: an audience of this name exists"
            raise error(msg)

    def _submit(self, namespace: Namespace, name: str, effect: Effect, ids: int = 0) -> ApiResponse:
        write = self._store.submit(namespace, name, effect)
        body = orjson.dumps({"indexing_token": write.token})
        return ApiResponse(status=self.accepted_status, body=body, ids=ids)
