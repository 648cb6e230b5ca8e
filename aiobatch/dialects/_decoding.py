"""Decoding of JSON responses. An error or warning gives a value's place and its type, never the value.

Each response must have only what the caller needs: a poll the state, a write the token, a list row the name.
Batch's schema requires no field of an audience, so every other field that cannot be read becomes None.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import attrs
import orjson

from .._backoff import is_excessive, read_json
from .._secret import Secret
from .._validation import is_name, is_token, is_unicode
from ..interfaces import Request, Response
from ..models import Audience, IdType, IndexingState
from ._base import MAX_LIMIT, ListedState
from ._error_responses import check_status, is_html, malformed
from ._masking import clean

_Value = TypeVar("_Value")

_MISFITS: Final = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)

# A hundred IDs for each human. More is a bug in a server or a proxy.
_LARGEST_COUNT = 1_000_000_000_000
# Fields that decide about what was sent. One that occurs twice with different values decides nothing.
_DECISIVE: Final = (b'"name"', b'"indexing_state"', b'"indexing_token"', b'"token"')
# Characters of a word that Batch does not document.
_LONGEST_WORD = 40

_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
_KINDS |= {list: "a list", dict: "an object"}

# A dict finds a member in a quarter of the time of the enum, and an alias in a thirtieth.
# https://doc.batch.com/developer/api/cep/audiences/view answers CUSTOM_ID, one page of 1.x IN_PROCESS.
_ID_TYPES = {name: IdType(name) for name in (*IdType, "CUSTOM_ID")}
_STATES = {name: IndexingState(name) for name in (*IndexingState, "IN_PROCESS")}


@attrs.frozen
class Shape(Generic[_Value]):
    """A kind of JSON object: how to read it, and which fields it has.

    Attributes:
        read: Returns the value of an object. Raises one of `_MISFITS` if a field is missing or invalid.
        required: The smallest object that *read* accepts.
        optional: Names of the fields that *read* accepts besides.
        one_of: Fields of which an object must have at least one.
        rows: Shapes of the elements of those fields that are lists of objects.
    """

    read: Callable[[dict[str, Any]], _Value]
    required: Mapping[str, Any] = attrs.field(factory=dict)
    optional: Sequence[str] = ()
    one_of: Sequence[str] = ()
    rows: Mapping[str, Shape[Any]] = attrs.field(factory=dict)

    def problems(self, value: object, place: str = "$") -> Iterator[str]:
        """Yield what is wrong with *value*, and where.

        `read` stops at the first problem. To find all of them with the same code, each field in turn
        takes its place in an object that is otherwise valid.
        """
        if type(value) is not dict:
            yield f"{_wrong_type(value, 'an object')} @ {place}"
            return
        if self.one_of and all(value.get(field) is None for field in self.one_of):
            yield f"must have a field {', '.join(self.one_of[:-1])} or {self.one_of[-1]} @ {place}"
        for field in (*self.required, *self.optional):
            if field in self.rows and type(value.get(field)) is list:
                # A page has at most MAX_LIMIT rows. To list a million invalid rows takes a minute.
                for index, row in enumerate(value[field][:MAX_LIMIT]):
                    yield from self.rows[field].problems(row, f"{place}.{field}[{index}]")
                continue
            trial = {key: valid for key, valid in self.required.items() if key != field}
            if field in value:
                trial[field] = value[field]
            try:
                self.read(trial)
            except KeyError:
                yield f"required field missing @ {place}.{field}"
            except _MISFITS as error:
                yield f"{error} @ {place}.{field}"


def decode(
    request: Request, response: Response, shape: Shape[_Value], secrets: Sequence[Secret] = ()
) -> _Value:
    """Return a response as *shape*.

    Args:
        request: The request.
        response: Its response.
        shape: The shape of the JSON object in the body.
        secrets: Keys to mask in errors.

    Raises:
        ResponseError: The status is not 2xx.
        MalformedResponseError: The body is not a JSON object of that shape.
    """
    check_status(request, response, secrets)
    if request.allows_empty and not response.body.strip():
        return shape.read({})
    if is_excessive(response.body):
        raise malformed(request, response, ["the body has too many values"])
    try:
        return _parse(response.body, shape)
    except _MISFITS:
        pass
    # Raised out here, so that no frame and no context of it holds the body, which may repeat what was sent.
    raise malformed(request, response, _problems(response.body, shape))


def _parse(body: bytes, shape: Shape[_Value]) -> _Value:
    answer = read_json(body)
    if type(answer) is not dict:
        raise _wrong_type(answer, "an object")
    if not shape.rows:  # the rows of a list decide nothing
        _check_repeated(body)
    return shape.read(answer)


def _check_repeated(body: bytes) -> None:
    """Raise ValueError if an object has a field twice, with different values. Parsers take the last one."""
    if any(body.count(field) > 1 for field in _DECISIVE):
        text = body.decode("utf-8-sig", "surrogateescape")
        json.loads(text, strict=False, object_pairs_hook=_without_conflicts)


def _without_conflicts(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in pairs:
        if found.setdefault(field, value) != value:
            msg = "a field occurs twice, with different values"
            raise ValueError(msg)
    return found


def _problems(body: bytes, shape: Shape[Any]) -> list[str]:
    if not body.strip():
        return ["the body is empty"]
    if is_html(body):
        return ["the body is HTML, not JSON"]
    try:
        answer = read_json(body)
    except orjson.JSONDecodeError as error:
        return [f"the body is not JSON: {error.msg}"]
    if not shape.rows:
        try:
            _check_repeated(body)
        except (RecursionError, ValueError) as error:
            return [str(error)]
    return list(shape.problems(answer)) or [f"a row after the first {MAX_LIMIT} is malformed"]


def _wrong_type(value: object, expected: str) -> TypeError:
    return TypeError(f"must be {expected}, not {_KINDS[type(value)]}")


def read_string(value: object) -> str:
    """Return *value* if it is a string of valid Unicode."""
    if type(value) is not str:
        raise _wrong_type(value, "a string")
    if not is_unicode(value):
        msg = "must be valid Unicode"
        raise ValueError(msg)
    return value


def read_count(value: object) -> int:
    """Return *value* if it is an integer of at least 0 that can count IDs."""
    if type(value) is not int:
        raise _wrong_type(value, "an integer")
    if value < 0:
        msg = "must be at least 0"
        raise ValueError(msg)
    if value > _LARGEST_COUNT:
        msg = f"must be at most {_LARGEST_COUNT:,}"
        raise ValueError(msg)
    return value


def read_boolean(value: object) -> bool:
    """Return *value* if it is a boolean."""
    if type(value) is not bool:
        raise _wrong_type(value, "a boolean")
    return value


def read_token(value: object) -> str:
    """Return *value* if it can be an indexing token."""
    if type(value) is not str or not is_token(value):
        msg = "must be a non-empty string of printable characters without spaces"
        raise TypeError(msg)
    return value


def read_rows(value: object, shape: Shape[_Value]) -> tuple[_Value, ...]:
    """Return the elements of the list *value*, each read as *shape*."""
    if type(value) is not list:
        raise _wrong_type(value, "a list")
    return tuple([shape.read(row) for row in value])


def _read_id_type(value: object, secrets: Sequence[Secret]) -> IdType:
    if type(value) is not str:
        raise _wrong_type(value, "a string")
    return _ID_TYPES.get(value) or IdType(_read_word(value, secrets, _ID_TYPES))


def _read_state(value: object, secrets: Sequence[Secret]) -> IndexingState:
    if type(value) is not str:
        raise _wrong_type(value, "a string")
    return _STATES.get(value) or IndexingState(_read_word(value, secrets, _STATES))


def _read_word(value: str, secrets: Sequence[Secret], known: Collection[str]) -> str:
    """Return a word that Batch does not document so that it can be logged, and differs from known ones."""
    word = clean(value, secrets, _LONGEST_WORD)
    return f"{word}?" if word in known else word


def _read_time(value: object) -> dt.datetime:
    """Return a time as UTC: 1.x writes no zone and means UTC, 2.x ends in Z."""
    if type(value) is not str:
        raise _wrong_type(value, "a string")
    try:
        try:
            time = dt.datetime.fromisoformat(value)
        except ValueError:
            # https://www.rfc-editor.org/rfc/rfc3339#section-5.6 allows lower case and leap seconds.
            time = dt.datetime.fromisoformat(value.upper().replace(":60", ":59"))
        if time.tzinfo is dt.UTC:
            return time
        if time.tzinfo is None:
            return dt.datetime.combine(time, time.time(), dt.UTC)
        return time.astimezone(dt.UTC)
    except (OverflowError, ValueError):
        msg = "must be a time such as '2018-06-29T13:12:09'"
        raise ValueError(msg) from None


# Takes what was noticed, the field, and details about its value.
Report = Callable[[str, str, str], None]


class FieldReports:
    """Reports what one client notices about a field, once each.

    Args:
        report: Called with what was noticed, the field and details. None to ignore them.
    """

    def __init__(self, report: Report | None = None) -> None:
        self._report = report
        self._reported: set[tuple[str, str]] = set()

    def report(self, notice: str, field: str, details: str) -> None:
        """Report *notice* about *field*, unless it was reported before."""
        if self._report is not None and (notice, field) not in self._reported:
            self._reported.add((notice, field))
            self._report(notice, field, details)


class UnreadableFields:
    """Reads fields that may be absent, and reports each one that cannot be read once.

    Args:
        reports: Takes the reports.
    """

    def __init__(self, reports: FieldReports) -> None:
        self._reports = reports

    def read(self, row: Mapping[str, Any], field: str, read: Callable[[object], _Value]) -> _Value | None:
        """Return a field's value. None if it is absent, null or unreadable."""
        value = row.get(field)
        if value is None:
            return None
        try:
            return read(value)
        except _MISFITS as error:
            self._reports.report("unreadable field ignored", field, str(error))
            return None


@attrs.frozen
class AudienceShapes:
    """Shapes of an audience for one client.

    Attributes:
        view: An audience that was asked for by name. The name may be absent, and then it is empty.
        row: An audience in a list. It must have a name.
        state: A row of a list, without the fields that the poller does not use.
    """

    view: Shape[Audience]
    row: Shape[Audience]
    state: Shape[ListedState]


def audience_shapes(
    description_field: str, unreadable: UnreadableFields, secrets: Sequence[Secret] = ()
) -> AudienceShapes:
    """Return the shapes of an audience.

    Args:
        description_field: The field of its description.
        unreadable: Reads fields that may be absent.
        secrets: Keys to mask in words that Batch does not document.
    """
    read_id_type = functools.partial(_read_id_type, secrets=secrets)
    read_state_word = functools.partial(_read_state, secrets=secrets)
    some = ("name", "nb_ids", "indexing_state")

    def read(row: dict[str, Any]) -> Audience:
        try:
            return _read_audience(row, description_field, secrets)
        except _MISFITS:
            return read_leniently(row, read_string(row["name"]))

    def read_view(row: dict[str, Any]) -> Audience:
        try:
            return _read_audience(row, description_field, secrets)
        except _MISFITS:
            if all(row.get(field) is None for field in some):
                raise
            return read_leniently(row, unreadable.read(row, "name", read_string) or "")

    def read_leniently(row: dict[str, Any], name: str) -> Audience:
        return Audience(
            name=name,
            id_type=unreadable.read(row, "type", read_id_type),
            description=unreadable.read(row, description_field, read_string),
            nb_ids=unreadable.read(row, "nb_ids", read_count),
            indexing_state=unreadable.read(row, "indexing_state", read_state_word),
            created=unreadable.read(row, "created", _read_time),
            updated=unreadable.read(row, "updated", _read_time),
        )

    def read_state(row: dict[str, Any]) -> ListedState:
        # The name comes first: if a row is not an object, this lookup raises TypeError.
        name, state = read_string(row["name"]), row.get("indexing_state")
        if state is None or type(state) is str:
            return ListedState(name, None if state is None else read_state_word(state))
        return ListedState(name, unreadable.read(row, "indexing_state", read_state_word))

    return AudienceShapes(
        view=Shape(read_view, one_of=some),
        row=Shape(read, {"name": "a"}),
        state=Shape(read_state, {"name": "a"}),
    )


def _read_audience(row: dict[str, Any], description_field: str, secrets: Sequence[Secret]) -> Audience:
    """Return an audience all of whose fields can be read."""
    # The name comes first: if a row is not an object, this lookup raises TypeError.
    name, id_type, nb_ids = read_string(row["name"]), row.get("type"), row.get("nb_ids")
    state, description = row.get("indexing_state"), row.get(description_field)
    created, updated = row.get("created"), row.get("updated")
    return Audience(
        name=name,
        id_type=None if id_type is None else _read_id_type(id_type, secrets),
        description=None if description is None else read_string(description),
        nb_ids=None if nb_ids is None else read_count(nb_ids),
        indexing_state=None if state is None else _read_state(state, secrets),
        created=None if created is None else _read_time(created),
        updated=None if updated is None else _read_time(updated),
    )


def read_view(
    request: Request, response: Response, shape: Shape[Audience], secrets: Sequence[Secret]
) -> Audience:
    """Return the audience of a view. Without a valid name it has the one that was asked for.

    Raises:
        MalformedResponseError: It has another name, as from a cache that ignores queries.
    """
    audience = decode(request, response, shape, secrets)
    if audience.name == request.audience:
        return audience
    if is_name(audience.name):
        raise malformed(request, response, ["the response is about another audience @ $.name"])
    return attrs.evolve(audience, name=request.audience)
