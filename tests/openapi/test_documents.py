from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import openapi_spec_validator

from aiobatch.models import MAX_ATTRIBUTES, MAX_IDS

from .document import Document

_MARK = re.compile(r"\[(doc|3rd|inf)\]")
_ERRORS = {
    "400": {30: "MISSING_PARAMETER", 31: "MALFORMED_PARAMETER", 32: "MALFORMED_JSON_BODY"},
    "401": {10: "AUTHENTICATION_INVALID"},
    "403": {12: "API_MISUSE"},
    "404": {20: "ROUTE_NOT_FOUND"},
    "500": {1: "SERVER_ERROR"},
    "503": {2: "MAINTENANCE_ERROR"},
}
# Errors without a documented body.
_OTHERS = {"429", "502", "504"}


def _texts(part: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every description with its place."""
    if isinstance(part, dict):
        for key, one in part.items():
            if key in {"description", "summary"} and isinstance(one, str):
                yield f"{place}.{key}", one
            yield from _texts(one, f"{place}.{key}")
    elif isinstance(part, list):
        for number, one in enumerate(part):
            yield from _texts(one, f"{place}[{number}]")


def test_every_rule_has_a_source_mark(document: Document) -> None:
    """Each text of a document is marked as documented, claimed or inferred."""
    unmarked = [place for place, text in _texts(document.whole) if _MARK.search(text) is None]
    assert unmarked == []


def _routes(label: str) -> dict[str, tuple[str, str, int]]:
    """Return method, path and success status of each operation, as on Batch's pages."""
    if label == "2.x":
        base = "/{version}/audiences"
        return {
            "create": ("POST", f"{base}/create", 202),
            "replace": ("POST", f"{base}/replace", 202),
            "update": ("POST", f"{base}/update", 202),
            "view": ("GET", f"{base}/view", 200),
            "list": ("GET", f"{base}/list", 200),
            "delete": ("POST", f"{base}/remove", 202),
        }
    base = f"/{label}/{{api_key}}/custom-audience"
    methods = {"create": "POST", "replace": "PUT", "update": "PATCH", "view": "GET", "delete": "DELETE"}
    routes = {name: (method, f"{base}/{{name}}", 200) for name, method in methods.items()}
    return routes | {"list": ("GET", base, 200)}


def test_document_is_valid_openapi(document: Document) -> None:
    """A validator of OpenAPI 3.1 accepts each document."""
    openapi_spec_validator.validate(document.whole)


def test_document_has_all_operations(label: str, document: Document) -> None:
    """A document has the six operations with their paths, one success and every error."""
    described = {one.name: (one.method, one.path, one.good) for one in document.operations}
    assert described == _routes(label)
    assert len(document.operations) == len(described)
    for operation in document.operations:
        errors = {*_ERRORS, *_OTHERS} - ({"404"} if operation.name in {"create", "list"} else set())
        assert operation.statuses.keys() == {str(operation.good)} | errors


def test_errors_have_the_codes_of_their_status(label: str, document: Document) -> None:
    """The body of an error has a code of its status and no other."""
    for operation in document.operations:
        for status in operation.statuses.keys() & _ERRORS.keys():
            schema = operation.response_schema(int(status))
            allowed = {code for code in range(100) if document.allows(schema, _error(label, code))}
            assert allowed == _ERRORS[status].keys()


def _error(label: str, code: int) -> dict[str, Any]:
    """Return the body of an error. 2.x has names instead of codes."""
    if label == "2.x":
        names = {code: name for codes in _ERRORS.values() for code, name in codes.items()}
        return {"error_code": names.get(code, "ANOTHER"), "error_message": "m"}
    return {"code": code, "message": "m"}


def test_states_are_the_documented_ones(label: str, document: Document) -> None:
    """All documented states are listed. One page of each API writes IN_PROCESS."""
    named, _ = document.whole["components"]["schemas"]["IndexingState"]["anyOf"]
    replaced = {"REPLACED"} if label == "2.x" else set()
    assert set(named["enum"]) == {"IN_PROGRESS", "IN_PROCESS", "APPLIED"} | replaced


def test_versions_are_the_known_ones(label: str, document: Document) -> None:
    """2.x is 2.1 to 2.11, and 1.0 and 1.1 are two documents."""
    if label == "2.x":
        schema = document.whole["components"]["parameters"]["version"]["schema"]
        seen = [f"2.{number}" for number in range(20) if document.allows(schema, f"2.{number}")]
        assert seen == [f"2.{number}" for number in range(1, 12)]
    assert document.whole["info"]["version"] == ("2.11" if label == "2.x" else label)


def test_keys_are_in_their_headers(label: str, document: Document) -> None:
    """Each API has its keys in the documented headers."""
    schemes = document.whole["components"]["securitySchemes"].values()
    headers = {one.get("name", "Authorization") for one in schemes}
    assert headers == ({"Authorization", "X-Batch-Project"} if label == "2.x" else {"X-Authorization"})
    assert document.whole["servers"] == [{"url": "https://api.batch.com"}]


def test_schemas_are_valid(document: Document) -> None:
    """Each schema is valid JSON Schema 2020-12, which OpenAPI 3.1 uses."""
    for schema in document.whole["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_limits_equal_those_of_the_client(document: Document) -> None:
    """The document and the client have the same limits of a request."""
    schemas = document.whole["components"]["schemas"]
    for name in ("Update", "Replace"):
        assert schemas[name]["properties"]["ids"]["maxItems"] == MAX_IDS
    assert schemas.get("Attributes", {}).get("maxProperties", MAX_ATTRIBUTES) == MAX_ATTRIBUTES
