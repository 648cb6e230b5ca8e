"""The `ids` of an update or a replace: up to 10,000 rows.

Rows that are nothing but an id (and an action) are read by column, in C; only where one has attributes, tags
or a mistake are they looked at one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final
from urllib.parse import urlsplit

from ._request_checks import MAX_IDS, malformed, require
from ._store import PLAIN_MEMBER, SandboxMember

MAX_ATTRIBUTES: Final = 15

_ATTRIBUTE_NAME = re.compile(r"(?:(date|url)\(([^()]+)\)|[^()]+)")
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_SCALARS = (str, int, float, bool)

#: What the last action on an id leaves behind: a member, or nothing.
_OUTCOMES: Final[Mapping[str, SandboxMember | None]] = {"add": PLAIN_MEMBER, "remove": None}

_Outcomes = dict[str, SandboxMember | None]


def read_changes(rows: Any, extras: frozenset[str]) -> _Outcomes:
    """Read the rows of an update: a member for each id whose last action is an add, `None` for a remove.

    Args:
        rows: The value of `ids`.
        extras: What a row may have besides: `attributes`, `tags`, or neither.
    """
    _check_size(rows)
    columns = _read_plain(rows, ("id", "action"))
    if columns is None or not _OUTCOMES.keys() >= set(columns[1]):
        allowed = extras | {"id", "action"}
        return dict(_read_action(row, place, allowed) for place, row in enumerate(rows))
    return dict(zip(columns[0], map(_OUTCOMES.get, columns[1]), strict=True))


def read_members(rows: Any, extras: frozenset[str]) -> dict[str, SandboxMember]:
    """Read the rows of a replace, which have no action."""
    _check_size(rows)
    columns = _read_plain(rows, ("id",))
    if columns is None:
        return dict(_read_member(row, place, extras | {"id"}) for place, row in enumerate(rows))
    return dict.fromkeys(columns[0], PLAIN_MEMBER)


def check_refused_ids(rows: list[dict[str, Any]], refused: AbstractSet[str]) -> None:
    """Refuse rows that have one of some ids.

    Args:
        rows: The value of `ids`, found sound.
        refused: The ids.
    """
    if refused:
        for place, row in enumerate(rows):
            if row["id"] in refused:
                msg = f"ids[{place}].id is refused"
                raise malformed(msg)


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


def _read_action(row: Any, place: int, allowed: frozenset[str]) -> tuple[str, SandboxMember | None]:
    """Read a row of an update."""
    _check_keys(row, place, allowed)
    action = require(row, "action", f"ids[{place}]")
    if action == "add":
        return _read_member(row, place, allowed)
    if action != "remove":
        msg = f"ids[{place}].action must be add or remove"
        raise malformed(msg)
    _check_keys(row, place, frozenset({"action", "id"}))
    return _read_id(row, place), None


def _read_member(row: Any, place: int, allowed: frozenset[str]) -> tuple[str, SandboxMember]:
    """Read a row that adds."""
    _check_keys(row, place, allowed)
    attributes = _read_attributes(row["attributes"], place) if "attributes" in row else {}
    tags = _read_tags(row["tags"], place) if "tags" in row else ()
    member = SandboxMember(attributes=attributes, tags=tags) if attributes or tags else PLAIN_MEMBER
    return _read_id(row, place), member


def _check_keys(row: Any, place: int, allowed: frozenset[str]) -> None:
    """Take an object that has no other keys."""
    if not isinstance(row, dict):
        msg = f"ids[{place}] must be an object"
        raise malformed(msg)
    if not row.keys() <= allowed:
        msg = f"ids[{place}] may have {', '.join(sorted(allowed))} here, and nothing else"
        raise malformed(msg)


def _read_id(row: dict[str, Any], place: int) -> str:
    value = require(row, "id", f"ids[{place}]")
    if not isinstance(value, str) or not value:
        msg = f"ids[{place}].id must be a string that is not empty"
        raise malformed(msg)
    return value


def _read_attributes(attributes: Any, place: int) -> dict[str, Any]:
    """Check the attributes of one id."""
    if not isinstance(attributes, dict) or len(attributes) > MAX_ATTRIBUTES:
        msg = f"ids[{place}].attributes must be an object of at most {MAX_ATTRIBUTES} attributes"
        raise malformed(msg)
    for number, (name, value) in enumerate(attributes.items()):
        if wrong := _find_wrong(name, value):
            msg = f"ids[{place}].attributes[{number}] must {wrong}"
            raise malformed(msg)
    return attributes


def _find_wrong(name: str, value: Any) -> str | None:
    """Return what an attribute must be and is not."""
    declared = _declared_type(name)
    if declared is None:
        return "be named NAME, date(NAME) or url(NAME)"
    if declared == "date" and not _is_date(value):
        return "be a date like 2023-08-12T22:30:05Z"
    if declared == "url" and not _is_url(value):
        return "be an http or https URL"
    if isinstance(value, list):
        plain = all(isinstance(element, _SCALARS) for element in value)
        return None if plain else "be an array of strings, numbers and booleans only"
    return None if isinstance(value, _SCALARS) else "be a string, a number, a boolean or an array"


@lru_cache(maxsize=1024)
def _declared_type(name: str) -> str | None:
    """Return the type that an attribute's name declares, an empty string without one, `None` if malformed."""
    found = _ATTRIBUTE_NAME.fullmatch(name)
    return (found[1] or "") if found else None


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


def _read_tags(tags: Any, place: int) -> tuple[str, ...]:
    """Check the tags of one id."""
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        msg = f"ids[{place}].tags must be an array of strings that are not empty"
        raise malformed(msg)
    return tuple(tags)
