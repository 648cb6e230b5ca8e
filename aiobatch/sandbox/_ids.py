"""The `ids` of an update or a replace: up to 10,000 rows.

Rows that are nothing but an id (and an action) are read by column, in C; only where one has attributes, tags
or a mistake are they looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from ._store import PLAIN, SandboxMember
from ._wire import MAX_IDS, ApiError, malformed, require

MAX_ATTRIBUTES: Final = 15

_ATTRIBUTE_NAME = re.compile(r"(?:(date|url)\(([^()]+)\)|[^()]+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_SCALARS = (str, int, float, bool)

#: What the last action on an id leaves behind: a member, or nothing.
_OUTCOMES: Final[Mapping[str, SandboxMember | None]] = {"add": PLAIN, "remove": None}

_Outcomes = dict[str, SandboxMember | None]


@attrs.frozen(kw_only=True)
class Rules:
    """What a version of an API lets its rows carry."""

    attributes: bool
    tags: bool


def read_changes(rows: Any, rules: Rules) -> _Outcomes:
    """Read the rows of an update: a member for each id whose last action is an add, `None` for a remove."""
    _check_size(rows)
    columns = _read_plain(rows, ("id", "action"))
    if columns is None or not _OUTCOMES.keys() >= set(columns[1]):
        return dict(_read_action(row, f"ids[{place}]", rules) for place, row in enumerate(rows))
    return dict(zip(columns[0], map(_OUTCOMES.get, columns[1]), strict=True))


def read_members(rows: Any, rules: Rules) -> dict[str, SandboxMember]:
    """Read the rows of a replace."""
    _check_size(rows)
    columns = _read_plain(rows, ("id",))
    if columns is None:
        return dict(_read_member(row, f"ids[{place}]", rules) for place, row in enumerate(rows))
    return dict.fromkeys(columns[0], PLAIN)


def _check_size(rows: Any) -> None:
    """Take a list of 1 to 10,000 rows."""
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_IDS:
        msg = f"ids must be an array of 1 to {MAX_IDS} elements"
        raise malformed(msg)


def _read_plain(rows: list[Any], names: tuple[str, ...]) -> list[list[str]] | None:
    """Return the columns of rows that are nothing but these non-empty strings, or `None`."""
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(names)}:
        return None
    try:
        columns = [list(map(itemgetter(name), rows)) for name in names]
    except KeyError:
        return None
    if all(set(map(type, column)) == {str} and all(column) for column in columns):
        return columns
    return None


def _read_action(row: Any, place: str, rules: Rules) -> tuple[str, SandboxMember | None]:
    """Read a row of an update."""
    _check_object(row, place)
    action = _read_string(row, "action", place)
    if action not in _OUTCOMES:
        msg = f"{place}.action must be add or remove"
        raise malformed(msg)
    if action == "remove":
        _check_keys(row, {"action", "id"}, place)
        return _read_string(row, "id", place), None
    return _read_member({key: value for key, value in row.items() if key != "action"}, place, rules)


def _read_member(row: Any, place: str, rules: Rules) -> tuple[str, SandboxMember]:
    """Read a row that adds."""
    _check_object(row, place)
    allowed = {"id"} | ({"attributes"} if rules.attributes else set()) | ({"tags"} if rules.tags else set())
    _check_keys(row, allowed, place)
    member_id = _read_string(row, "id", place)
    if len(row) == 1:
        return member_id, PLAIN
    attributes = _read_attributes(row.get("attributes", {}), f"{place}.attributes")
    tags = _read_tags(row.get("tags", []), f"{place}.tags")
    return member_id, SandboxMember(attributes=attributes, tags=tags)


def _check_object(row: Any, place: str) -> None:
    if not isinstance(row, dict):
        msg = f"{place} must be an object"
        raise malformed(msg)


def _check_keys(row: dict[str, Any], allowed: set[str], place: str) -> None:
    if unknown := sorted(row.keys() - allowed):
        msg = f"{place} has {unknown[0]!r}, which this version of the API does not take here"
        raise malformed(msg)


def _read_string(row: dict[str, Any], name: str, place: str) -> str:
    """Read a mandatory string that is not empty."""
    value = require(row, name, place)
    if not isinstance(value, str) or not value:
        msg = f"{place}.{name} must be a string that is not empty"
        raise malformed(msg)
    return value


def _read_attributes(attributes: Any, place: str) -> dict[str, Any]:
    """Check the attributes of one id."""
    if not isinstance(attributes, dict) or len(attributes) > MAX_ATTRIBUTES:
        msg = f"{place} must be an object of at most {MAX_ATTRIBUTES} attributes"
        raise malformed(msg)
    for number, (name, value) in enumerate(attributes.items()):
        _check_attribute(name, value, f"{place}[{number}]")
    return attributes


def _check_attribute(name: str, value: Any, place: str) -> None:
    """Check an attribute's name, and its value by the type that the name may declare."""
    found = _ATTRIBUTE_NAME.fullmatch(name)
    if not found:
        msg = f"{place} must be called NAME, date(NAME) or url(NAME)"
        raise malformed(msg)
    if found[1] == "date" and not _is_date(value):
        raise _wrong(place, "a date like 2023-08-12T22:30:05Z")
    if found[1] == "url" and not _is_url(value):
        raise _wrong(place, "an http or https URL")
    if not _is_value(value):
        raise _wrong(place, "a string, a number, a boolean or an array of those")


def _wrong(place: str, expected: str) -> ApiError:
    return malformed(f"the value of {place} must be {expected}")


def _is_value(value: Any) -> bool:
    elements = value if isinstance(value, list) else [value]
    return all(isinstance(element, _SCALARS) for element in elements)


def _is_date(value: Any) -> bool:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_url(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _read_tags(tags: Any, place: str) -> tuple[str, ...]:
    """Check the tags of one id."""
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        msg = f"{place} must be an array of strings that are not empty"
        raise malformed(msg)
    return tuple(tags)
