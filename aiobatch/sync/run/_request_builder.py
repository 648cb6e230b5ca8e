"""What one request says, read and built in the thread: members are many, and writing them takes time."""

from __future__ import annotations

import attrs
import orjson

from ..._http import Request
from ...dialects import Dialect
from ...errors import InvalidInputError
from ...models import IdType, Member
from .._options import Mode
from ..state._journal import Journal
from ..state._run_changes import Actions


class UnfitMemberError(InvalidInputError):
    """An id's attributes or tags cannot be sent; the text names them and not the id."""


@attrs.frozen
class Builder:
    """Builds the requests of a journal.

    Attributes:
        journal: What is sent.
        dialect: That of the client's target.
        id_type: What the ids are.
    """

    journal: Journal
    dialect: Dialect
    id_type: IdType

    def build(self, n: int) -> Request:
        """Build a chunk's request; it blocks.

        Args:
            n: The chunk's number.

        Raises:
            UnfitMemberError: A member cannot be sent.
            InvalidInputError: The request cannot be.
            StateError: It could not be read.
        """
        journal, actions = self.journal, self.journal.actions(n)
        add = _members(actions)
        if journal.mode is Mode.REPLACE:
            return self.dialect.build_replace(journal.audience, add, id_type=self.id_type)
        return self.dialect.build_update(journal.audience, add, actions.remove, id_type=self.id_type)


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
