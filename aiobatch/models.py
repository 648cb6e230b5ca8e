"""What an audience is made of: frozen values that carry Batch's own words."""

from __future__ import annotations

import datetime as dt
import enum
import functools
from collections.abc import Mapping, Sized
from types import MappingProxyType
from typing import Any, Self

import attrs

from ._validation import (
    MAX_ATTRIBUTES,
    MAX_ID_LENGTH,
    MAX_IDS,
    check_id,
    check_name,
    is_token,
    to_attributes,
    to_tags,
)
from .errors import AiobatchError, InvalidInputError

__all__ = [
    "MAX_ATTRIBUTES",
    "MAX_IDS",
    "MAX_ID_LENGTH",
    "Audience",
    "IdType",
    "IndexingState",
    "IndexingToken",
    "Member",
    "Operation",
    "Outcome",
    "Settled",
    "check_id",
    "check_name",
]


class _OpenStrEnum(enum.StrEnum):
    """A string enum that keeps a value it does not know as a member of its own, equal to that string."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member

    @property
    def is_known(self) -> bool:
        """Whether Batch documents this value."""
        return type(self).__members__.get(self._name_) is self


class IdType(_OpenStrEnum):
    """What the ids of an audience are; a type that Batch does not document survives as itself."""

    CUSTOM_IDS = "custom_ids"
    ADVERTISING_IDS = "advertising_ids"
    INSTALL_IDS = "install_ids"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # 2.x answers CUSTOM_ID where it is asked for custom_ids.
        return cls("custom_ids") if value == "CUSTOM_ID" else super()._missing_(value)


class IndexingState(_OpenStrEnum):
    """How far Batch is with an update; a state that Batch does not document survives as itself."""

    IN_PROGRESS = "IN_PROGRESS"
    APPLIED = "APPLIED"
    REPLACED = "REPLACED"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # The update page's prose writes IN_PROCESS.
        return cls("IN_PROGRESS") if value == "IN_PROCESS" else super()._missing_(value)


class Operation(enum.StrEnum):
    """What an indexing token stands for."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


class Outcome(enum.StrEnum):
    """How the wait for a token ended."""

    APPLIED = "APPLIED"
    REPLACED = "REPLACED"
    TIMED_OUT = "TIMED_OUT"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class Audience:
    """An audience as Batch shows it.

    Attributes:
        name: Its name, case sensitive.
        id_type: What its ids are.
        description: 1.x `description` or 2.x `display_name`.
        nb_ids: Ids that Batch counts; may lag behind what was applied.
        indexing_state: State of the token that was asked about, or of the last update; None where the answer
            has none.
        created: When it was made; UTC.
        updated: When it last changed; UTC.
    """

    name: str
    id_type: IdType
    description: str | None = None
    nb_ids: int | None = None
    indexing_state: IndexingState | None = None
    created: dt.datetime | None = None
    updated: dt.datetime | None = None


def _counted(values: Sized) -> str:
    """Show how many values there are: they say who somebody is, and a repr ends up in logs."""
    return f"<{len(values)}>"


@attrs.frozen
class Member:
    """An id with what Batch shall know of it; its repr shows neither.

    Attributes:
        id: The id: 1 to 1,024 characters without NUL.
        attributes: At most 15; values are string, integer, float, boolean or a list of these. `date(name)`
            takes a `datetime` with a time zone or an ISO 8601 string, `url(name)` an http(s) URL. 1.1 and 2.x
            only.
        tags: Strings. 1.1 only.

    Raises:
        InvalidInputError: A value that Batch would refuse; the text names its place.
    """

    id: str = attrs.field(validator=lambda _self, _field, value: check_id(value, "Member.id"), repr=_counted)
    attributes: Mapping[str, Any] = attrs.field(
        default=MappingProxyType({}), converter=to_attributes, kw_only=True, hash=False, repr=_counted
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=to_tags, kw_only=True, repr=_counted)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle past the mapping proxy, which cannot be pickled."""
        return functools.partial(Member, attributes=dict(self.attributes), tags=self.tags), (self.id,)


def _to_operation(value: str) -> Operation:
    """Read an operation's name."""
    try:
        return Operation(value)
    except ValueError:
        msg = f"a token's operation must be one of {', '.join(Operation)}"
        raise InvalidInputError(msg) from None


def _check_token_value(_self: object, _field: object, value: Any) -> None:
    """Refuse what cannot be a token."""
    if not is_token(value):
        msg = (
            "an indexing token's value must be printable, without spaces or a newline; strip() what was read"
        )
        raise InvalidInputError(msg)


@attrs.frozen
class IndexingToken:
    """The receipt of an accepted update; `str(token)` goes to a queue or a file, `parse` reads it back.

    Attributes:
        audience: The audience's name.
        value: Batch's `indexing_token`.
        operation: What was asked for.
    """

    audience: str = attrs.field(validator=lambda _self, _field, value: check_name(value))
    value: str = attrs.field(validator=_check_token_value)
    operation: Operation = attrs.field(default=Operation.UPDATE, converter=_to_operation)

    def __str__(self) -> str:
        """Write `audience:operation:value`."""
        return f"{self.audience}:{self.operation}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str(token)` wrote.

        Args:
            text: `audience:operation:value`.

        Raises:
            InvalidInputError: The text is something else.
        """
        parts = text.split(":", 2) if isinstance(text, str) else ()
        if len(parts) != len(attrs.fields(cls)):
            msg = (
                "not an indexing token: expected what str(token) wrote, 'audience:operation:value'; "
                "a bare token of Batch's needs its audience= beside it"
            )
            raise InvalidInputError(msg)
        audience, operation, value = parts
        return cls(audience, value, operation)


@attrs.frozen(kw_only=True)
class Settled:
    """How the wait for one token ended.

    Attributes:
        token: The token.
        outcome: APPLIED, REPLACED, TIMED_OUT or FAILED.
        audience: The audience as last seen; None unless APPLIED.
        error: What `await_applied` would have raised; None if APPLIED.
    """

    token: IndexingToken
    outcome: Outcome
    audience: Audience | None = None
    error: AiobatchError | None = None
