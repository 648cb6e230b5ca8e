"""What one request says, read and made ready in the thread: members are many, and checks take time."""

from __future__ import annotations

import attrs
import orjson

from ..errors import InvalidInputError
from ..models import Member
from ._journal import Actions, Journal


class UnfitMemberError(InvalidInputError):
    """An id's attributes or tags cannot be sent; the text names them and not the id."""


@attrs.frozen(kw_only=True)
class Payload:
    """What one request says.

    Attributes:
        add: Ids to add, those with attributes or tags as Members.
        remove: Ids to remove.
    """

    add: list[str | Member]
    remove: list[str]


def read_payload(journal: Journal, n: int) -> Payload:
    """Read what a chunk's request says.

    Args:
        journal: The journal.
        n: The chunk's number.

    Raises:
        UnfitMemberError: A member cannot be sent.
    """
    actions = journal.actions(n)
    return Payload(add=_members(actions), remove=actions.remove)


def _members(actions: Actions) -> list[str | Member]:
    """Return the ids to add, those with attributes or tags as Members."""
    with_more = actions.attributes.keys() | actions.tags.keys()
    if not with_more:
        return list(actions.add)
    try:
        return [_member(actions, id_) if id_ in with_more else id_ for id_ in actions.add]
    except InvalidInputError as error:
        raise UnfitMemberError(str(error)) from None


def _member(actions: Actions, id_: str) -> Member:
    """Return an id with all that goes with it."""
    attributes = orjson.loads(actions.attributes.get(id_, b"{}"))
    return Member(id_, attributes=attributes, tags=actions.tags.get(id_, ()))
