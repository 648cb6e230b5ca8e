"""JSON answers become models, strictly: a value of another type is an error that names its place.

Two cattrs converters read one shape. The fast one, whose most frequent steps are written out, reads every
answer; when it fails, the detailed one reads the answer again to say what is wrong and where.
"""

from __future__ import annotations

import datetime as dt
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any, NewType, TypeVar

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_structure_fn, override

from .._http import Request, Response
from .._secret import Secret
from .._validation import is_token
from ..models import Audience, IdType, IndexingState
from ._base import MAX_LIMIT, ListedState
from ._error_responses import check_status, is_html, malformed

Token = NewType("Token", str)
_Shape = TypeVar("_Shape")

_KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
_KINDS |= {list: "a list", dict: "an object"}


def _kind(value: object) -> str:
    """Name the JSON type of *value*, never the value."""
    return _KINDS[type(value)]


def _refuse(value: object, expected: str) -> TypeError:
    """Return the error for a value of the wrong type."""
    return TypeError(f"must be {expected}, not {_kind(value)}")


def _string(value: Any, _: object = None) -> str:
    if type(value) is not str:
        raise _refuse(value, "a string")
    return value


def _integer(value: Any, _: object = None) -> int:
    if type(value) is not int:
        raise _refuse(value, "an integer")
    if value < 0:  # every integer of an answer counts something
        msg = "must be at least 0"
        raise ValueError(msg)
    return value


def _boolean(value: Any, _: object = None) -> bool:
    if type(value) is not bool:
        raise _refuse(value, "a boolean")
    return value


def _token(value: Any, _: object = None) -> Token:
    if not is_token(value):
        msg = "must be a non-empty string of printable characters without spaces"
        raise TypeError(msg)
    return Token(value)


# An enum looks up a member in four times the time of a dict, and a second spelling in thirty times.
_ID_TYPES = {name: IdType(name) for name in (*IdType, "CUSTOM_ID")}
_STATES = {name: IndexingState(name) for name in (*IndexingState, "IN_PROCESS")}


def _id_type(value: Any, _: object = None) -> IdType:
    if type(value) is not str:
        raise _refuse(value, "a string")
    return _ID_TYPES.get(value) or IdType(value)


def _state(value: Any, _: object = None) -> IndexingState:
    if type(value) is not str:
        raise _refuse(value, "a string")
    return _STATES.get(value) or IndexingState(value)


def _time(value: Any, _: object = None) -> dt.datetime:
    """Read a time as UTC: 1.x writes none of its zone, which is UTC, and 2.x ends it in Z."""
    if type(value) is not str:
        raise _refuse(value, "a string")
    try:
        time = dt.datetime.fromisoformat(value)
        if time.tzinfo is dt.UTC:
            return time
        if time.tzinfo is None:
            return dt.datetime.combine(time, time.time(), dt.UTC)
        return time.astimezone(dt.UTC)
    except (OverflowError, ValueError):
        msg = "must be a time such as '2018-06-29T13:12:09'"
        raise ValueError(msg) from None


def _optional(read: Callable[..., Any]) -> Callable[[Any, object], Any]:
    """Make *read* let null through; cattrs would look for it anew at each value."""

    def optional(value: Any, _: object) -> Any:
        return None if value is None else read(value)

    return optional


def _rows(read: Callable[..., list[Any]], listed: object) -> Callable[[Any, object], tuple[Any, ...]]:
    """Make *read* refuse what can be iterated but is no list."""

    def rows(value: Any, _: object) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _refuse(value, "a list")
        return tuple(read(value, listed))

    return rows


def _object(read: Callable[..., Any]) -> Callable[[Any, object], Any]:
    """Make *read* say once of what is no object that it is none."""

    def read_object(value: Any, cls: object) -> Any:
        if type(value) is not dict:
            raise _refuse(value, "an object")
        return read(value, cls)

    return read_object


_HOOKS: Mapping[Any, Callable[..., Any]] = {
    str: _string,
    int: _integer,
    bool: _boolean,
    Token: _token,
    IdType: _id_type,
    IndexingState: _state,
    dt.datetime: _time,
}


def _audience(kind: str, words: str) -> Callable[[Any, object], Audience]:
    """Make what cattrs would make for an Audience, written out: every view is read by it, in half the time.

    Args:
        kind: What Batch calls `id_type`.
        words: What it calls `description`.
    """

    def read(row: Any, _: object) -> Audience:
        if type(row) is not dict:
            raise _refuse(row, "an object")
        description, nb_ids, state = row.get(words), row.get("nb_ids"), row.get("indexing_state")
        created, updated = row.get("created"), row.get("updated")
        return Audience(
            name=_string(row["name"]),
            id_type=_id_type(row[kind]),
            description=None if description is None else _string(description),
            nb_ids=None if nb_ids is None else _integer(nb_ids),
            indexing_state=None if state is None else _state(state),
            created=None if created is None else _time(created),
            updated=None if updated is None else _time(updated),
        )

    return read


def _listed_state(row: Any, _: object) -> ListedState:
    """Read a row of the list in short."""
    if type(row) is not dict:
        raise _refuse(row, "an object")
    state = row.get("indexing_state")
    return ListedState(_string(row["name"]), None if state is None else _state(state))


@functools.cache  # building one takes milliseconds
def _converter(names: tuple[tuple[str, str], ...], *, detailed: bool) -> cattrs.Converter:
    """Return a converter that reads Audiences, whose fields Batch calls by *names*, and their states."""
    converter = cattrs.Converter(detailed_validation=detailed)
    for cls, hook in _HOOKS.items():
        converter.register_structure_hook(cls, hook)
        converter.register_structure_hook(cls | None, _optional(hook))
    if detailed:
        renamed = {ours: override(rename=batchs) for ours, batchs in names}
        by_name: Any = make_dict_structure_fn(Audience, converter, **renamed)  # type: ignore[arg-type]
        _add_rows(converter, Audience, _object(by_name))
        _add_rows(converter, ListedState, _object(make_dict_structure_fn(ListedState, converter)))
    else:
        called = {"id_type": "id_type", "description": "description"} | dict(names)
        _add_rows(converter, Audience, _audience(called["id_type"], called["description"]))
        _add_rows(converter, ListedState, _listed_state)
    return converter


def _add_rows(converter: cattrs.Converter, row: type[Any], read: Callable[[Any, object], Any]) -> None:
    """Let *converter* read objects as *row* by *read*, and lists of them."""
    converter.register_structure_hook(row, read)
    listed, several = types.GenericAlias(list, (row,)), types.GenericAlias(tuple, (row, ...))
    rows = _rows(converter.get_structure_hook(listed), listed)
    converter.register_structure_hook_func(lambda cls: cls == several, rows)


@attrs.frozen
class ResponseDecoder:
    """Reads the answers of one dialect.

    Attributes:
        names: Pairs of our name of a field of Audience and Batch's, where they differ.
        secrets: Keys, which no error may repeat.
    """

    names: tuple[tuple[str, str], ...]
    secrets: tuple[Secret, ...]
    _fast: cattrs.Converter = attrs.field(init=False, repr=False, eq=False)

    @_fast.default
    def _make_fast(self) -> cattrs.Converter:
        return _converter(self.names, detailed=False)

    def read(self, request: Request, response: Response, shape: type[_Shape]) -> _Shape:
        """Return the answer as *shape*.

        Raises:
            ResponseError: The status is no 2xx.
            MalformedResponseError: The body is no JSON object of that shape.
        """
        check_status(request, response, self.secrets)
        value = self._read_fast(response.body, shape)
        if value is not None:
            return value
        # No frame and no context of this error holds the body, which may repeat what was sent.
        raise malformed(request, response, self._problems(response.body, shape))

    def _read_fast(self, body: bytes, shape: type[_Shape]) -> _Shape | None:
        """Return a body as *shape*, None when that fails for whatever reason."""
        try:
            answer = orjson.loads(body)
            return self._fast.structure(answer, shape) if type(answer) is dict else None
        except (ArithmeticError, LookupError, TypeError, ValueError):
            return None

    def _problems(self, body: bytes, shape: type[Any]) -> list[str]:
        """Say what is wrong with a body, and where."""
        if not body.strip():
            return ["the body is empty"]
        if is_html(body):
            return ["the body is HTML, not JSON"]
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return [f"the body is not JSON: {error.msg}"]
        if type(answer) is not dict:
            return [str(_refuse(answer, "an object"))]
        problems: list[str] = []
        try:
            _converter(self.names, detailed=True).structure(_beginning(answer), shape)
        except cattrs.BaseValidationError as error:
            problems = cattrs.transform_error(error, format_exception=_tell)
        known = [self._in_batchs_words(problem) for problem in problems]
        return known or [f"a row is wrong, behind the first {MAX_LIMIT} of its list"]

    def _in_batchs_words(self, problem: str) -> str:
        """Name the field at the end of a problem's place as Batch does."""
        rest, dot, field = problem.rpartition(".")
        return f"{rest}{dot}{dict(self.names).get(field, field)}"


def _beginning(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer whose lists are no longer than a page: to list a million wrong rows takes a minute."""
    return {key: one[:MAX_LIMIT] if type(one) is list else one for key, one in answer.items()}


def _tell(error: BaseException, _: object) -> str:
    """Say what is wrong with one value."""
    return "required field missing" if isinstance(error, KeyError) else str(error)
