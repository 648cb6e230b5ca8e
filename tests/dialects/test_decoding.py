from __future__ import annotations

import datetime as dt
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._http import Request, Response
from aiobatch.dialects import Dialect, dialect_for
from aiobatch.dialects._decoding import LISTED_STATE, Shape, audience_shape
from aiobatch.errors import AiobatchError, MalformedResponseError
from aiobatch.models import Audience, IdType, IndexingState

from .conftest import TARGETS

ROW: dict[str, Any] = {
    "name": "vip",
    "type": "custom_ids",
    "nb_ids": 16743,
    "indexing_state": "IN_PROGRESS",
    "created": "2018-06-29T13:12:09",
    "updated": "2018-06-29T13:42:59Z",
}


def view(dialect: Dialect, body: bytes, **fields: Any) -> Audience:
    """Read *body* as the response to a view."""
    return dialect.read_view(dialect.build_view("vip"), Response(status=200, body=body, **fields))


def problems(dialect: Dialect, body: bytes) -> tuple[str, ...]:
    """Return the problems of *body* as the response to a view."""
    with pytest.raises(MalformedResponseError) as caught:
        view(dialect, body)
    return caught.value.problems


def test_audience_is_read_with_utc_times(dialect: Dialect) -> None:
    """A row becomes an Audience. Times are UTC, with or without a zone. Unknown fields are ignored."""
    audience = view(dialect, orjson.dumps(ROW | {"new_field": [{}]}))

    assert audience == Audience(
        name="vip",
        id_type=IdType.CUSTOM_IDS,
        nb_ids=16743,
        indexing_state=IndexingState.IN_PROGRESS,
        created=dt.datetime(2018, 6, 29, 13, 12, 9, tzinfo=dt.UTC),
        updated=dt.datetime(2018, 6, 29, 13, 42, 59, tzinfo=dt.UTC),
    )
    assert audience.created is not None
    assert audience.created.tzinfo is dt.UTC


@pytest.mark.parametrize("row", [{}, dict.fromkeys(["nb_ids", "indexing_state", "created", "updated"])])
def test_missing_fields_are_none(dialect: Dialect, row: dict[str, None]) -> None:
    """Optional fields that are missing or null are None."""
    audience = view(dialect, orjson.dumps({"name": "vip", "type": "custom_ids", **row}))

    assert audience == Audience(name="vip", id_type=IdType.CUSTOM_IDS)


@pytest.mark.parametrize(
    ("answered", "state"),
    [
        ("IN_PROGRESS", IndexingState.IN_PROGRESS),
        ("IN_PROCESS", IndexingState.IN_PROGRESS),
        ("APPLIED", IndexingState.APPLIED),
        ("REPLACED", IndexingState.REPLACED),
    ],
)
def test_states_have_both_spellings(dialect: Dialect, answered: str, state: IndexingState) -> None:
    """Each state becomes its member, and both spellings of IN_PROGRESS do."""
    assert view(dialect, orjson.dumps(ROW | {"indexing_state": answered})).indexing_state is state


def test_unknown_state_and_type_are_kept(dialect: Dialect) -> None:
    """A state or type that Batch does not document is kept."""
    audience = view(dialect, orjson.dumps(ROW | {"indexing_state": "PAUSED", "type": "emails"}))

    assert (audience.indexing_state, audience.id_type) == ("PAUSED", "emails")


@pytest.mark.parametrize("answered", ["custom_ids", "CUSTOM_ID"])
def test_2_x_type_has_both_spellings(v2: Dialect, answered: str) -> None:
    """2.x may respond CUSTOM_ID for custom_ids."""
    assert view(v2, orjson.dumps(ROW | {"type": answered})).id_type is IdType.CUSTOM_IDS


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2018-06-29T15:12:09+02:00", dt.datetime(2018, 6, 29, 13, 12, 9, tzinfo=dt.UTC)),
        ("2018-06-29T13:12:09.250Z", dt.datetime(2018, 6, 29, 13, 12, 9, 250_000, tzinfo=dt.UTC)),
        ("2018-06-29", dt.datetime(2018, 6, 29, tzinfo=dt.UTC)),
    ],
)
def test_iso_times_become_utc(dialect: Dialect, text: str, utc: dt.datetime) -> None:
    """Any ISO 8601 time becomes UTC."""
    audience = view(dialect, orjson.dumps(ROW | {"created": text}))

    assert audience.created == utc
    assert audience.created.tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b"<html><body>Welcome", "the body is HTML, not JSON"),
        (b'{"name": "vip", "ty', "the body is not JSON: unexpected end of data"),
        (b"\xff\xfe", "the body is not JSON: "),
        (b"\x1f\x8b\x08\x00", "the body is not JSON: "),
        (b"[" * 100_000, "the body is not JSON: "),
        (b"[]", "must be an object, not a list"),
        (b'"vip"', "must be an object, not a string"),
        (b"3.5", "must be an object, not a number"),
        (b"true", "must be an object, not a boolean"),
        (b"null", "must be an object, not null"),
        (b'{"type": "custom_ids"}', "required field missing @ $.name"),
        (b'{"name": "vip"}', "required field missing @ $.type"),
    ],
)
def test_unreadable_body_is_described(dialect: Dialect, body: bytes, problem: str) -> None:
    """The error for a body that is no audience gives the problem and its place."""
    (found,) = problems(dialect, body)

    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("name", None, "must be a string, not null @ $.name"),
        ("name", 3, "must be a string, not a number @ $.name"),
        ("type", ["custom_ids"], "must be a string, not a list @ $.type"),
        ("nb_ids", "12", "must be an integer, not a string @ $.nb_ids"),
        ("nb_ids", 1.5, "must be an integer, not a number @ $.nb_ids"),
        ("nb_ids", True, "must be an integer, not a boolean @ $.nb_ids"),
        ("nb_ids", -1, "must be at least 0 @ $.nb_ids"),
        ("indexing_state", {}, "must be a string, not an object @ $.indexing_state"),
        ("created", "yesterday", "must be a time such as '2018-06-29T13:12:09' @ $.created"),
        ("created", "0001-01-01T00:00:00+23:59", "must be a time such as '2018-06-29T13:12:09' @ $.created"),
        ("updated", 1530279129, "must be a string, not a number @ $.updated"),
    ],
)
def test_invalid_field_is_named_without_its_value(
    dialect: Dialect, field: str, value: object, problem: str
) -> None:
    """The error for an invalid field gives Batch's name of the field, and not its value."""
    assert problems(dialect, orjson.dumps(ROW | {field: value})) == (problem,)


def test_error_keeps_all_problems_and_shows_three(v2: Dialect) -> None:
    """The error keeps all problems. Its text shows the first three and what to do."""
    row = {"name": 1, "type": 2, "display_name": 3, "nb_ids": "4", "created": 5}
    request = v2.build_view("vip")
    response = Response(status=200, body=orjson.dumps(row), attempts=2)

    with pytest.raises(MalformedResponseError) as caught:
        v2.read_view(request, response)

    error = caught.value
    assert str(error) == (
        "View of audience 'vip' failed: the response cannot be read (must be a string, not a number"
        " @ $.name, must be a string, not a number @ $.type, must be a string, not a number"
        " @ $.display_name, and 2 more). "
        "Check base_url and any proxy between this machine and Batch. It is safe to send it again. "
        "[200, 2 attempts]"
    )
    assert len(error.problems) == 5
    assert (error.method, error.path, error.attempts) == ("GET", "/2.11/audiences/view", 2)
    assert error.__context__ is None  # orjson's error would carry the whole body


def test_problems_of_long_lists_are_bounded(v2: Dialect) -> None:
    """For a list longer than a page, the error describes the first 100 rows only."""
    request = v2.build_list()
    for rows, found in (([1] * 100_000, 100), ([ROW] * 100 + [1], 1)):
        answer = orjson.dumps({"audiences": rows, "has_more": False})
        with pytest.raises(MalformedResponseError) as caught:
            v2.read_list(request, Response(status=200, body=answer))
        assert len(caught.value.problems) == found
    assert caught.value.problems == ("a row after the first 100 is malformed",)


def test_unreadable_create_may_have_taken_effect(dialect: Dialect) -> None:
    """The error for an unreadable response to a create asks to look for the audience first."""
    request = dialect.build_create("vip")

    with pytest.raises(MalformedResponseError, match="Look for the audience before you create it again"):
        dialect.read_token(request, Response(status=200))


def reads(dialect: Dialect) -> list[tuple[Any, Request]]:
    """Return every read method with a request for it."""
    return [
        (dialect.read_view, dialect.build_view("vip")),
        (dialect.read_list, dialect.build_list()),
        (dialect.read_states, dialect.build_list()),
        (dialect.read_token, dialect.build_create("vip")),
        (dialect.read_token, dialect.build_update("vip", ["u1"], [])),
        (dialect.read_token, dialect.build_delete("vip")),
    ]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=9)
)
FIELDS = [
    *ROW,
    "description",
    "display_name",
    "audiences",
    "custom_audiences",
    "has_more",
    "next_from",
    "count",
]
FIELDS += ["indexing_token", "token", "code", "message", "error_code", "error_message"]
ANSWERS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text()), inner, max_size=6),
    ),
)
ODD_VALUES = st.one_of(
    ANSWERS, st.sampled_from(["APPLIED", "PAUSED", "CUSTOM_ID", "2018-06-29", "2018-06-29T13:12:09Z"])
)
ROWS = st.fixed_dictionaries({}, optional=dict.fromkeys([*ROW, "description", "display_name"], ODD_VALUES))
HEADERS = st.dictionaries(st.sampled_from(["retry-after", "date"]), st.text())


@pytest.mark.parametrize("version", TARGETS)
@given(st.one_of(st.binary(), ANSWERS.map(orjson.dumps)), st.integers(100, 599), HEADERS)
def test_any_response_is_read_or_raises_an_aiobatch_error(
    version: str, body: bytes, status: int, headers: dict[str, str]
) -> None:
    """Any bytes with any status are read, or raise an AiobatchError."""
    dialect = dialect_for(TARGETS[version])
    for read, request in reads(dialect):
        for code in (200, status):
            try:
                read(request, Response(status=code, body=body, headers=headers))
            except AiobatchError as error:
                assert str(error).isprintable()  # noqa: PT017 - it may raise none


@pytest.mark.parametrize("shape", [audience_shape("description"), LISTED_STATE])
@given(st.one_of(ROWS, ANSWERS))
def test_problems_are_found_if_and_only_if_reading_fails(shape: Shape[Any], row: Any) -> None:
    """A row without problems can be read. Reading a row with problems fails."""
    try:
        shape.read(row)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        readable = False
    else:
        readable = True

    assert readable == (list(shape.problems(row)) == [])
