"""Validation of audience names, IDs, tokens, and of the attributes and tags of an ID."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import math
import re
import reprlib
from collections.abc import AsyncIterable, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from ._tables import describe_table, dimensions_of, is_file, is_missing, to_column, to_number
from .errors import InvalidInputError

# https://doc.batch.com/developer/api/cep/audiences/update: `ids` has at most 10,000 elements.
MAX_IDS = 10_000
# Same page: at most 15 attributes per id, on `add` only.
MAX_ATTRIBUTES = 15
# Batch documents no limit. Longer values are mistakes (a whole row, a joined list) that Batch would index.
MAX_ID_LENGTH = 1024

# https://doc.batch.com/developer/api/cep/audiences/create: letters, digits, `_` and `-`, at most 255.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
_TYPED_ATTRIBUTE = re.compile(r"(date|url)\((.*)\)", re.DOTALL)
_URL = re.compile(r"https?://[^\s/]\S*", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = 2**63
#: The pattern of a duration, for a schema.
DURATION = r"^([0-9]+(?:\.[0-9]+)?)([smhd]?)$"
_DURATION = re.compile(DURATION)
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

# The usual types of lists, which need no search for signs of a table.
_PLAIN = frozenset({list, tuple, set, frozenset})
# The kinds of `array.array` whose items are the letters of a text.
_LETTERS = ("u", "w")

_T = TypeVar("_T")


class LibraryScalar(Protocol):
    """A number or boolean of NumPy or of a data frame library."""

    @property
    def dtype(self) -> Any:
        """Its type in the library."""

    def item(self) -> Any:
        """Return it as one of Python's."""


_Scalar = str | int | float | bool
# A value as it is sent, and as it is passed to a Member.
AttributeValue = _Scalar | tuple[_Scalar, ...]
AttributeInput = _Scalar | dt.date | LibraryScalar | Sequence[_Scalar | LibraryScalar]


def _kind(value: object) -> str:
    """Return the type's name for an error message, which never shows the value."""
    return "None" if value is None else type(value).__name__


def check_name(name: object) -> str:
    """Return *name* if it is a valid audience name.

    Args:
        name: 1 to 255 letters, digits, `_` or `-`, case-sensitive.

    Raises:
        InvalidInputError: The name is invalid.
    """
    if not isinstance(name, str):
        msg = f"An audience name must be a string, not {_kind(name)}."
        raise InvalidInputError(msg)
    if _NAME.fullmatch(name) is None:
        msg = (
            f"The audience name {reprlib.repr(name)} ({len(name)} characters) is invalid. "
            "Use 1 to 255 letters, digits, '_' or '-'."
        )
        raise InvalidInputError(msg)
    return name


def is_name(value: str) -> bool:
    """Return whether *value* is valid as an audience name."""
    return _NAME.fullmatch(value) is not None


def check_listing(items: Any, place: str, *, streams: bool = False, of: str = "IDs") -> Any:
    """Return *items* if it is an iterable of IDs, and an Arrow column as a collection of strings.

    A string, a table and a file are iterables too, but their letters, columns and lines are not IDs.

    Args:
        items: The argument.
        place: The argument's name (`"add"`).
        streams: Whether it may be asynchronous.
        of: What it must contain, for the error.

    Raises:
        InvalidInputError: It is no such iterable.
    """
    if type(items) in _PLAIN:  # Members have tags by the million
        return items
    kind = f"{'an iterable' if streams else 'a list'} of {of}, not {type(items).__name__}"
    if (table := describe_table(items)) is not None:
        msg = f"{place} must be {kind}, which is {table}. Pass a column of it, such as rows['user_id']."
        raise InvalidInputError(msg)
    if is_file(items):
        msg = f"{place} must be {of}, not a file, whose lines end in newlines. strip() each line."
        raise InvalidInputError(msg)
    items = to_column(items)
    kinds = (Iterable, AsyncIterable) if streams else Iterable
    is_text = isinstance(items, str | bytes) or getattr(items, "typecode", "") in _LETTERS
    if is_text or not isinstance(items, kinds):
        msg = f'{place} must be {kind}. For one {of.removesuffix("s")} write {place}=["…"].'
        raise InvalidInputError(msg)
    if (
        isinstance(items, Collection)
        or not isinstance(items, Iterable)
        or (streams and hasattr(items, "__aiter__"))
    ):
        return items
    try:
        return iter(items)
    except TypeError:  # such as a column of Spark, which has only the method
        msg = f"{place} must be {kind}, which cannot be iterated. Collect its values first."
        raise InvalidInputError(msg) from None


def to_list(items: Iterable[_T], place: str) -> list[_T]:
    """Return the IDs of one request as a list.

    Args:
        items: The argument.
        place: The argument's name (`"add"`).

    Raises:
        InvalidInputError: The argument is not an iterable of IDs, or an iterator of too many. The dialect
            checks the length of a collection.
    """
    items = check_listing(items, place)
    if isinstance(items, Collection):
        return list(items)
    taken = list(itertools.islice(items, MAX_IDS + 1))  # an iterator may be endless
    if len(taken) > MAX_IDS:
        msg = f"{place} has more than {MAX_IDS:,} IDs, the limit of one request. Use upload() for more."
        raise InvalidInputError(msg)
    return taken


def check_two_sources(add: object, remove: object) -> None:
    """Raise InvalidInputError if both are one iterator. The first one that is read would get all IDs."""
    if add is remove and isinstance(add, Iterator | AsyncIterator):
        msg = "add and remove are the same iterator, which can be read only once. Pass a list to each."
        raise InvalidInputError(msg)


def check_id(value: object, place: str) -> str:
    """Return *value* if it is a valid ID.

    Args:
        value: A string of 1 to 1,024 characters without NUL.
        place: Its location (`"add[3]"`), for the error, which never shows the value.

    Raises:
        InvalidInputError: The ID is invalid.
    """
    if not isinstance(value, str):
        msg = f"{place}: an ID must be a string, not {_kind(value)}."
        if isinstance(value, list | tuple) or (dimensions_of(value) != 0 and describe_table(value)):
            msg += " Pass a column, not rows."
        raise InvalidInputError(msg)
    if not value:
        msg = f"{place}: an ID must not be empty. Leave it out."
        raise InvalidInputError(msg)
    if len(value) > MAX_ID_LENGTH:
        msg = f"{place}: an ID must have at most {MAX_ID_LENGTH:,} characters, not {len(value):,}."
        raise InvalidInputError(msg)
    if "\0" in value:
        msg = f"{place}: an ID must not contain a NUL character. The source may be binary or UTF-16."
        raise InvalidInputError(msg)
    if not is_unicode(value):
        msg = f"{place}: an ID must be valid Unicode, without lone surrogates. Check the source's encoding."
        raise InvalidInputError(msg)
    return value


def is_unicode(value: str) -> bool:
    """Return whether *value* can be encoded as UTF-8. A lone surrogate cannot."""
    return value.isascii() or _SURROGATE.search(value) is None


def to_unicode(text: str) -> str:
    """Return *text* with escapes for bytes of file names that are not UTF-8, and for lone surrogates."""
    return text.encode(errors="backslashreplace").decode()


def is_token(value: object) -> bool:
    """Return whether *value* is valid as an indexing token, which must fit into a URL and a line of text."""
    return isinstance(value, str) and value != "" and value.isprintable() and " " not in value


def split_typed(name: str) -> tuple[str, str]:
    """Split an attribute's name such as `date(signed_up)` into its type and its bare name."""
    typed = _TYPED_ATTRIBUTE.fullmatch(name)
    return ("", name) if typed is None else (typed[1], typed[2])


def _attribute_type(name: object) -> str:
    """Check an attribute's name and return its type: `date`, `url` or an empty string."""
    if not isinstance(name, str):
        msg = f"attributes: a name must be a string, not {_kind(name)}."
        raise InvalidInputError(msg)
    if not is_unicode(name) or "\0" in name:
        msg = "attributes: a name must be valid Unicode without NUL."
        raise InvalidInputError(msg)
    kind, bare = split_typed(name)
    if not bare.strip():
        msg = "attributes: a name must not be empty. Examples: 'age', 'date(signed_up)', 'url(avatar)'."
        raise InvalidInputError(msg)
    return kind


def _scalar(value: object, place: str) -> str | int | float | bool:
    """Check a plain attribute value."""
    if isinstance(value, str) and is_unicode(value):
        return value
    if isinstance(value, int) and -_INT64 <= value < _INT64:  # a bool is an int
        return value
    if isinstance(value, float) and math.isfinite(value):
        return float(value)  # orjson accepts no subclass, such as NumPy's
    if (number := to_number(value)) is not value:
        return _scalar(number, place)
    if is_missing(value):
        msg = f"{place} is missing. Leave the attribute out instead."
    elif isinstance(value, dt.date):
        msg = f"{place}: Batch recognizes a date by the attribute's name. Rename it, as in 'date(signed_up)'."
    elif isinstance(value, str):
        msg = f"{place} must be valid Unicode, without lone surrogates. Check the source's encoding."
    elif isinstance(value, int):
        msg = f"{place}: an integer must fit into 64 bits. Pass a string instead."
    elif isinstance(value, float):
        msg = f"{place} must be a finite number, not {value}. Leave the attribute out instead."
    else:
        msg = f"{place} must be a string, integer, float, boolean or a list of these, not {_kind(value)}."
    raise InvalidInputError(msg)


def _date(value: object, place: str) -> str:
    """Format a date as Batch does: `2023-08-12T22:30:05Z`. Without a zone it is in UTC."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = dt.datetime.fromisoformat(value)
    elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, dt.datetime) or is_missing(value):  # pandas' NaT is a datetime
        msg = f"{place} must be a datetime or an ISO 8601 string such as '2023-08-12T22:30:05Z'."
        raise InvalidInputError(msg)
    offset = value.utcoffset()
    if offset is None and value.tzinfo is not None:
        msg = f"{place} has a time zone without an offset. Use value.replace(tzinfo=datetime.UTC)."
        raise InvalidInputError(msg)
    offset = offset or dt.timedelta()
    try:
        utc = value.replace(tzinfo=None) - offset
    except OverflowError:
        msg = f"{place} is outside the years 1 to 9999 in UTC. Leave the attribute out instead."
        raise InvalidInputError(msg) from None
    return f"{utc.isoformat(timespec='seconds')}Z"  # Batch's samples have whole seconds


def _url(value: object, place: str) -> str:
    if not isinstance(value, str) or not _URL.fullmatch(value) or not is_unicode(value):
        msg = f"{place} must be a string that starts with https:// or http:// and has no spaces."
        raise InvalidInputError(msg)
    return value


def _attribute_value(name: object, value: object) -> AttributeValue:
    """Check one attribute and return its value for JSON."""
    kind = _attribute_type(name)
    place = f"attributes[{name!r}]"
    if kind == "date":
        return _date(value, place)
    if kind == "url":
        return _url(value, place)
    if isinstance(value, list | tuple):
        return tuple(_scalar(item, f"{place}[{index}]") for index, item in enumerate(value))
    return _scalar(value, place)


def to_attributes(attributes: Mapping[str, AttributeInput]) -> Mapping[str, AttributeValue]:
    """Check and freeze a member's attributes."""
    if not isinstance(attributes, Mapping):
        msg = f"attributes must be a mapping of name to value, not {_kind(attributes)}."
        raise InvalidInputError(msg)
    if len(attributes) > MAX_ATTRIBUTES:
        msg = (
            f"attributes has {len(attributes)} entries, at most {MAX_ATTRIBUTES} are allowed. Leave some out."
        )
        raise InvalidInputError(msg)
    return MappingProxyType({name: _attribute_value(name, value) for name, value in attributes.items()})


def to_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Check and freeze a member's tags."""
    frozen = tuple(check_listing(tags, "tags", of="strings"))
    for index, tag in enumerate(frozen):
        if not isinstance(tag, str) or not tag or not is_unicode(tag):
            msg = f"tags[{index}] must be a non-empty string."
            raise InvalidInputError(msg)
    return frozen


def to_seconds(text: str) -> float:
    """Return the seconds of a duration: `90`, `90s`, `15m`, `26h` or `2d`.

    Args:
        text: A number, and a unit unless it counts seconds.

    Raises:
        InvalidInputError: It is anything else, or beyond what a number holds.
    """
    match = _DURATION.fullmatch(text)
    seconds = math.inf if match is None else float(match[1]) * _UNITS[match[2]]
    if not math.isfinite(seconds):
        msg = "a duration is a number of seconds, or a number with a unit: 90s, 15m, 26h or 2d."
        raise InvalidInputError(msg)
    return seconds
