"""The interface of all dialects, and the argument checks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from .._validation import is_token, is_unicode
from ..errors import InvalidInputError
from ..interfaces import Request, Response
from ..models import Audience, IdType, IndexingState, Member
from ._member_encoding import MemberRules

Row = TypeVar("Row")

# https://doc.batch.com/developer/api/mep/custom-audience/1.0/list: `limit` is 1 to 100.
MAX_LIMIT = 100

# The versions that accept a type that another version refuses. A project passes any type on.
_ACCEPTED_BY = {
    IdType.CUSTOM_IDS: "App(version='1.0') or Project",
    IdType.ADVERTISING_IDS: "App(version='1.0')",
    IdType.INSTALL_IDS: "App(version='1.1') or Project",
}
_LONGEST_ID_TYPE = 60


@attrs.frozen(kw_only=True)
class Page(Generic[Row]):
    """One page of the list of audiences.

    Attributes:
        rows: The page's rows, in Batch's order.
        next_cursor: The cursor of the next page, for `build_list`. None after the last page.
        count: The number of audiences on all pages. Only the first page of 2.x has it.
    """

    rows: tuple[Row, ...]
    next_cursor: str | None = None
    count: int | None = None


@attrs.frozen
class ListedState:
    """The part of a list's row that the poller uses."""

    name: str
    indexing_state: IndexingState | None = None


StatesPage = Page[ListedState]


class Dialect(Protocol):
    """One version of Batch's API: `build_*` returns a request, `read_*` reads its response.

    Every `build_*` raises InvalidInputError for arguments that Batch would reject. Every `read_*` raises a
    ResponseError for an error status, and MalformedResponseError for a 2xx response that it cannot read.
    """

    @property
    def version(self) -> str:
        """The API's version, such as `"1.0"` or `"2.11"`."""
        ...

    @property
    def lists_states(self) -> bool:
        """Whether the rows of a list carry `indexing_state`."""
        ...

    @property
    def rules(self) -> MemberRules:
        """Whether members can have attributes and tags in this version."""
        ...

    def id_type(self, wanted: IdType | str | None) -> IdType:
        """Return *wanted*, or this version's default for None, if this version accepts it."""
        ...

    def check_members(self, values: object, place: str, start: int = 0) -> None:
        """Check members as `build_update` does, so that an upload can do it before its first request.

        Args:
            values: IDs and Members.
            place: The argument that they come from, `add` or `remove`.
            start: The position of the first one in that argument.

        Raises:
            InvalidInputError: A value is no valid ID, or this version does not accept what a Member has.
        """
        ...

    def build_create(
        self, name: str, *, id_type: IdType | str | None = None, description: str | None = None
    ) -> Request:
        """Return the request that creates an audience. It is not idempotent."""
        ...

    def build_view(self, name: str, token: str | None = None) -> Request:
        """Return the request for an audience, with the state of *token*'s update if there is a token."""
        ...

    def build_list(self, cursor: str | None = None, *, limit: int = MAX_LIMIT) -> Request:
        """Return the request for the page at *cursor* (None: the first) of at most *limit* audiences."""
        ...

    def build_update(
        self,
        name: str,
        add: Sequence[str | Member],
        remove: Sequence[str | Member],
        *,
        id_type: IdType | str | None = None,
        distinct: bool = False,
    ) -> Request:
        """Return the request that adds and removes members, at most 10,000 together.

        Args:
            name: The audience's name.
            add: Members to add.
            remove: Members to remove.
            id_type: The type of the IDs. Default: the version's.
            distinct: Whether the caller knows that no two members have the same ID. It saves the check.
        """
        ...

    def build_replace(
        self, name: str, members: Sequence[str | Member], *, id_type: IdType | str | None = None
    ) -> Request:
        """Return the request that replaces all members with *members*, at most 10,000."""
        ...

    def build_delete(self, name: str) -> Request:
        """Return the request that deletes the audience."""
        ...

    def read_token(self, request: Request, response: Response) -> str | None:
        """Return the indexing token of a write. None if the operation has none in this version."""
        ...

    def read_view(self, request: Request, response: Response) -> Audience:
        """Return the requested audience."""
        ...

    def read_list(self, request: Request, response: Response) -> Page[Audience]:
        """Return the requested page."""
        ...

    def read_states(self, request: Request, response: Response) -> StatesPage:
        """Return the requested page with nothing but names and states, which is faster."""
        ...


def pick_id_type(wanted: IdType | str | None, accepted: Sequence[IdType], api: str) -> IdType:
    """Return *wanted*, or the first of *accepted* for None.

    Raises:
        InvalidInputError: The API does not accept it. The message names a version that does.
    """
    chosen = read_id_type(wanted, accepted[0])
    if chosen in accepted:
        return chosen
    msg = (
        f"id_type: {api} accepts {' and '.join(accepted)}, not {chosen}. "
        f"For {chosen}, use {_ACCEPTED_BY.get(chosen, 'Project')}."
    )
    raise InvalidInputError(msg)


def read_id_type(wanted: IdType | str | None, default: IdType) -> IdType:
    """Return *wanted* as a type of IDs, whether documented or not, or *default* for None.

    Raises:
        InvalidInputError: It is no type that can be sent.
    """
    if wanted is None:
        return default
    if not isinstance(wanted, str):
        msg = f"id_type must be an IdType or its name, not {type(wanted).__name__}."
        raise InvalidInputError(msg)
    if not is_token(wanted) or len(wanted) > _LONGEST_ID_TYPE:
        msg = f"id_type must be a name such as 'custom_ids', at most {_LONGEST_ID_TYPE} characters long."
        raise InvalidInputError(msg)
    return IdType(wanted)


def check_limit(limit: object) -> int:
    """Return *limit* if it is a valid number of rows of a page."""
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        msg = f"limit must be an integer from 1 to {MAX_LIMIT}, not {limit!r}."
        raise InvalidInputError(msg)
    return limit


def check_cursor(cursor: object) -> str:
    """Return *cursor* if it can be a cursor of Batch, which is opaque."""
    if not isinstance(cursor, str) or not cursor or not is_unicode(cursor):
        msg = "cursor must be the next_cursor of a page, or None for the first page."
        raise InvalidInputError(msg)
    return cursor


def check_token(token: object) -> str:
    """Return *token* if it can be an indexing token."""
    if not isinstance(token, str) or not is_token(token):
        msg = "An indexing token must be a non-empty string of printable characters without spaces."
        raise InvalidInputError(msg)
    return token


def check_description(description: object) -> str | None:
    """Return *description* if it is text that can be sent."""
    if description is None:
        return None
    if not isinstance(description, str):
        msg = f"description must be a string, not {type(description).__name__}."
        raise InvalidInputError(msg)
    if not is_unicode(description):
        msg = "description must be valid Unicode, but it contains a lone surrogate."
        raise InvalidInputError(msg)
    return description
