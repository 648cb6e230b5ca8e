"""The comparison of an audience's members with those that a test expects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InvalidInputError
from ._store import SandboxMember

# A report of more IDs helps no reader.
_MAX_SHOWN = 5


def check_members(
    name: str,
    members: Mapping[str, SandboxMember],
    expected: Iterable[str] | Mapping[str, Mapping[str, Any]],
) -> None:
    """Raise AssertionError if the members differ from the expected ones.

    Args:
        name: The audience.
        members: Its members.
        expected: The IDs, or a mapping from each ID to its attributes.
    """
    if isinstance(expected, str | bytes) or not isinstance(expected, Iterable):
        msg = f"expected must be an iterable of IDs, not {type(expected).__name__}."
        raise InvalidInputError(msg)
    ids = dict.fromkeys(expected)
    attributes = expected if isinstance(expected, Mapping) else {}
    differences = {
        "missing": [id_ for id_ in ids if id_ not in members],
        "unexpected": [id_ for id_ in members if id_ not in ids],
        "with other attributes": [
            id_ for id_, values in attributes.items() if id_ in members and members[id_].attributes != values
        ],
    }
    found = [f"{what}: {_show(ids)}" for what, ids in differences.items() if ids]
    if found:
        msg = f"Audience {name!r} has {len(members):,} members, not the expected ones. {'. '.join(found)}."
        raise AssertionError(msg)


def _show(ids: list[str]) -> str:
    """Format the first IDs."""
    rest = len(ids) - _MAX_SHOWN
    return ", ".join(map(repr, ids[:_MAX_SHOWN])) + (f" and {rest:,} more" if rest > 0 else "")
