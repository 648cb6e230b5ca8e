from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.errors import ResponseError
from aiobatch.interfaces import Request, Response

from ..contract.stage import TARGETS
from ..helpers.sweep import examples
from .dialect_requests import any_request
from .document import Document, Operation
from .schema_values import schema_values


def test_any_request_matches_the_document(label: str, document: Document) -> None:
    """The path, query, headers and body of any request that a dialect builds match the document."""
    dialect = dialect_for(TARGETS[label])

    @settings(max_examples=examples(80, 300))
    @given(any_request(label, dialect))
    def check(request: Request) -> None:
        operation = document.find(request.method, request.target)
        assert operation.name == request.operation
        body = orjson.loads(request.body) if request.body else None
        operation.check_request(request.target, request.headers, body)

    check()


def _request(dialect: Dialect, operation: Operation) -> tuple[Request, Callable[[Request, Response], object]]:
    """Return a request for an operation, and the reader of its response."""
    built = {
        "create": dialect.build_create("vip"),
        "update": dialect.build_update("vip", ["a"], []),
        "replace": dialect.build_replace("vip", ["a"]),
        "delete": dialect.build_delete("vip"),
        "view": dialect.build_view("vip"),
        "list": dialect.build_list(),
    }
    readers = {"view": dialect.read_view, "list": dialect.read_list}
    return built[operation.name], readers.get(operation.name, dialect.read_token)


def test_any_documented_response_is_read(label: str, document: Document) -> None:
    """A dialect reads every success that the document allows, and raises every error."""
    dialect = dialect_for(TARGETS[label])
    for operation in document.operations:
        request, read = _request(dialect, operation)
        for status in map(int, operation.statuses):
            schema = operation.response_schema(status)
            bodies = (
                st.binary(max_size=40)
                if schema is None
                else schema_values(document, schema).map(orjson.dumps)
            )
            _check_reader(request, read, status, bodies)


def _check_reader(
    request: Request, read: Callable[..., object], status: int, bodies: st.SearchStrategy[bytes]
) -> None:
    """Read any of *bodies*."""

    @settings(max_examples=examples(5, 25))
    @given(bodies)
    def check(body: bytes) -> None:
        response = Response(status=status, headers={"retry-after": "3"}, body=body)
        asked = request
        if request.operation == "view" and status < 300:  # the document cannot relate it to the request
            asked = attrs.evolve(request, audience=orjson.loads(body)["name"])
        try:
            read(asked, response)
        except ResponseError as error:
            raised = error
        else:
            assert status < 300
            return
        assert raised.status == status >= 400

    check()


def test_generated_responses_match_the_document(label: str, document: Document) -> None:
    """The generated responses match the document's schemas."""
    for operation in document.operations:
        for status in map(int, operation.statuses):
            schema = operation.response_schema(status)
            if schema is not None:
                _check_generator(document, schema)


def _check_generator(document: Document, schema: Any) -> None:
    @settings(max_examples=examples(3, 10))
    @given(schema_values(document, schema))
    def check(value: Any) -> None:
        document.check(schema, value)

    check()
