"""Builds a chunk's request in the state's thread, because reading and writing many members takes time."""

from __future__ import annotations

import attrs
import orjson

from ...dialects import Dialect
from ...errors import InvalidInputError
from ...interfaces import Request
from ...models import IdType, Member
from .._options import Mode
from ..state._journal import Journal
from ..state._run_changes import Actions


class UnfitMemberError(InvalidInputError):
    """An ID's attributes or tags cannot be sent. The text names them, and not the ID."""


@attrs.frozen
class RequestBuilder:
    """Builds the requests of a journal's chunks.

    Attributes:
        journal: The journal.
        dialect: The dialect of the client's target.
        id_type: The type of the IDs.
    """

    journal: Journal
    dialect: Dialect
    id_type: IdType

    def build(self, n: int) -> Request:
        """Build a chunk's request. It blocks.

        Args:
            n: The chunk's number.

        Raises:
            UnfitMemberError: A member cannot be sent.
            InvalidInputError: The request cannot be built.
            StateError: The chunk could not be read.
        """
        journal, actions = self.journal, self.journal.actions(n)
        add = _members(actions)
        if journal.mode is Mode.REPLACE:
            return self.dialect.build_replace(journal.audience, add, id_type=self.id_type)
        return self.dialect.build_update(journal.audience, add, actions.remove, id_type=self.id_type)


def _members(actions: Actions) -> list[str | Member]:
    """Return the IDs to add, as Members if they have attributes or tags."""
    with_more = actions.attributes.keys() | actions.tags.keys()
    if not with_more:
        return list(actions.add)
    try:
        return [_member(actions, id_) if id_ in with_more else id_ for id_ in actions.add]
    except InvalidInputError as error:
        raise UnfitMemberError(str(error)) from None


def _member(actions: Actions, id_: str) -> Member:
    attributes = orjson.loads(actions.attributes.get(id_, b"{}"))
    return Member(id_, attributes=attributes, tags=actions.tags.get(id_, ()))
