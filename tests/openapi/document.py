"""A reader of the OpenAPI documents in `docs/openapi`, and checks of requests and responses against them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote

import attrs
import jsonschema
import yaml

PLACE = Path(__file__).parents[2] / "docs" / "openapi"
#: The document of each API by its label.
DOCUMENTS = {
    "1.0": PLACE / "custom-audience-1.0.yaml",
    "1.1": PLACE / "custom-audience-1.1.yaml",
    "2.x": PLACE / "audience-2.x.yaml",
}
_METHODS = frozenset({"get", "put", "post", "patch", "delete"})
_PARAMETER = re.compile(r"\{(\w+)\}")


@attrs.frozen(kw_only=True, eq=False)
class Operation:
    """One operation of an API.

    Attributes:
        document: Its document.
        name: Batch's verb.
        method: The HTTP method.
        path: Its path, with `{parameters}`.
        described: Its part of the document.
        parameters: The parameters of its path and its own.
    """

    document: Document
    name: str
    method: str
    path: str
    described: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        """A pattern of its paths."""
        return re.compile("[^/]+".join(map(re.escape, _PARAMETER.split(self.path)[::2])))

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """Its responses by status."""
        return {status: self.document.follow(one) for status, one in self.described["responses"].items()}

    @property
    def good(self) -> int:
        """The status of success."""
        return next(int(status) for status in self.statuses if status.startswith("2"))

    def response_schema(self, status: int) -> Any:
        """Return the schema of the JSON response with *status*. None if that response is not JSON."""
        content = self.statuses[str(status)].get("content", {})
        return content["application/json"]["schema"] if "application/json" in content else None

    def check_request(self, target: str, headers: Mapping[str, str], body: Any) -> None:
        """Fail unless a request matches the document.

        Args:
            target: The percent-encoded path and query.
            headers: The headers.
            body: The decoded JSON. None for no body.
        """
        path, _, query = target.partition("?")
        given = {"query": dict(parse_qsl(query, keep_blank_values=True)), "path": self._path_parameters(path)}
        for place, values in given.items():
            self._check_parameters(place, values)
        self._check_keys(headers)
        wanted = self.described.get("requestBody")
        assert (wanted is None) == (body is None)
        if wanted is not None:
            assert headers["Content-Type"] == "application/json"
            self.document.check(wanted["content"]["application/json"]["schema"], body)

    def _path_parameters(self, path: str) -> dict[str, str]:
        """Return the path parameters."""
        pattern = _PARAMETER.sub(lambda match: f"(?P<{match[1]}>[^/]+)", self.path)
        match = re.fullmatch(pattern, path)
        assert match, f"{path} is no path of {self.name}"
        return {word: unquote(one) for word, one in match.groupdict().items()}

    def _check_parameters(self, place: str, values: Mapping[str, str]) -> None:
        """Check the parameters of the path or the query."""
        known = {one["name"]: one for one in self.parameters if one["in"] == place}
        assert values.keys() <= known.keys()
        assert {name for name, one in known.items() if one.get("required")} <= values.keys()
        for name, value in values.items():
            schema = self.document.follow(known[name]["schema"])
            self.document.check(schema, int(value) if schema["type"] == "integer" else value)

    def _check_keys(self, headers: Mapping[str, str]) -> None:
        """Check that the headers have every key."""
        for name in (name for one in self.document.whole["security"] for name in one):
            scheme = self.document.whole["components"]["securitySchemes"][name]
            if scheme["type"] == "apiKey":
                assert headers[scheme["name"]]
            else:
                assert headers["Authorization"].startswith("Bearer ")

    def check_response(self, status: int, content_type: str, body: Any) -> None:
        """Fail unless a response matches the document."""
        assert str(status) in self.statuses, f"{self.name} has no response {status}"
        schema = self.response_schema(status)
        assert content_type == ("application/json" if schema else "text/html")
        if schema is not None:
            self.document.check(schema, body)


@attrs.frozen(eq=False)
class Document:
    """The OpenAPI document of one API.

    Attributes:
        whole: The whole document.
    """

    whole: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def load(cls, label: str) -> Self:
        """Read the document of an API."""
        return cls(yaml.safe_load(DOCUMENTS[label].read_text(encoding="utf-8")))

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations."""
        return tuple(
            Operation(
                document=self,
                name=one["operationId"],
                method=method.upper(),
                path=path,
                described=one,
                parameters=tuple(map(self.follow, [*item.get("parameters", ()), *one.get("parameters", ())])),
            )
            for path, item in self.whole["paths"].items()
            for method, one in item.items()
            if method in _METHODS
        )

    def find(self, method: str, target: str) -> Operation:
        """Return the operation of a request. Fail if the document has none."""
        path = target.partition("?")[0]
        found = [
            one for one in self.operations if one.method == method and one.pattern.fullmatch(path) is not None
        ]
        assert len(found) == 1, f"{method} {path} is {len(found)} operations"
        return found[0]

    def follow(self, part: Mapping[str, Any]) -> Any:
        """Return *part*, or the target of its `$ref`."""
        while "$ref" in part:
            found: Any = self.whole
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def check(self, schema: Mapping[str, Any], value: Any) -> None:
        """Fail unless a value matches a schema of this document."""
        rooted = {**schema, "components": self.whole["components"]}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(rooted, format_checker=checker).validate(value)

    def allows(self, schema: Mapping[str, Any], value: Any) -> bool:
        """Return whether a value matches a schema of this document."""
        try:
            self.check(schema, value)
        except jsonschema.ValidationError:
            return False
        return True
