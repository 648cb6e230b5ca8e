"""Checks of members and their JSON encoding.

An upload of a million IDs passes through here in a hundred chunks. So a list of plain IDs is checked as a
whole, and one by one only to find the invalid one for the error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs
import orjson

from ..errors import InvalidInputError
from ..models import MAX_ID_LENGTH, MAX_IDS, Member, check_id

_Values = Collection[str | Member]
_Listed = list[Any] | tuple[Any, ...]


@attrs.frozen(kw_only=True)
class MemberRules:
    """What a member can have in one version of the API.

    Attributes:
        api: The API's name, for errors.
        attributes: Whether a member may have attributes.
        tags: Whether a member may have tags.
    """

    api: str
    attributes: bool
    tags: bool


def check_members(rules: MemberRules, values: object, place: str, start: int = 0) -> None:
    """Check that *values* is a list of IDs and Members that the version of *rules* accepts.

    Args:
        rules: The version's rules.
        values: The list, of any length.
        place: The caller's argument, `"add"` or `"remove"`. Errors give a value's place, never the value.
        start: The position of the first value in that argument.

    Raises:
        InvalidInputError: It is not a list, or the version does not accept a value.
    """
    checked = _check(values, place, start)
    if place == "remove":
        _check_bare(checked)
    else:
        _check_extras(checked, rules)


def encode_update(add: _Values, remove: _Values, rules: MemberRules, *, distinct: bool = False) -> bytes:
    """Encode the elements of an update's `ids`, without the brackets.

    Args:
        add: IDs and Members to add.
        remove: IDs to remove.
        rules: The version's rules.
        distinct: Whether the caller knows that no two values have the same ID.

    Raises:
        InvalidInputError: Batch would reject it.
    """
    added, removed = _check(add, "add"), _check(remove, "remove")
    _check_count(len(added.values) + len(removed.values), "Pass at least one ID in add or remove.")
    _check_extras(added, rules)
    _check_bare(removed)
    if not distinct:
        _check_disjoint(added, removed)
    parts = [_encode(added, "add", distinct=distinct), _encode(removed, "remove", distinct=distinct)]
    return b",".join(filter(None, parts))


def encode_replace(members: _Values, rules: MemberRules) -> bytes:
    """Encode the elements of a replace's `ids`, without the brackets.

    Args:
        members: All IDs and Members of the audience from then on.
        rules: The version's rules.

    Raises:
        InvalidInputError: Batch would reject it.
    """
    checked = _check(members, "members")
    _check_count(len(checked.values), "Pass at least one ID, or delete the audience.")
    _check_extras(checked, rules)
    return _encode(checked)


@attrs.frozen
class _Checked:
    """A list of valid values. `joined` concatenates them, or is None if a Member is among them."""

    values: _Listed
    joined: str | None
    place: str
    start: int


def _check(values: object, place: str, start: int = 0) -> _Checked:
    listed = _to_list(values, place)
    joined = _join(listed)
    if joined is None or not _all_ids(listed, joined):
        for index, value in enumerate(listed, start):
            if not isinstance(value, Member):  # a Member checks its own ID
                check_id(value, f"{place}[{index}]")
    return _Checked(listed, joined, place, start)


def _to_list(values: object, place: str) -> _Listed:
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, str | bytes | bytearray | Member):
        msg = f"{place} must be a list of IDs, not one {type(values).__name__}. Pass {place}=[id]."
        raise InvalidInputError(msg)
    if not isinstance(values, Collection) or isinstance(values, Mapping):
        msg = f"{place} must be a list of IDs, not {type(values).__name__}. Pass {place}=list(…)."
        raise InvalidInputError(msg)
    return list(values)


def _join(values: _Listed) -> str | None:
    """Concatenate plain strings. Return None if another type is among them."""
    try:
        return "".join(values)
    except TypeError:
        return None


def _all_ids(values: _Listed, joined: str) -> bool:
    """Return whether `check_id` would accept every string of *values*, checking all of them at once."""
    lengths = set(map(len, values))
    if 0 in lengths or max(lengths, default=0) > MAX_ID_LENGTH or "\0" in joined:
        return False
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_count(count: int, remedy: str) -> None:
    if not count:
        msg = f"There are no IDs. {remedy}"
        raise InvalidInputError(msg)
    # https://doc.batch.com/developer/api/cep/audiences/update: "you can make several calls".
    if count > MAX_IDS:
        msg = f"{count:,} IDs are too many: Batch accepts {MAX_IDS:,} per request. Use upload() for more."
        raise InvalidInputError(msg)


def _check_extras(checked: _Checked, rules: MemberRules) -> None:
    for index, member in _members(checked):
        if member.attributes and not rules.attributes:
            msg = f"{checked.place}[{index}]: {rules.api} accepts no attributes. 1.1 and 2.x do."
            raise InvalidInputError(msg)
        if member.tags and not rules.tags:
            msg = f"{checked.place}[{index}]: {rules.api} accepts no tags. 1.1 does."
            raise InvalidInputError(msg)


def _check_bare(checked: _Checked) -> None:
    for index, member in _members(checked):
        if member.attributes or member.tags:
            msg = (
                f"{checked.place}[{index}]: only IDs to add can have attributes and tags. Pass the ID alone."
            )
            raise InvalidInputError(msg)


def _members(checked: _Checked) -> Iterator[tuple[int, Member]]:
    if checked.joined is None:
        for index, value in enumerate(checked.values, checked.start):
            if isinstance(value, Member):
                yield index, value


def _check_disjoint(added: _Checked, removed: _Checked) -> None:
    """Check that no ID is both to add and to remove, because Batch applies only its last action."""
    if not added.values or not removed.values:
        return
    both = set(_ids(added)).intersection(_ids(removed))
    if both:
        first = next(index for index, value in enumerate(_ids(added)) if value in both)
        second = list(_ids(removed)).index(_id_of(added.values[first]))
        msg = f"add[{first}] and remove[{second}] are the same ID. Either add it or remove it."
        raise InvalidInputError(msg)


def _ids(checked: _Checked) -> Iterable[str]:
    return checked.values if checked.joined is not None else map(_id_of, checked.values)


def _id_of(value: str | Member) -> str:
    return value.id if isinstance(value, Member) else value


def _encode(checked: _Checked, action: str | None = None, *, distinct: bool = False) -> bytes:
    """Encode the values as comma-separated JSON objects. Of several with one ID, keep the last."""
    if not checked.values:
        return b""
    # JSON escapes with a backslash. A string whose JSON has none needs no escaping.
    if checked.joined is not None and b"\\" not in orjson.dumps(checked.joined):
        ids = checked.values
        once = ids if distinct or len(set(ids)) == len(ids) else dict.fromkeys(ids)
        return _encode_verbatim(once, action)
    rows = {_id_of(value): _row(value, action) for value in checked.values}
    # Names and floats may be of subclasses of str and float, such as NumPy's.
    return orjson.dumps(list(rows.values()), default=_plain, option=orjson.OPT_NON_STR_KEYS)[1:-1]


def _encode_verbatim(ids: Iterable[str], action: str | None) -> bytes:
    """Encode IDs that need no escaping, several times as fast as with a dict for each."""
    head = f'{{"action":"{action}","id":"' if action else '{"id":"'
    return "".join((head, f'"}},{head}'.join(ids), '"}')).encode()


def _row(value: str | Member, action: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"action": action} if action else {}
    if not isinstance(value, Member):
        row["id"] = value
        return row
    row["id"] = value.id
    if value.attributes:
        row["attributes"] = value.attributes
    if value.tags:
        row["tags"] = value.tags
    return row


def _plain(value: Any) -> Any:
    """Return what orjson can encode: a dict for a Member's attributes, a float for a subclass of float."""
    return value.copy() if isinstance(value, MappingProxyType) else float(value)
