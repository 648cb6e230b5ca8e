"""The documents of `docs/openapi`: what requests and answers of each API look like."""

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
#: How the suite calls the APIs, and which document tells of each.
DOCUMENTS = {
    "1.0": PLACE / "custom-audience-1.0.yaml",
    "1.1": PLACE / "custom-audience-1.1.yaml",
    "2.x": PLACE / "audience-2.x.yaml",
}
_METHODS = frozenset({"get", "put", "post", "patch", "delete"})
_WORD = re.compile(r"\{(\w+)\}")


@attrs.frozen(kw_only=True, eq=False)
class Operation:
    """One thing that can be asked for.

    Attributes:
        document: Where it is described.
        name: Batch's verb.
        method: The HTTP method.
        path: Its path, with `{words}`.
        described: What the document says.
        parameters: Those of its path and its own.
    """

    document: Document
    name: str
    method: str
    path: str
    described: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its paths look like."""
        return re.compile("[^/]+".join(map(re.escape, _WORD.split(self.path)[::2])))

    @property
    def statuses(self) -> Mapping[str, Mapping[str, Any]]:
        """What it answers, by status."""
        return {status: self.document.follow(one) for status, one in self.described["responses"].items()}

    @property
    def good(self) -> int:
        """The status of its success."""
        return next(int(status) for status in self.statuses if status.startswith("2"))

    def answer_schema(self, status: int) -> Any:
        """Return the schema of the JSON that it answers with *status*; None where that is no JSON."""
        content = self.statuses[str(status)].get("content", {})
        return content["application/json"]["schema"] if "application/json" in content else None

    def check_request(self, target: str, headers: Mapping[str, str], body: Any) -> None:
        """Fail unless a request is as the document wants it.

        Args:
            target: Its path and query, percent-encoded.
            headers: Its headers.
            body: What its JSON holds; None for no body.
        """
        path, _, query = target.partition("?")
        given = {"query": dict(parse_qsl(query, keep_blank_values=True)), "path": self._words(path)}
        for place, values in given.items():
            self._check_parameters(place, values)
        self._check_keys(headers)
        wanted = self.described.get("requestBody")
        assert (wanted is None) == (body is None)
        if wanted is not None:
            assert headers["Content-Type"] == "application/json"
            self.document.check(wanted["content"]["application/json"]["schema"], body)

    def _words(self, path: str) -> dict[str, str]:
        """Return what stands for the `{words}` of the path."""
        pattern = _WORD.sub(lambda match: f"(?P<{match[1]}>[^/]+)", self.path)
        match = re.fullmatch(pattern, path)
        assert match, f"{path} is no path of {self.name}"
        return {word: unquote(one) for word, one in match.groupdict().items()}

    def _check_parameters(self, place: str, values: Mapping[str, str]) -> None:
        """Check what stands in the path or in the query."""
        known = {one["name"]: one for one in self.parameters if one["in"] == place}
        assert values.keys() <= known.keys()
        assert {name for name, one in known.items() if one.get("required")} <= values.keys()
        for name, value in values.items():
            schema = self.document.follow(known[name]["schema"])
            self.document.check(schema, int(value) if schema["type"] == "integer" else value)

    def _check_keys(self, headers: Mapping[str, str]) -> None:
        """Check that the headers hold every key."""
        for name in (name for one in self.document.whole["security"] for name in one):
            scheme = self.document.whole["components"]["securitySchemes"][name]
            if scheme["type"] == "apiKey":
                assert headers[scheme["name"]]
            else:
                assert headers["Authorization"].startswith("Bearer ")

    def check_answer(self, status: int, content_type: str, body: Any) -> None:
        """Fail unless an answer is as the document says."""
        assert str(status) in self.statuses, f"{self.name} does not answer {status}"
        schema = self.answer_schema(status)
        assert content_type == ("application/json" if schema else "text/html")
        if schema is not None:
            self.document.check(schema, body)


@attrs.frozen(eq=False)
class Document:
    """What one API's document says.

    Attributes:
        whole: All of it.
    """

    whole: Mapping[str, Any] = attrs.field(repr=False)

    @classmethod
    def load(cls, label: str) -> Self:
        """Read the document of an API."""
        return cls(yaml.safe_load(DOCUMENTS[label].read_text(encoding="utf-8")))

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All that can be asked for."""
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
        """Return what a request asks for; fail where the document knows no such thing."""
        path = target.partition("?")[0]
        found = [
            one for one in self.operations if one.method == method and one.pattern.fullmatch(path) is not None
        ]
        assert len(found) == 1, f"{method} {path} is {len(found)} operations"
        return found[0]

    def follow(self, part: Mapping[str, Any]) -> Any:
        """Return what a part refers to, or the part itself."""
        while "$ref" in part:
            found: Any = self.whole
            for step in part["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            part = found
        return part

    def check(self, schema: Mapping[str, Any], value: Any) -> None:
        """Fail unless a value keeps a schema of this document."""
        rooted = {**schema, "components": self.whole["components"]}
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.Draft202012Validator(rooted, format_checker=checker).validate(value)

    def allows(self, schema: Mapping[str, Any], value: Any) -> bool:
        """Tell whether a value keeps a schema of this document."""
        try:
            self.check(schema, value)
        except jsonschema.ValidationError:
            return False
        return True
