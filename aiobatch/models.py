"""Values of an audience, in Batch's own terms. All of them are frozen."""

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
    AttributeInput,
    AttributeValue,
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
    "AttributeInput",
    "AttributeValue",
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
    """A string enum that keeps an unknown value as a member equal to that string."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        # A word that Batch adds later must not end a wait or a view.
        member = str.__new__(cls, value)
        member._name_ = member._value_ = value
        return member

    # Before 3.11.4 an enum was pickled and copied by its name, which an unknown word has not.
    def __reduce_ex__(self, _: object) -> tuple[type[Self], tuple[str]]:
        """Pickle by the value."""
        return type(self), (self._value_,)

    def __copy__(self) -> Self:
        """Return the member itself, which is immutable."""
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Return the member itself, which is immutable."""
        return self

    @property
    def is_known(self) -> bool:
        """Whether Batch documents this value."""
        return type(self).__members__.get(self._name_) is self


# The words in responses of 2.x. CUSTOM_ID is documented, the others are inferred from it.
_ANSWERED_ID_TYPES: Mapping[object, str] = {
    "CUSTOM_ID": "custom_ids",
    "EMAIL": "emails",
    "INSTALL_ID": "install_ids",
}


class IdType(_OpenStrEnum):
    """The type of an audience's IDs. Any other type is kept as it is.

    Batch documents `custom_ids` and `advertising_ids` for 1.0, `install_ids` for 1.1 and `custom_ids` for
    2.x. Its product page names e-mails and install IDs for 2.x too, but not how to write them: these two are
    inferred. A project passes any type on to Batch.
    """

    CUSTOM_IDS = "custom_ids"
    ADVERTISING_IDS = "advertising_ids"
    INSTALL_IDS = "install_ids"
    EMAILS = "emails"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if isinstance(value, str) and value in _ANSWERED_ID_TYPES:
            return cls(_ANSWERED_ID_TYPES[value])
        return super()._missing_(value)


class IndexingState(_OpenStrEnum):
    """The state of an update. An undocumented state is kept as it is."""

    IN_PROGRESS = "IN_PROGRESS"
    APPLIED = "APPLIED"
    REPLACED = "REPLACED"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        # The text of the update page writes IN_PROCESS.
        return cls("IN_PROGRESS") if value == "IN_PROCESS" else super()._missing_(value)


class Operation(enum.StrEnum):
    """The operation that an indexing token belongs to."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


class Outcome(enum.StrEnum):
    """The outcome of the wait for a token."""

    APPLIED = "APPLIED"
    REPLACED = "REPLACED"
    TIMED_OUT = "TIMED_OUT"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class Audience:
    """An audience as Batch shows it. A field that is missing or cannot be read is None.

    Attributes:
        name: Its name, case-sensitive.
        id_type: The type of its IDs.
        description: 1.x `description` or 2.x `display_name`.
        nb_ids: Number of IDs that Batch counts. It may lag behind what was applied.
        indexing_state: State of the requested token, or of the last update.
        created: Time of creation, UTC.
        updated: Time of the last change, UTC.
    """

    name: str
    id_type: IdType | None = None
    description: str | None = None
    nb_ids: int | None = None
    indexing_state: IndexingState | None = None
    created: dt.datetime | None = None
    updated: dt.datetime | None = None


def _counted(values: Sized) -> str:
    """Return only the number of values, because a repr ends up in logs and the values are personal data."""
    return f"<{len(values)}>"


@attrs.frozen
class Member:
    """An ID with its attributes and tags. Its repr shows none of them.

    Attributes:
        id: The ID: 1 to 1,024 characters without NUL.
        attributes: At most 15, in 1.1 and 2.x only. A value is a string, integer, float, boolean or a list of
            these. The value of `date(name)` is a `datetime`, a `date` or an ISO 8601 string, in UTC unless it
            has a time zone. The value of `url(name)` is an http(s) URL.
        tags: Strings, in 1.1 only.

    Raises:
        InvalidInputError: A value is invalid. The message contains its location.
    """

    id: str = attrs.field(validator=lambda _self, _field, value: check_id(value, "Member.id"), repr=_counted)
    attributes: Mapping[str, AttributeValue] = attrs.field(
        default=MappingProxyType({}), converter=to_attributes, kw_only=True, hash=False, repr=_counted
    )
    tags: tuple[str, ...] = attrs.field(default=(), converter=to_tags, kw_only=True, repr=_counted)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the mapping proxy, which cannot be pickled."""
        return functools.partial(Member, attributes=dict(self.attributes), tags=self.tags), (self.id,)


def _to_operation(value: str) -> Operation:
    try:
        return Operation(value)
    except ValueError:
        msg = f"A token's operation must be one of {', '.join(Operation)}."
        raise InvalidInputError(msg) from None


def _check_token_value(_self: object, _field: object, value: Any) -> None:
    if not is_token(value):
        msg = "An indexing token's value must be printable, without spaces or newlines. strip() it."
        raise InvalidInputError(msg)


@attrs.frozen
class IndexingToken:
    """The receipt of an accepted operation.

    `str(token)` is its text for a queue or a file. `await_applied` and `settle` accept the text, and `parse`
    reads it.

    Attributes:
        audience: The audience's name.
        value: Batch's `indexing_token`.
        operation: The accepted operation.
    """

    audience: str = attrs.field(validator=lambda _self, _field, value: check_name(value))
    value: str = attrs.field(validator=_check_token_value)
    operation: Operation = attrs.field(default=Operation.UPDATE, converter=_to_operation)

    def __str__(self) -> str:
        """Return `audience:operation:value`."""
        return f"{self.audience}:{self.operation}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the token of a text.

        Args:
            text: `audience:operation:value`, as `str(token)` returns it.

        Raises:
            InvalidInputError: The text has another form.
        """
        parts = text.split(":", 2) if isinstance(text, str) else ()
        if len(parts) != len(attrs.fields(cls)):
            msg = (
                "Not the text of an indexing token, 'audience:operation:value', as str(token) returns it. "
                "For Batch's bare token pass audience= too."
            )
            raise InvalidInputError(msg)
        audience, operation, value = parts
        return cls(audience, value, operation)


@attrs.frozen(kw_only=True)
class Settled:
    """The outcome of the wait for one token, with its audience or its error.

    Attributes:
        token: The token.
        outcome: APPLIED, REPLACED, TIMED_OUT or FAILED.
        audience: The audience as last seen. None unless APPLIED.
        error: The error that `await_applied` would have raised. None if APPLIED.
    """

    token: IndexingToken
    outcome: Outcome
    audience: Audience | None = None
    error: AiobatchError | None = None
