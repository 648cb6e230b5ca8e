"""What an audience is made of: frozen values that carry Batch's own words."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import functools
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sized
from types import MappingProxyType
from typing import Any, Self

import attrs

from .errors import AiobatchError, InvalidInputError

__all__ = [
    "MAX_ATTRIBUTES",
    "MAX_IDS",
    "MAX_ID_LENGTH",
    "Audience",
    "IdType",
    "IndexingState",
    "IndexingToken",
    "Member",
    "Operation",
    "Outcome",
    "Settled",
    "check_id",
    "check_name",
]

# https://doc.batch.com/developer/api/cep/audiences/update: `ids` takes at most 10,000 elements.
MAX_IDS = 10_000
# Same page: at most 15 attributes per id, on `add` only.
MAX_ATTRIBUTES = 15
# No limit is documented; longer values are mistakes (a whole row, a joined list), and Batch would index them.
MAX_ID_LENGTH = 1024

# https://doc.batch.com/developer/api/cep/audiences/create: letters, digits, `_` and `-`, at most 255.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TYPED_ATTRIBUTE = re.compile(r"(date|url)\((.*)\)", re.DOTALL)
_URL = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = 2**63


def _kind(value: object) -> str:
    """Name the type of *value* for an error text, never the value."""
    return "None" if value is None else type(value).__name__


def check_name(name: object) -> str:
    """Return *name* if it can name an audience.

    Args:
        name: 1 to 255 letters, digits, `_` or `-`, case sensitive.

    Raises:
        InvalidInputError: It cannot.
    """
    if not isinstance(name, str):
        msg = f"an audience name must be a string, not {_kind(name)}"
        raise InvalidInputError(msg)
    if _NAME.fullmatch(name) is None:
        msg = (
            f"audience name {reprlib.repr(name)} ({len(name)} characters) is not valid: "
            "give 1 to 255 letters, digits, '_' or '-'"
        )
        raise InvalidInputError(msg)
    return name


def check_id(value: object, place: str) -> str:
    """Return *value* if it can be an id.

    Args:
        value: A string of 1 to 1,024 characters without NUL.
        place: Where it stands (`"add[3]"`); the error names the place and never the value.

    Raises:
        InvalidInputError: It cannot.
    """
    if not isinstance(value, str):
        msg = f"{place}: an id must be a string, not {_kind(value)}; write it as Batch knows it"
        raise InvalidInputError(msg)
    if not value:
        msg = f"{place}: an id must not be empty; leave it out"
        raise InvalidInputError(msg)
    if len(value) > MAX_ID_LENGTH:
        msg = f"{place}: an id of {len(value)} characters is too long, at most {MAX_ID_LENGTH}"
        raise InvalidInputError(msg)
    if "\0" in value:
        msg = f"{place}: an id must not hold a NUL character; its source may be binary or UTF-16"
        raise InvalidInputError(msg)
    if not _is_unicode(value):
        msg = (
            f"{place}: an id must be valid Unicode, without lone surrogates; decode it with its real encoding"
        )
        raise InvalidInputError(msg)
    return value


def _is_unicode(value: str) -> bool:
    """Tell whether *value* can be written as UTF-8."""
    return value.isascii() or _SURROGATE.search(value) is None


class _OpenStrEnum(enum.StrEnum):
    """A string enum that keeps a value it does not know as a member of its own, equal to that string."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member

    @property
    def is_known(self) -> bool:
        """Whether Batch documents this value."""
        return type(self).__members__.get(self._name_) is self


class IdType(_OpenStrEnum):
    """What the ids of an audience are; a type that Batch does not document survives as itself."""

    CUSTOM_IDS = "custom_ids"
    ADVERTISING_IDS = "advertising_ids"
    INSTALL_IDS = "install_ids"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # 2.x answers CUSTOM_ID where it is asked for custom_ids.
        return cls("custom_ids") if value == "CUSTOM_ID" else super()._missing_(value)


class IndexingState(_OpenStrEnum):
    """How far Batch is with an update; a state that Batch does not document survives as itself."""

    IN_PROGRESS = "IN_PROGRESS"
    APPLIED = "APPLIED"
    REPLACED = "REPLACED"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # The update page's prose writes IN_PROCESS.
        return cls("IN_PROGRESS") if value == "IN_PROCESS" else super()._missing_(value)


class Operation(enum.StrEnum):
    """What an indexing token stands for."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


class Outcome(enum.StrEnum):
    """How the wait for a token ended."""

    APPLIED = "APPLIED"
    REPLACED = "REPLACED"
    TIMED_OUT = "TIMED_OUT"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class Audience:
    """An audience as Batch shows it.

    Attributes:
        name: Its name, case sensitive.
        id_type: What its ids are.
        description: 1.x `description` or 2.x `display_name`.
        nb_ids: Ids that Batch counts; may lag behind what was applied.
        indexing_state: State of the token that was asked about, or of the last update; None where the answer
            has none.
        created: When it was made; UTC.
        updated: When it last changed; UTC.
    """

    name: str
    id_type: IdType
    description: str | None = None
    nb_ids: int | None = None
    indexing_state: IndexingState | None = None
    created: dt.datetime | None = None
    updated: dt.datetime | None = None


def _attribute_type(name: object) -> str:
    """Check an attribute's name and return the type that it states: `date`, `url` or none."""
    if not isinstance(name, str):
        msg = f"attributes: a name must be a string, not {_kind(name)}"
        raise InvalidInputError(msg)
    if not _is_unicode(name) or "\0" in name:
        msg = "attributes: a name must be valid Unicode without NUL"
        raise InvalidInputError(msg)
    kind, bare = typed.groups() if (typed := _TYPED_ATTRIBUTE.fullmatch(name)) else ("", name)
    if not bare.strip():
        msg = "attributes: a name must not be empty; write 'age', 'date(signed_up)' or 'url(avatar)'"
        raise InvalidInputError(msg)
    return str(kind)


def _scalar(value: object, place: str) -> str | int | float | bool:
    """Check a plain attribute value."""
    if isinstance(value, str) and _is_unicode(value):
        return value
    if isinstance(value, int) and -_INT64 <= value < _INT64:  # a bool is an int
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)  # orjson takes no subclass, such as NumPy's
    if isinstance(value, dt.date):
        msg = f"{place}: Batch types dates by the attribute's name, give it one such as 'date(signed_up)'"
    elif isinstance(value, str):
        msg = f"{place}: must be valid Unicode, without lone surrogates; decode it with its real encoding"
    elif isinstance(value, int):
        msg = f"{place}: an integer must fit 64 bits; give it as a string"
    elif isinstance(value, float):
        msg = f"{place}: must be a finite number, not {value}; leave the attribute out instead"
    else:
        msg = f"{place}: must be a string, integer, float, boolean or a list of these, not {_kind(value)}"
    raise InvalidInputError(msg)


def _date(value: object, place: str) -> str:
    """Render a date the way Batch writes it: `2023-08-12T22:30:05Z`."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = dt.datetime.fromisoformat(value)
    if not isinstance(value, dt.datetime):
        msg = f"{place}: must be a datetime or an ISO 8601 string such as '2023-08-12T22:30:05Z'"
        raise InvalidInputError(msg)
    offset = value.utcoffset()
    if offset is None:
        msg = f"{place}: has no time zone; end a string in 'Z', or value.replace(tzinfo=datetime.UTC)"
        raise InvalidInputError(msg)
    try:
        utc = value.replace(tzinfo=None) - offset
    except OverflowError:
        msg = f"{place}: is outside the years 1 to 9999 in UTC; leave the attribute out instead"
        raise InvalidInputError(msg) from None
    return f"{utc.isoformat(timespec='seconds')}Z"  # Batch's samples have whole seconds


def _url(value: object, place: str) -> str:
    """Check a URL attribute."""
    if not isinstance(value, str) or not _URL.fullmatch(value) or not _is_unicode(value):
        msg = f"{place}: must be a string that starts with https:// or http:// and has no spaces"
        raise InvalidInputError(msg)
    return value


def _attribute_value(name: object, value: object) -> Any:
    """Check one attribute and render it for JSON."""
    kind = _attribute_type(name)
    place = f"attributes[{name!r}]"
    if kind == "date":
        return _date(value, place)
    if kind == "url":
        return _url(value, place)
    if isinstance(value, list | tuple):
        return tuple(_scalar(item, f"{place}[{index}]") for index, item in enumerate(value))
    return _scalar(value, place)


def _to_attributes(attributes: Any) -> Mapping[str, Any]:
    """Check and freeze a member's attributes."""
    if not isinstance(attributes, Mapping):
        msg = f"attributes must be a mapping of name to value, not {_kind(attributes)}"
        raise InvalidInputError(msg)
    if len(attributes) > MAX_ATTRIBUTES:
        msg = f"attributes: {len(attributes)} given, at most {MAX_ATTRIBUTES} per id; leave some out"
        raise InvalidInputError(msg)
    return MappingProxyType({name: _attribute_value(name, value) for name, value in attributes.items()})


def _to_tags(tags: Any) -> tuple[str, ...]:
    """Check and freeze a member's tags."""
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        msg = f"tags must be a list of strings, not {_kind(tags)}"
        raise InvalidInputError(msg)
    frozen = tuple(tags)
    for index, tag in enumerate(frozen):
        if not isinstance(tag, str) or not tag or not _is_unicode(tag):
            msg = f"tags[{index}] must be a non-empty string"
            raise InvalidInputError(msg)
    return frozen


def _counted(values: Sized) -> str:
    """Show how many values there are: they say who somebody is, and a repr ends up in logs."""
    return f"<{len(values)}>"


@attrs.frozen
class Member:
    """An id with what Batch shall know of it; its repr shows neither.

    Attributes:
        id: The id: 1 to 1,024 characters without NUL.
        attributes: At most 15; values are string, integer, float, boolean or a list of these. `date(name)`
            takes a `datetime` with a time zone or an ISO 8601 string, `url(name)` an http(s) URL. 1.1 and 2.x
            only.
        tags: Strings. 1.1 only.

    Raises:
        InvalidInputError: A value that Batch would refuse; the text names its place.
    """

    id: str = attrs.field(validator=lambda _self, _field, value: check_id(value, "Member.id"), repr=_counted)
    attributes: Mapping[str, Any] = attrs.field(
        default=MappingProxyType({}), converter=_to_attributes, kw_only=True, hash=False, repr=_counted
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=_to_tags, kw_only=True, repr=_counted)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle past the mapping proxy, which cannot be pickled."""
        return functools.partial(Member, attributes=dict(self.attributes), tags=self.tags), (self.id,)


def _to_operation(value: str) -> Operation:
    """Read an operation's name."""
    try:
        return Operation(value)
    except ValueError:
        msg = f"a token's operation must be one of {', '.join(Operation)}"
        raise InvalidInputError(msg) from None


def _check_token_value(_self: object, _field: object, value: Any) -> None:
    """Check that a token's value can travel in a URL and in one line of text."""
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        msg = (
            "an indexing token's value must be printable, without spaces or a newline; strip() what was read"
        )
        raise InvalidInputError(msg)


@attrs.frozen
class IndexingToken:
    """The receipt of an accepted update; `str(token)` goes to a queue or a file, `parse` reads it back.

    Attributes:
        audience: The audience's name.
        value: Batch's `indexing_token`.
        operation: What was asked for.
    """

    audience: str = attrs.field(validator=lambda _self, _field, value: check_name(value))
    value: str = attrs.field(validator=_check_token_value)
    operation: Operation = attrs.field(default=Operation.UPDATE, converter=_to_operation)

    def __str__(self) -> str:
        """Write `audience:operation:value`."""
        return f"{self.audience}:{self.operation}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str(token)` wrote.

        Args:
            text: `audience:operation:value`.

        Raises:
            InvalidInputError: The text is something else.
        """
        parts = text.split(":", 2) if isinstance(text, str) else ()
        if len(parts) != len(attrs.fields(cls)):
            msg = (
                "not an indexing token: expected what str(token) wrote, 'audience:operation:value'; "
                "a bare token of Batch's needs its audience= beside it"
            )
            raise InvalidInputError(msg)
        audience, operation, value = parts
        return cls(audience, value, operation)


@attrs.frozen(kw_only=True)
class Settled:
    """How the wait for one token ended.

    Attributes:
        token: The token.
        outcome: APPLIED, REPLACED, TIMED_OUT or FAILED.
        audience: The audience as last seen; None unless APPLIED.
        error: What `await_applied` would have raised; None if APPLIED.
    """

    token: IndexingToken
    outcome: Outcome
    audience: Audience | None = None
    error: AiobatchError | None = None
