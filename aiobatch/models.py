"""What an audience is made of: frozen values that carry Batch's own words."""

from __future__ import annotations

import datetime as dt
import enum
import math
import re
from collections.abc import Iterable, Mapping, Sequence
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
# Characters of a wrong name that an error shows: enough to recognise it.
_SHOWN = 60
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TYPED_ATTRIBUTE = re.compile(r"(date|url)\((.+)\)")
_INT64 = range(-(2**63), 2**63)

_KIND_NAMES = {str: "a string", bytes: "bytes", type(None): "None"}


def _kind(value: object) -> str:
    """Name the type of *value* for an error text, never the value."""
    return _KIND_NAMES.get(type(value), type(value).__name__)


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
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        msg = (
            f"audience name {shown!r} ({len(name)} characters) is not valid: "
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
        msg = f"{place}: an id must be a string, not {_kind(value)}"
        raise InvalidInputError(msg)
    if not value:
        msg = f"{place}: an id must not be empty"
        raise InvalidInputError(msg)
    if len(value) > MAX_ID_LENGTH:
        msg = f"{place}: an id of {len(value)} characters is too long, at most {MAX_ID_LENGTH}"
        raise InvalidInputError(msg)
    if "\0" in value:
        msg = f"{place}: an id must not hold a NUL character"
        raise InvalidInputError(msg)
    if not _is_unicode(value):
        msg = (
            f"{place}: an id must be valid Unicode, without lone surrogates; decode it with its real encoding"
        )
        raise InvalidInputError(msg)
    return value


def _is_unicode(value: str) -> bool:
    """Tell whether *value* can be written as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        return self._name_ in type(self).__members__


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


def _attribute_name(name: object) -> tuple[str, str]:
    """Split an attribute's name into its type (`date`, `url` or empty) and the bare name."""
    if not isinstance(name, str) or not name:
        msg = f"an attribute's name must be a non-empty string, not {_kind(name)}"
        raise InvalidInputError(msg)
    if not _is_unicode(name) or "\0" in name:
        msg = "an attribute's name must be valid Unicode without NUL"
        raise InvalidInputError(msg)
    typed = _TYPED_ATTRIBUTE.fullmatch(name)
    return (typed[1], typed[2]) if typed else ("", name)


def _scalar(value: object, place: str) -> str | int | float | bool:
    """Check a plain attribute value."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and _is_unicode(value):
        return value
    if isinstance(value, int) and value in _INT64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, dt.date):
        msg = f"{place}: name it 'date({_last_name(place)})', Batch types dates by the attribute's name"
    elif isinstance(value, str):
        msg = f"{place}: must be valid Unicode; it holds a lone surrogate"
    elif isinstance(value, int):
        msg = f"{place}: an integer must fit 64 bits"
    elif isinstance(value, float):
        msg = f"{place}: must be a finite number, not {value}; leave the attribute out instead"
    else:
        msg = f"{place}: must be a string, integer, float, boolean or a list of these, not {_kind(value)}"
    raise InvalidInputError(msg)


def _last_name(place: str) -> str:
    """Return the attribute's name out of a place such as `attributes['age']`."""
    return place.partition("['")[2].rpartition("']")[0]


def _parse_date(text: str, place: str) -> dt.datetime:
    """Read an ISO 8601 date and time."""
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        msg = f"{place}: must be a datetime or an ISO 8601 string such as '2023-08-12T22:30:05Z'"
        raise InvalidInputError(msg) from None


def _date(value: object, place: str) -> str:
    """Render a date the way Batch writes it: `2023-08-12T22:30:05Z`."""
    if isinstance(value, str):
        return _date(_parse_date(value, place), place)
    if not isinstance(value, dt.datetime):
        msg = f"{place}: must be a datetime or an ISO 8601 string, not {_kind(value)}"
        raise InvalidInputError(msg)
    if value.tzinfo is None:
        msg = f"{place}: has no time zone; give one, for example value.replace(tzinfo=datetime.UTC)"
        raise InvalidInputError(msg)
    # isoformat() of an offset is +00:00; Batch's samples end in Z and have whole seconds.
    return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _url(value: object, place: str) -> str:
    """Check an URL attribute."""
    if not isinstance(value, str) or not value.startswith(("https://", "http://")) or not _is_unicode(value):
        msg = f"{place}: must be a string that starts with https:// or http://"
        raise InvalidInputError(msg)
    return value


def _attribute_value(name: object, value: object) -> Any:
    """Check one attribute and render it for JSON."""
    kind, _ = _attribute_name(name)
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
        msg = f"attributes: {len(attributes)} given, Batch takes at most {MAX_ATTRIBUTES} per id"
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


def _check_member_id(_self: object, _field: object, value: str) -> None:
    check_id(value, "Member.id")


@attrs.frozen
class Member:
    """An id with what Batch shall know of it.

    Attributes:
        id: The id: 1 to 1,024 characters without NUL.
        attributes: At most 15; values are string, integer, float, boolean or a list of these. `date(name)`
            takes a `datetime` with a time zone or an ISO 8601 string, `url(name)` an http(s) URL. 1.1 and 2.x
            only.
        tags: Strings. 1.1 only.

    Raises:
        InvalidInputError: A value that Batch would refuse; the text names its place.
    """

    id: str = attrs.field(validator=_check_member_id)
    attributes: Mapping[str, Any] = attrs.field(
        default=MappingProxyType({}), converter=_to_attributes, kw_only=True, hash=False
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=_to_tags, kw_only=True)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle past the mapping proxy, which cannot be pickled."""
        return _rebuild_member, (self.id, dict(self.attributes), self.tags)


def _rebuild_member(member_id: str, attributes: Mapping[str, Any], tags: Sequence[str]) -> Member:
    """Unpickle a Member."""
    return Member(member_id, attributes=attributes, tags=tags)


def _to_operation(value: str) -> Operation:
    """Read an operation's name."""
    try:
        return Operation(value)
    except ValueError:
        msg = f"a token's operation must be one of {', '.join(Operation)}"
        raise InvalidInputError(msg) from None


def _check_token_audience(_self: object, _field: object, value: str) -> None:
    check_name(value)


def _check_token_value(_self: object, _field: object, value: Any) -> None:
    """Check that a token's value can travel in a URL and in one line of text."""
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        msg = "an indexing token's value must be a non-empty string of printable characters without spaces"
        raise InvalidInputError(msg)


@attrs.frozen
class IndexingToken:
    """The receipt of an accepted update; `str(token)` goes to a queue or a file, `parse` reads it back.

    Attributes:
        audience: The audience's name.
        value: Batch's `indexing_token`.
        operation: What was asked for.
    """

    audience: str = attrs.field(validator=_check_token_audience)
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
