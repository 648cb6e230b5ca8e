from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from aiobatch import IdType, Member
from aiobatch._messages import Request, Response
from aiobatch.dialects import Dialect, dialect_for
from aiobatch.errors import ResponseError

from ..contract.stage import TARGETS
from .anything import anything
from .document import Document, Operation

_NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,255}", fullmatch=True)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_IDS = _TEXTS.filter(lambda text: text != "" and "\0" not in text)
_TOKENS = st.from_regex(r"[!-~]{1,40}", fullmatch=True)
_SCALARS = _TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(-1e300, 1e300)
# The document has parentheses in an attribute's name only where they type it.
_WORDS = st.from_regex(r"[^()\0]{1,10}", fullmatch=True).filter(lambda text: text.strip() != "")
_MOMENTS = st.datetimes(min_value=dt.datetime(1900, 1, 2), timezones=st.just(dt.UTC))  # noqa: DTZ001 - in UTC
_ATTRIBUTES = st.dictionaries(
    _WORDS, _SCALARS | st.lists(_SCALARS, max_size=3), max_size=5
) | st.dictionaries(_WORDS.map("date({})".format), _MOMENTS, max_size=2)


def _members(label: str) -> st.SearchStrategy[Any]:
    """Return ids, and Members with what the API takes."""
    if label == "1.0":
        return _IDS | st.builds(Member, _IDS)
    tags = st.lists(_IDS, max_size=3) if label == "1.1" else st.just(())
    return _IDS | st.builds(Member, _IDS, attributes=_ATTRIBUTES, tags=tags)


def _requests(label: str, dialect: Dialect) -> st.SearchStrategy[Request]:
    """Return any request that a dialect builds."""
    members = st.lists(_members(label), min_size=1, max_size=4)
    types = st.sampled_from([None, *([IdType.ADVERTISING_IDS] if label == "1.0" else [])])
    cursors = st.integers(0, 10**9).map(str) if label != "2.x" else _IDS
    return st.one_of(
        st.builds(dialect.build_create, _NAMES, id_type=types, description=st.none() | _TEXTS),
        st.builds(dialect.build_view, _NAMES, st.none() | _TOKENS),
        st.builds(dialect.build_list, st.none() | cursors, limit=st.integers(1, 100)),
        st.builds(_update(dialect), _NAMES, members, st.lists(_IDS, max_size=3), types),
        st.builds(dialect.build_replace, _NAMES, members, id_type=types),
        st.builds(dialect.build_delete, _NAMES),
    )


def _update(dialect: Dialect) -> Callable[..., Request]:
    """Return what builds an update whose ids to remove are none of those to add."""

    def update(name: str, add: list[str | Member], remove: list[str], id_type: IdType | None) -> Request:
        added = {one if isinstance(one, str) else one.id for one in add}
        return dialect.build_update(name, add, [one for one in remove if one not in added], id_type=id_type)

    return update


def test_any_request_is_as_documented(label: str, document: Document) -> None:
    """Whatever a dialect is asked to build has a path, a query, headers and a body as the document wants."""
    dialect = dialect_for(TARGETS[label])

    @settings(max_examples=300)
    @given(_requests(label, dialect))
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
