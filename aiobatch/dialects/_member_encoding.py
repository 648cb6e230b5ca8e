"""Members on their way to Batch: checked, and written as JSON, at the speed of C where they are plain ids.

A million ids pass through here in a hundred chunks, so a list of plain ids is looked at as a whole, and one
by one only to say which of them is wrong.
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
    """What one version takes beside an id.

    Attributes:
        api: The API's name, for errors.
        attributes: Whether a member may have attributes.
        tags: Whether a member may have tags.
    """

    api: str
    attributes: bool
    tags: bool


def check_members(values: object, place: str, start: int = 0) -> None:
    """Check that *values* is a list of ids and Members, each of which some version takes.

    Args:
        values: The list; how many it may hold is not checked.
        place: What the caller names the list (`"add"`); errors name the place of a value and never the value.
        start: The position of the first value in what the caller gave.

    Raises:
        InvalidInputError: It is no list, or a value cannot be an id.
    """
    _check(values, place, start)


def check_members_by(rules: MemberRules, values: object, place: str, start: int = 0) -> None:
    """Check as `check_members` does, and that the version of *rules* takes what the Members carry."""
    checked = _check(values, place, start)
    if place == "remove":
        _check_bare(checked)
    else:
        _check_extras(checked, rules)


def encode_update(add: _Values, remove: _Values, rules: MemberRules, *, distinct: bool = False) -> bytes:
    """Write the elements of an update's `ids`, without the brackets.

    Args:
        add: Ids and Members to add.
        remove: Ids to remove.
        rules: What the version takes.
        distinct: Whether it is known that no two values have the same id.

    Raises:
        InvalidInputError: Batch would refuse it.
    """
    added, removed = _check(add, "add"), _check(remove, "remove")
    _check_count(len(added.values) + len(removed.values), "give at least one in add or remove")
    _check_extras(added, rules)
    _check_bare(removed)
    if not distinct:
        _check_disjoint(added, removed)
    parts = [_encode(added, "add", distinct=distinct), _encode(removed, "remove", distinct=distinct)]
    return b",".join(filter(None, parts))


def encode_replace(members: _Values, rules: MemberRules) -> bytes:
    """Write the elements of a replace's `ids`, without the brackets.

    Args:
        members: Ids and Members that the audience shall have.
        rules: What the version takes.

    Raises:
        InvalidInputError: Batch would refuse it.
    """
    checked = _check(members, "members")
    _check_count(len(checked.values), "give at least one, or delete the audience")
    _check_extras(checked, rules)
    return _encode(checked)


@attrs.frozen
class _Checked:
    """A list of values that can be ids; `joined` runs them together where no Member is among them."""

    values: _Listed
    joined: str | None
    place: str
    start: int


def _check(values: object, place: str, start: int = 0) -> _Checked:
    """Do the work of `check_members`, and keep what was found out on the way."""
    listed = _to_list(values, place)
    joined = _join(listed)
    if joined is None or not _all_ids(listed, joined):
        for index, value in enumerate(listed, start):
            if not isinstance(value, Member):  # it has checked its own id
                check_id(value, f"{place}[{index}]")
    return _Checked(listed, joined, place, start)


def _to_list(values: object, place: str) -> _Listed:
    """Return *values* as a list, unless they are one thing or a stream."""
    if isinstance(values, list | tuple):
        return values
    if isinstance(values, str | bytes | bytearray | Member):
        msg = f"{place} must be a list of ids, not one {type(values).__name__}: write {place}=[id]"
        raise InvalidInputError(msg)
    if not isinstance(values, Collection) or isinstance(values, Mapping):
        msg = f"{place} must be a list of ids, not {type(values).__name__}: write {place}=list(…)"
        raise InvalidInputError(msg)
    return list(values)


def _join(values: _Listed) -> str | None:
    """Run plain strings together; None when something else is among them."""
    try:
        return "".join(values)
    except TypeError:
        return None


def _all_ids(values: _Listed, joined: str) -> bool:
    """Tell what `check_id` would of each string in *values*, but of all at once."""
    lengths = set(map(len, values))
    if 0 in lengths or max(lengths, default=0) > MAX_ID_LENGTH or "\0" in joined:
        return False
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_count(count: int, remedy: str) -> None:
    """Check that one request can hold *count* ids."""
    if not count:
        msg = f"no ids: {remedy}"
        raise InvalidInputError(msg)
    # https://doc.batch.com/developer/api/cep/audiences/update: "you can make several calls".
    if count > MAX_IDS:
        msg = f"{count:,} ids: Batch takes at most {MAX_IDS:,} in one request; use upload() for more"
        raise InvalidInputError(msg)


def _check_extras(checked: _Checked, rules: MemberRules) -> None:
    """Check that the version takes what the Members carry."""
    for index, member in _members(checked):
        if member.attributes and not rules.attributes:
            msg = f"{checked.place}[{index}]: {rules.api} takes no attributes; 1.1 and 2.x do"
            raise InvalidInputError(msg)
        if member.tags and not rules.tags:
            msg = f"{checked.place}[{index}]: {rules.api} takes no tags; 1.1 does"
            raise InvalidInputError(msg)


def _check_bare(checked: _Checked) -> None:
    """Check that no Member carries more than its id."""
    for index, member in _members(checked):
        if member.attributes or member.tags:
            msg = f"{checked.place}[{index}]: attributes and tags go with ids to add; here give the id alone"
            raise InvalidInputError(msg)


def _members(checked: _Checked) -> Iterator[tuple[int, Member]]:
    """Yield the Members among the values, with their positions."""
    if checked.joined is None:
        for index, value in enumerate(checked.values, checked.start):
            if isinstance(value, Member):
                yield index, value


def _check_disjoint(added: _Checked, removed: _Checked) -> None:
    """Check that no id is both to add and to remove: Batch would obey one of the two."""
    if not added.values or not removed.values:
        return
    both = set(_ids(added)).intersection(_ids(removed))
    if both:
        first = next(index for index, value in enumerate(_ids(added)) if value in both)
        second = list(_ids(removed)).index(_id_of(added.values[first]))
        msg = f"add[{first}] and remove[{second}] are the same id: either add it or remove it"
        raise InvalidInputError(msg)


def _ids(checked: _Checked) -> Iterable[str]:
    """Return the ids of the values, in order."""
    return checked.values if checked.joined is not None else map(_id_of, checked.values)


def _id_of(value: str | Member) -> str:
    """Return the id of one value."""
    return value.id if isinstance(value, Member) else value


def _encode(checked: _Checked, action: str | None = None, *, distinct: bool = False) -> bytes:
    """Write the values as JSON objects with commas between them; of values with one id, only the last."""
    if not checked.values:
        return b""
    # JSON escapes with a backslash, so what has none in its JSON is its own JSON.
    if checked.joined is not None and b"\\" not in orjson.dumps(checked.joined):
        ids = checked.values
        once = ids if distinct or len(set(ids)) == len(ids) else dict.fromkeys(ids)
        return _encode_verbatim(once, action)
    rows = {_id_of(value): _row(value, action) for value in checked.values}
    # Names may be of subclasses of str, and floats of float's, such as NumPy's.
    return orjson.dumps(list(rows.values()), default=_plain, option=orjson.OPT_NON_STR_KEYS)[1:-1]


def _encode_verbatim(ids: Iterable[str], action: str | None) -> bytes:
    """Write ids that need no escaping; several times as fast as a dict for each."""
    head = f'{{"action":"{action}","id":"' if action else '{"id":"'
    return "".join((head, f'"}},{head}'.join(ids), '"}')).encode()


def _row(value: str | Member, action: str | None) -> dict[str, Any]:
    """Return one element of `ids`."""
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
    """Return what orjson takes for *value*: a Member's read-only attributes, or a kind of float in them."""
    return value.copy() if isinstance(value, MappingProxyType) else float(value)
