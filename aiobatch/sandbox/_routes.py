"""The routes of all versions: which operation a method and a path are (BATCH_API.md, "Routes")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import attrs

#: The operations by the client's names: `delete` is for a whole audience.
OPERATIONS: Final = ("create", "delete", "list", "replace", "update", "view")
#: The operation of a path or a method that no API has.
UNKNOWN: Final = "unknown"

_MEP = re.compile(r"/(1\.[01])/([^/]+)/custom-audience(?:/([^/]+))?")
# The pages end at 2.11, and later versions are in use. All have the same routes.
_CEP = re.compile(r"/(2\.(?:0|[1-9][0-9]{0,3}))/audiences/([a-z]+)")
_KEY = re.compile(r"^(/1\.\d+/)[^/]+")

#: 1.x: by the method, and by whether a name follows.
_MEP_OPERATIONS: Final[Mapping[tuple[str, bool], str]] = {
    ("POST", True): "create",
    ("PUT", True): "replace",
    ("PATCH", True): "update",
    ("GET", True): "view",
    ("DELETE", True): "delete",
    ("GET", False): "list",
}
#: 2.x: by the last part of the path. `remove` deletes the whole audience.
_CEP_OPERATIONS: Final[Mapping[tuple[str, str], str]] = {
    ("POST", "create"): "create",
    ("POST", "replace"): "replace",
    ("POST", "update"): "update",
    ("GET", "view"): "view",
    ("GET", "list"): "list",
    ("POST", "remove"): "delete",
}


@attrs.frozen(kw_only=True)
class Route:
    """The target of a request. Only the path of 1.x has `api_key` and `name`."""

    version: str
    operation: str
    api_key: str = attrs.field(default="", repr=False)
    name: str = ""

    @property
    def is_cep(self) -> bool:
        """Whether the path is one of 2.x, even of an unknown route."""
        return self.version.startswith("2.")


@attrs.frozen(kw_only=True)
class ApiCall:
    """A complete request to an API."""

    route: Route
    headers: Mapping[str, str] = attrs.field(repr=False)
    query: Mapping[str, str]
    content_type: str
    body: bytes = attrs.field(repr=False)


def find_route(method: str, raw_path: str) -> Route:
    """Return the route of a method and a percent-encoded path. An unknown one has the operation `unknown`."""
    if found := _MEP.fullmatch(raw_path):
        version, api_key, name = found.groups()
        operation = _MEP_OPERATIONS.get((method, name is not None), UNKNOWN)
        return Route(version=version, operation=operation, api_key=unquote(api_key), name=unquote(name or ""))
    if found := _CEP.fullmatch(raw_path):
        version, step = found.groups()
        return Route(version=version, operation=_CEP_OPERATIONS.get((method, step), UNKNOWN))
    return Route(version="2.x" if raw_path.startswith("/2.") else "1.x", operation=UNKNOWN)


def mask_key(raw_path: str) -> str:
    """Return the path with the API key of 1.x masked."""
    return _KEY.sub(r"\1***", raw_path)
