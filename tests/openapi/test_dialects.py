from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch._http import Request, Response
from aiobatch.dialects import Dialect, dialect_for
from aiobatch.errors import ResponseError

from ..contract.stage import TARGETS
from .schema_values import anything
from .dialect_requests import any_request
from .document import Document, Operation


def test_any_request_is_as_documented(label: str, document: Document) -> None:
    """Whatever a dialect is asked to build has a path, a query, headers and a body as the document wants."""
    dialect = dialect_for(TARGETS[label])

    @settings(max_examples=300)
    @given(any_request(label, dialect))
    def check(request: Request) -> None:
        operation = document.find(request.method, request.target)
        assert operation.name == request.operation
        body = orjson.loads(request.body) if request.body else None
        operation.check_request(request.target, request.headers, body)

    check()


def _request(dialect: Dialect, operation: Operation) -> tuple[Request, Callable[[Request, Response], object]]:
    """Return a request for an operation, and what reads its answer."""
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


def test_any_documented_answer_is_read(label: str, document: Document) -> None:
    """Whatever a success may answer, a dialect reads; whatever an error may, it raises as that error."""
    dialect = dialect_for(TARGETS[label])
    for operation in document.operations:
        request, read = _request(dialect, operation)
        for status in map(int, operation.statuses):
            schema = operation.answer_schema(status)
            bodies = (
                st.binary(max_size=40) if schema is None else anything(document, schema).map(orjson.dumps)
            )
            _check_reading(request, read, status, bodies)


def _check_reading(
    request: Request, read: Callable[..., object], status: int, bodies: st.SearchStrategy[bytes]
) -> None:
    """Read any of *bodies*."""

    @settings(max_examples=25)
    @given(bodies)
    def check(body: bytes) -> None:
        response = Response(status=status, headers={"retry-after": "3"}, body=body)
        try:
            read(request, response)
        except ResponseError as error:
            raised = error
        else:
            assert status < 300
            return
        assert raised.status == status >= 400

    check()


def test_generated_answers_are_allowed(label: str, document: Document) -> None:
    """What these tests take for a documented answer is one by the document's own schema."""
    for operation in document.operations:
        for status in map(int, operation.statuses):
            schema = operation.answer_schema(status)
            if schema is not None:
                _check_generator(document, schema)


def _check_generator(document: Document, schema: Any) -> None:
    @settings(max_examples=10)
    @given(anything(document, schema))
    def check(value: Any) -> None:
        document.check(schema, value)

    check()
