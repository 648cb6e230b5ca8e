"""The `ids` of an update or a replace: up to 10,000 rows.

Rows with nothing but an ID and an action are read by column, in C. They are read one by one only if a row has
attributes, tags or an error.
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

# https://doc.batch.com/developer/api/cep/audiences/update: the name can give the type, as in date(NAME).
_ATTRIBUTE_NAME = re.compile(r"(?:(date|url)\(([^()]+)\)|[^()]+)")
# The samples of 1.1 have no zone.
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)?", re.ASCII)
_SCALARS = (str, int, float, bool)

#: The result of the last action on an ID: a member, or none.
_OUTCOMES: Final[Mapping[str, SandboxMember | None]] = {"add": PLAIN_MEMBER, "remove": None}

_Outcomes = dict[str, SandboxMember | None]


def read_changes(rows: Any, extras: frozenset[str]) -> _Outcomes:
    """Read the rows of an update: a member for each ID whose last action is add, `None` for remove.

    Args:
        rows: The value of `ids`.
        extras: Further fields that a row may have: `attributes`, `tags`.
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
    """Raise `ApiError` if a row has one of the *refused* IDs.

    Args:
        rows: The value of `ids`, already checked.
        refused: The IDs.
    """
    if refused:
        for place, row in enumerate(rows):
            if row["id"] in refused:
                msg = f"ids[{place}].id is refused"
                raise malformed(msg)


def _check_size(rows: Any) -> None:
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_IDS:
        msg = f"ids must be an array of 1 to {MAX_IDS} elements"
        raise malformed(msg)


def _read_plain(rows: list[Any], names: tuple[str, ...]) -> list[list[str]] | None:
    """Return the columns of rows that have nothing but these non-empty strings, or `None`."""
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
    _check_keys(row, place, allowed)
    attributes = _read_attributes(row["attributes"], place) if "attributes" in row else {}
    tags = _read_tags(row["tags"], place) if "tags" in row else ()
    member = SandboxMember(attributes=attributes, tags=tags) if attributes or tags else PLAIN_MEMBER
    return _read_id(row, place), member


def _check_keys(row: Any, place: int, allowed: frozenset[str]) -> None:
    if not isinstance(row, dict):
        msg = f"ids[{place}] must be an object"
        raise malformed(msg)
    if not row.keys() <= allowed:
        msg = f"ids[{place}] may have only {', '.join(sorted(allowed))} here"
        raise malformed(msg)


def _read_id(row: dict[str, Any], place: int) -> str:
    value = require(row, "id", f"ids[{place}]")
    if not isinstance(value, str) or not value:
        msg = f"ids[{place}].id must be a non-empty string"
        raise malformed(msg)
    return value


def _read_attributes(attributes: Any, place: int) -> dict[str, Any]:
    if not isinstance(attributes, dict) or len(attributes) > MAX_ATTRIBUTES:
        msg = f"ids[{place}].attributes must be an object of at most {MAX_ATTRIBUTES} attributes"
        raise malformed(msg)
    for number, (name, value) in enumerate(attributes.items()):
        if wrong := _find_wrong(name, value):
            msg = f"ids[{place}].attributes[{number}] must {wrong}"
            raise malformed(msg)
    return attributes


def _find_wrong(name: str, value: Any) -> str | None:
    """Return the rule that an attribute breaks, or `None`."""
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
    """Return the type in an attribute's name, an empty string for none, `None` for a malformed name."""
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
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        msg = f"ids[{place}].tags must be an array of non-empty strings"
        raise malformed(msg)
    return tuple(tags)
