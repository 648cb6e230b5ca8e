from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema

from aiobatch.models import MAX_ATTRIBUTES, MAX_IDS

from .document import Document

_MARK = re.compile(r"\[(doc|3rd|inf)\]")
_OPERATIONS = {"create", "replace", "update", "view", "list", "delete"}


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


def test_every_operation_is_described(document: Document) -> None:
    """A document tells of the six operations, each with one success and the errors that any may end in."""
    assert {one.name for one in document.operations} == _OPERATIONS
    assert len(document.operations) == len(_OPERATIONS)
    for operation in document.operations:
        assert {"400", "401", "403", "429", "500", "502", "503", "504"} < operation.statuses.keys()
        assert sum(status.startswith("2") for status in operation.statuses) == 1
        assert ("404" in operation.statuses) == (operation.name not in {"create", "list"})


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
