from __future__ import annotations

import codecs
import datetime as dt
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.dialects import Dialect, dialect_for
from aiobatch.dialects._decoding import FieldReports, Shape, UnreadableFields, audience_shapes
from aiobatch.errors import AiobatchError, MalformedResponseError
from aiobatch.interfaces import Request, Response
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
        ("2018-06-29T13:12:09.1234567+00:00", dt.datetime(2018, 6, 29, 13, 12, 9, 123_456, tzinfo=dt.UTC)),
        ("2018-06-29t13:12:09.5z", dt.datetime(2018, 6, 29, 13, 12, 9, 500_000, tzinfo=dt.UTC)),
        ("2016-12-31T23:59:60Z", dt.datetime(2016, 12, 31, 23, 59, 59, tzinfo=dt.UTC)),
        ("2018-06-29", dt.datetime(2018, 6, 29, tzinfo=dt.UTC)),
    ],
)
def test_iso_times_become_utc(dialect: Dialect, text: str, utc: dt.datetime) -> None:
    """Any ISO 8601 or RFC 3339 time becomes UTC."""
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
        (b"{}", "must have a field name, nb_ids or indexing_state @ $"),
        (b'{"code": 12, "type": "error"}', "must have a field name, nb_ids or indexing_state @ $"),
    ],
)
def test_unreadable_body_is_described(dialect: Dialect, body: bytes, problem: str) -> None:
    """The error for a body that is no audience gives the problem and its place."""
    (found,) = problems(dialect, body)

    assert found.startswith(problem)


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "vip", "indexing_state": "IN_PROGRESS", "indexing_state": "APPLIED"}',
        b'{"name": "other", "indexing_state": "APPLIED", "name": "vip"}',
        b'{"indexing_state": "APPLIED", "x": {"indexing_state": 1, "indexing_state": 2}}',
    ],
)
def test_contradiction_is_refused(dialect: Dialect, body: bytes) -> None:
    """A field that occurs twice decides nothing, unless both values are equal."""
    assert problems(dialect, body) == ("a field occurs twice, with different values",)
    twice = b'{"indexing_state": "APPLIED", "description": "name", "indexing_state": "APPLIED"}'
    assert view(dialect, twice).indexing_state is IndexingState.APPLIED


FIELDS_OF = {
    "name": "name",
    "type": "id_type",
    "description": "description",
    "display_name": "description",
    "nb_ids": "nb_ids",
    "indexing_state": "indexing_state",
    "created": "created",
    "updated": "updated",
}
UNREADABLE: list[tuple[str, object, str]] = [
    ("name", 3, "must be a string, not a number"),
    ("type", ["custom_ids"], "must be a string, not a list"),
    ("description", {"en": "VIP"}, "must be a string, not an object"),
    ("display_name", {"en": "VIP"}, "must be a string, not an object"),
    ("nb_ids", "12", "must be an integer, not a string"),
    ("nb_ids", 1.0, "must be an integer, not a number"),
    ("nb_ids", True, "must be an integer, not a boolean"),
    ("nb_ids", -1, "must be at least 0"),
    ("indexing_state", {}, "must be a string, not an object"),
    ("created", "yesterday", "must be a time such as '2018-06-29T13:12:09'"),
    ("created", "01/02/2024 10:00", "must be a time such as '2018-06-29T13:12:09'"),
    ("created", "0001-01-01T00:00:00+23:59", "must be a time such as '2018-06-29T13:12:09'"),
    ("updated", 1530279129, "must be a string, not a number"),
    ("updated", "", "must be a time such as '2018-06-29T13:12:09'"),
]


IGNORED = "unreadable field ignored"


class Reports(list[tuple[str, str, str]]):
    """The reports of one dialect."""

    def __call__(self, notice: str, field: str, problem: str) -> None:
        """Record a report."""
        self.append((notice, field, problem))


@pytest.mark.parametrize("version", TARGETS)
@pytest.mark.parametrize(("field", "value", "problem"), UNREADABLE)
def test_unreadable_field_of_a_view_is_none_and_reported_once(
    version: str, field: str, value: object, problem: str
) -> None:
    """A view's unreadable field is None, its name the requested one. The report does not have its value."""
    reports = Reports()
    dialect = dialect_for(TARGETS[version], reports)
    if field in {"description", "display_name"}:
        field = "display_name" if dialect.lists_states else "description"
    expected = attrs.asdict(view(dialect, orjson.dumps(ROW)), recurse=False)
    expected |= {FIELDS_OF[field]: None, "name": "vip"}
    for _ in range(3):
        assert view(dialect, orjson.dumps(ROW | {field: value})) == Audience(**expected)

    assert reports == [(IGNORED, field, problem)]


# Values that break the rules of JSON or of Unicode, and what is reported. None: only white space is unusual.
INVALID_VALUES = [
    ("description", rb'"half an emoji \ud83d"', "must be valid Unicode"),
    ("description", '"Latin-1: \xe9"'.encode("latin-1"), "must be valid Unicode"),
    ("description", b'"a line\nand a\ttab"', None),
    ("nb_ids", b"NaN", "must be an integer, not a number"),
    ("nb_ids", b"1e400", "must be an integer, not a number"),
    ("nb_ids", b"9" * 400, "must be at most 1,000,000,000,000"),
    ("created", rb'"\udc00"', "must be a time such as '2018-06-29T13:12:09'"),
]


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["", "mark"])
@pytest.mark.parametrize(("field", "value", "problem"), INVALID_VALUES)
def test_invalid_value_hides_no_other_field(
    dialect: Dialect, mark: bytes, field: str, value: bytes, problem: str | None
) -> None:
    """A value that breaks the rules of JSON is None. The fields and rows beside it are read."""
    if field == "description" and dialect.lists_states:
        field = "display_name"
    row = orjson.dumps(ROW | {field: "HERE"}).replace(b'"HERE"', value)
    rows = b"audiences" if dialect.lists_states else b"custom_audiences"
    page = b'{"%b": [%b, %b], "has_more": false}' % (rows, row, orjson.dumps(ROW))
    reports = Reports()
    dialect = dialect_for(TARGETS[dialect.version], reports)

    audience = view(dialect, mark + row)
    listed = dialect.read_list(dialect.build_list(), Response(status=200, body=mark + page))

    assert audience.indexing_state is IndexingState.IN_PROGRESS
    assert [row.name for row in listed.rows] == ["vip", "vip"]
    assert (getattr(audience, FIELDS_OF[field]) is None) is (problem is not None)
    assert reports == ([] if problem is None else [(IGNORED, field, problem)])


@pytest.mark.parametrize("version", TARGETS)
@pytest.mark.parametrize("field", ["type", "nb_ids", "created", "updated", "name"])
def test_missing_field_of_a_view_is_none_without_a_report(version: str, field: str) -> None:
    """No field of a view is required, because Batch's schema requires none."""
    reports = Reports()
    dialect = dialect_for(TARGETS[version], reports)

    audience = view(dialect, orjson.dumps({key: value for key, value in ROW.items() if key != field}))

    assert audience.indexing_state is IndexingState.IN_PROGRESS
    assert audience.name == "vip"
    assert getattr(audience, FIELDS_OF[field]) == ("vip" if field == "name" else None)
    assert reports == []


@pytest.mark.parametrize("version", TARGETS)
@pytest.mark.parametrize(("field", "value", "problem"), [row for row in UNREADABLE if row[0] != "name"])
def test_list_row_requires_its_name_only(version: str, field: str, value: object, problem: str) -> None:
    """Whatever the other fields of a row are, both readers of a list return the row, with one report."""
    reports = Reports()
    dialect = dialect_for(TARGETS[version], reports)
    listed = "audiences" if dialect.lists_states else "custom_audiences"
    rows = [ROW, ROW | {field: value}, ROW | {"name": "b", field: value}]
    response = Response(status=200, body=orjson.dumps({listed: rows, "has_more": False}))

    page = dialect.read_list(dialect.build_list(), response)
    states = dialect.read_states(dialect.build_list(), response)

    assert [row.name for row in page.rows] == [row.name for row in states.rows] == ["vip", "vip", "b"]
    is_read = field != ("description" if dialect.lists_states else "display_name")
    assert reports == ([(IGNORED, field, problem)] if is_read else [])


def test_error_keeps_all_problems_and_shows_three(v2: Dialect) -> None:
    """The error keeps all problems. Its text shows the first three and what to do."""
    request = v2.build_list()
    answer = {"audiences": [1, {}, {"name": 2}, []], "has_more": False}
    response = Response(status=200, body=orjson.dumps(answer), attempts=2)

    with pytest.raises(MalformedResponseError) as caught:
        v2.read_list(request, response)

    error = caught.value
    assert str(error) == (
        "List of audiences failed: the response cannot be read (must be an object, not a number"
        " @ $.audiences[0], required field missing @ $.audiences[1].name, must be a string, not a number"
        " @ $.audiences[2].name, and 1 more). "
        "Check base_url and any proxy between this machine and Batch. It is safe to send it again. "
        "[200, 2 attempts]"
    )
    assert len(error.problems) == 4
    assert (error.method, error.path, error.attempts) == ("GET", "/2.11/audiences/list", 2)
    assert error.__context__ is None  # orjson's error would carry the whole body


def test_problems_of_long_lists_are_bounded(v2: Dialect) -> None:
    """For a list longer than a page, the error describes the first 100 rows only."""
    request = v2.build_list()
    for rows, found in (([1] * 10_000, 100), ([ROW] * 100 + [1], 1)):
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


SHAPES = audience_shapes("description", UnreadableFields(FieldReports()))


@pytest.mark.parametrize("shape", [SHAPES.row, SHAPES.state, SHAPES.view])
@given(st.one_of(ROWS, ANSWERS))
def test_problems_are_found_if_and_only_if_reading_fails(shape: Shape[Any], row: Any) -> None:
    """A row without problems can be read. Reading a row with problems fails."""
    if shape is SHAPES.view and type(row) is not dict:
        return  # a body is an object before it is read
    try:
        shape.read(row)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        readable = False
    else:
        readable = True

    assert readable == (list(shape.problems(row)) == [])
