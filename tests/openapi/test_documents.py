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
# Without a body, or one that nobody tells of.
_OTHERS = {"429", "502", "504"}


def _texts(part: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text that says a rule, with its place."""
    if isinstance(part, dict):
        for key, one in part.items():
            if key in {"description", "summary"} and isinstance(one, str):
                yield f"{place}.{key}", one
            yield from _texts(one, f"{place}.{key}")
    elif isinstance(part, list):
        for number, one in enumerate(part):
            yield from _texts(one, f"{place}[{number}]")


def test_every_rule_says_where_it_comes_from(document: Document) -> None:
    """Each text of a document bears the mark of its source: documented, claimed, or inferred."""
    unmarked = [place for place, text in _texts(document.whole) if _MARK.search(text) is None]
    assert unmarked == []


def _routes(label: str) -> dict[str, tuple[str, str, int]]:
    """Say what the vendor's pages say, apart from dialects and sandbox: method, path, success."""
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


def test_a_document_is_valid(document: Document) -> None:
    """Whoever reads OpenAPI 3.1 can read it: a validator of another house has nothing to say."""
    openapi_spec_validator.validate(document.whole)


def test_every_operation_is_described(label: str, document: Document) -> None:
    """A document tells of the six operations, where they are, of one success each and of every error."""
    told = {one.name: (one.method, one.path, one.good) for one in document.operations}
    assert told == _routes(label)
    assert len(document.operations) == len(told)
    for operation in document.operations:
        errors = {*_ERRORS, *_OTHERS} - ({"404"} if operation.name in {"create", "list"} else set())
        assert operation.statuses.keys() == {str(operation.good)} | errors


def test_every_error_has_its_numbers_and_names(label: str, document: Document) -> None:
    """The body of an error holds a code that belongs to its status, and to no other."""
    for operation in document.operations:
        for status in operation.statuses.keys() & _ERRORS.keys():
            schema = operation.answer_schema(int(status))
            allowed = {code for code in range(100) if document.allows(schema, _error(label, code))}
            assert allowed == _ERRORS[status].keys()


def _error(label: str, code: int) -> dict[str, Any]:
    """Return the body of an error; 2.x has names in place of numbers."""
    if label == "2.x":
        names = {code: name for codes in _ERRORS.values() for code, name in codes.items()}
        return {"error_code": names.get(code, "ANOTHER"), "error_message": "m"}
    return {"code": code, "message": "m"}


def test_states_are_those_that_pages_name(label: str, document: Document) -> None:
    """What an update's state can be is listed; one page of each API writes IN_PROCESS."""
    named, _ = document.whole["components"]["schemas"]["IndexingState"]["anyOf"]
    replaced = {"REPLACED"} if label == "2.x" else set()
    assert set(named["enum"]) == {"IN_PROGRESS", "IN_PROCESS", "APPLIED"} | replaced


def test_versions_are_those_that_were_seen(label: str, document: Document) -> None:
    """2.x is 2.1 to 2.11, of which the client asks for the last one; 1.x are two documents."""
    if label == "2.x":
        schema = document.whole["components"]["parameters"]["version"]["schema"]
        seen = [f"2.{number}" for number in range(20) if document.allows(schema, f"2.{number}")]
        assert seen == [f"2.{number}" for number in range(1, 12)]
    assert document.whole["info"]["version"] == ("2.11" if label == "2.x" else label)


def test_keys_are_in_their_headers(label: str, document: Document) -> None:
    """The keys are where the vendor wants them."""
    schemes = document.whole["components"]["securitySchemes"].values()
    headers = {one.get("name", "Authorization") for one in schemes}
    assert headers == ({"Authorization", "X-Batch-Project"} if label == "2.x" else {"X-Authorization"})
    assert document.whole["servers"] == [{"url": "https://api.batch.com"}]


def test_every_schema_is_one(document: Document) -> None:
    """Each schema is sound by the rules of JSON Schema 2020-12, which OpenAPI 3.1 uses."""
    for schema in document.whole["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_limits_are_those_of_the_client(document: Document) -> None:
    """What a request can hold is the same in the document and in the client."""
    schemas = document.whole["components"]["schemas"]
    for name in ("Update", "Replace"):
        assert schemas[name]["properties"]["ids"]["maxItems"] == MAX_IDS
    assert schemas.get("Attributes", {}).get("maxProperties", MAX_ATTRIBUTES) == MAX_ATTRIBUTES
