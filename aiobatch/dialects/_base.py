"""What every dialect can do, and the refusals that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from .._http import Request, Response
from .._validation import is_token, is_unicode
from ..errors import InvalidInputError
from ..models import Audience, IdType, IndexingState, Member
from ._member_encoding import MemberRules

Row = TypeVar("Row")

# https://doc.batch.com/developer/api/mep/custom-audience/1.0/list: `limit` is 1 to 100.
MAX_LIMIT = 100

_TAKERS = {
    IdType.CUSTOM_IDS: "App(version='1.0') or Project",
    IdType.ADVERTISING_IDS: "App(version='1.0')",
    IdType.INSTALL_IDS: "App(version='1.1')",
}


@attrs.frozen(kw_only=True)
class Page(Generic[Row]):
    """One page of the list of audiences.

    Attributes:
        rows: The page's rows, in Batch's order.
        next_cursor: What `build_list` takes for the next page; None after the last one.
        count: Audiences on all pages; on the first page of 2.x only.
    """

    rows: tuple[Row, ...]
    next_cursor: str | None = None
    count: int | None = None


@attrs.frozen
class ListedState:
    """What the poller wants to know of a row of the list."""

    name: str
    indexing_state: IndexingState | None = None


StatesPage = Page[ListedState]


class Dialect(Protocol):
    """One version of Batch's API: `build_*` makes a request, `read_*` reads its answer.

    Every `build_*` raises InvalidInputError for what Batch would refuse. Every `read_*` raises the
    ResponseError that an error status stands for, and MalformedResponseError for a 2xx that cannot be read.
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
        """What this version takes beside an id."""
        ...

    def id_type(self, wanted: IdType | str | None) -> IdType:
        """Return *wanted*, or this version's default for None, if this version takes it."""
        ...

    def check_members(self, values: object, place: str, start: int = 0) -> None:
        """Check what stands in the list *place*, `add` or `remove`, from *start* on, as an update does.

        An upload must not find in its tenth chunk what this version does not take.
        """
        ...

    def build_create(
        self, name: str, *, id_type: IdType | str | None = None, description: str | None = None
    ) -> Request:
        """Ask for a new audience; not idempotent."""
        ...

    def build_view(self, name: str, token: str | None = None) -> Request:
        """Ask for an audience, with the state of *token*'s update where one is given."""
        ...

    def build_list(self, cursor: str | None = None, *, limit: int = MAX_LIMIT) -> Request:
        """Ask for the page at *cursor*, None for the first, of at most *limit* audiences."""
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
        """Ask to add and remove members, at most 10,000 together.

        Where the caller knows that none of them has the id of another, *distinct*, that is not looked for.
        """
        ...

    def build_replace(
        self, name: str, members: Sequence[str | Member], *, id_type: IdType | str | None = None
    ) -> Request:
        """Ask to make *members*, at most 10,000, the only members."""
        ...

    def build_delete(self, name: str) -> Request:
        """Ask to delete the audience itself."""
        ...

    def read_token(self, request: Request, response: Response) -> str | None:
        """Return the indexing token of a write; None where this version answers none."""
        ...

    def read_view(self, request: Request, response: Response) -> Audience:
        """Return the audience that was asked for."""
        ...

    def read_list(self, request: Request, response: Response) -> Page[Audience]:
        """Return the page that was asked for."""
        ...

    def read_states(self, request: Request, response: Response) -> StatesPage:
        """Return the names and states of the page that was asked for: what else its rows say is not read."""
        ...


def pick_id_type(wanted: IdType | str | None, taken: Sequence[IdType], api: str) -> IdType:
    """Return *wanted*, or the first of *taken* for None.

    Raises:
        InvalidInputError: The API does not take it; the text names what does.
    """
    if wanted is None:
        return taken[0]
    try:
        chosen = IdType(wanted)
    except ValueError:
        msg = f"id_type must be an IdType or its name, not {type(wanted).__name__}"
        raise InvalidInputError(msg) from None
    if chosen in taken:
        return chosen
    if chosen in _TAKERS:
        msg = f"id_type: {api} takes {' and '.join(taken)}, not {chosen}; for those use {_TAKERS[chosen]}"
    else:
        msg = f"id_type {str(chosen)[:60]!r} is unknown; {api} takes {' and '.join(taken)}"
    raise InvalidInputError(msg)


def check_limit(limit: object) -> int:
    """Return *limit* if a page can have so many rows."""
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        msg = f"limit must be a whole number from 1 to {MAX_LIMIT}, not {limit!r}"
        raise InvalidInputError(msg)
    return limit


def check_cursor(cursor: object) -> str:
    """Return *cursor* if it can be one that Batch gave; it is opaque."""
    if not isinstance(cursor, str) or not cursor or not is_unicode(cursor):
        msg = "cursor must be the next_cursor of a page, or None for the first page"
        raise InvalidInputError(msg)
    return cursor


def check_token(token: object) -> str:
    """Return *token* if it can be an indexing token."""
    if not isinstance(token, str) or not is_token(token):
        msg = "an indexing token must be a non-empty string of printable characters without spaces"
        raise InvalidInputError(msg)
    return token


def check_description(description: object) -> str | None:
    """Return *description* if it can describe an audience."""
    if description is None:
        return None
    if not isinstance(description, str):
        msg = f"description must be a string, not {type(description).__name__}"
        raise InvalidInputError(msg)
    if not is_unicode(description):
        msg = "description must be valid Unicode; it holds a lone surrogate"
        raise InvalidInputError(msg)
    return description
