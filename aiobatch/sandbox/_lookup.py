"""Finding what a request names, or refusing it."""

from __future__ import annotations

from collections.abc import Mapping

from ._request_checks import malformed, not_found
from ._store import Audience, Namespace, Operation


def existing(namespace: Namespace, name: str) -> Audience:
    """Return an audience whose creation is applied."""
    if (audience := namespace.visible.get(name)) is None:
        msg = "The audience does not exist"
        raise not_found(msg)
    return audience


def writable(namespace: Namespace, name: str) -> Audience:
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


def asked_operation(namespace: Namespace, audience: Audience, query: Mapping[str, str]) -> Operation:
    """Return the operation of the token in a query, or the audience's last one."""
    if "indexing_token" not in query:
        return audience.last
    operation = namespace.operations.get(query["indexing_token"])
    if operation is None or operation.audience is not audience:
        msg = "indexing_token is not one of this audience's"
        raise malformed(msg)
    return operation
