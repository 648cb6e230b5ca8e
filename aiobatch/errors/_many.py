"""The errors of operations that send many requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from ._base import AiobatchError, without_claim
from ._ranges import Ranges, format_ranges, merge_ranges
from ._requests import ResponseError


class ViewManyError(AiobatchError, ExceptionGroup[AiobatchError]):
    """Some audiences of a `view_many` could not be viewed. All others were yielded.

    Attributes:
        errors: Audience name -> the error of its view.
    """

    errors: dict[str, AiobatchError]

    def __new__(cls, message: str, exceptions: Sequence[AiobatchError], names: Sequence[str] = ()) -> Self:
        """Create a group whose `errors` pairs *names* with *exceptions*, in order."""
        self = super().__new__(cls, message, exceptions)
        self.errors = dict(zip(names, exceptions, strict=False))
        return self

    def __init__(
        self,
        message: str,
        exceptions: Sequence[AiobatchError],
        names: Sequence[str] = (),  # noqa: ARG002  # for `__new__`, because ExceptionGroup's `__init__` does not accept it
    ) -> None:
        """See `__new__`, where ExceptionGroup stores its arguments."""
        super().__init__(message, exceptions)

    @classmethod
    def of(cls, errors: Mapping[str, AiobatchError]) -> Self:
        """Create a group from *errors*, audience name -> error."""
        message = "Some audiences could not be viewed. See .errors, which maps each name to its error."
        return cls(message, tuple(errors.values()), tuple(errors))

    def derive(self, excs: Sequence[AiobatchError]) -> ViewManyError:  # type: ignore[override]  # narrower than typeshed's
        """Keep the names of the errors that `split` and `except*` select."""
        derived = ViewManyError(self.message, excs)
        selected = {id(error) for error in excs}
        derived.errors = {name: error for name, error in self.errors.items() if id(error) in selected}
        return derived


class UploadError(AiobatchError):
    """An upload ended early, because a chunk failed permanently or an iterable of IDs raised.

    Positions count the items of the caller's iterables, from 0.

    Attributes:
        audience: The audience's name.
        reason: The text of the error that stopped the upload. Its type's name if the iterable raised it.
        status: The HTTP status of that error. None if it was no error response.
        name: Batch's error name (`API_MISUSE`), or None.
        tokens: Texts of the accepted chunks' tokens, for `settle` or `await_applied`.
        sent: Accepted positions as pairs (list, range): `("add", range(0, 10000))`.
        not_sent: Positions that were read but not accepted, as pairs (list, range). Their outcome may be
            unknown. Sending them again is safe.
        unread: List -> the first position that was never read. Nothing from there on was sent.
    """

    def __init__(
        self,
        *,
        audience: str,
        tokens: Sequence[str],
        sent: Ranges,
        not_sent: Ranges,
        unread: Mapping[str, int],
        reason: Exception | None = None,
    ) -> None:
        self.audience = audience
        response = reason if isinstance(reason, ResponseError) else None
        self.reason, why = _describe_reason(reason)
        self.status = None if response is None else response.status
        self.name = None if response is None else response.name
        details = "" if response is None else f" [{response.status}{f' {self.name}' if self.name else ''}]"
        self.tokens = tuple(tokens)
        self.sent = merge_ranges(sent)
        self.not_sent = merge_ranges(not_sent)
        self.unread = dict(unread)
        left = [*format_ranges(self.not_sent), *(f"{name}[{start}:]" for name, start in unread.items())]
        super().__init__(
            f"Audience {audience!r}: the upload stopped.{why} "
            f"Accepted: {', '.join(format_ranges(self.sent)) or 'nothing'}. "
            f"Not accepted: {', '.join(left) or 'nothing'}. Sending the same IDs again is safe. "
            f"Tokens of accepted chunks ({len(tokens)}) are in .tokens.{details}"
        )


def _describe_reason(error: Exception | None) -> tuple[str, str]:
    """Return an error as text, and as sentences of another message."""
    if isinstance(error, ResponseError):
        return without_claim(str(error)), without_claim(f" Reason: {error.problem} {error.advice}".rstrip())
    if error is None:
        return "", ""
    # The text of a foreign error may contain an ID.
    text = str(error) if isinstance(error, AiobatchError) else f"The iterable raised {type(error).__name__}."
    return without_claim(text), f" Reason: {without_claim(text)}"
