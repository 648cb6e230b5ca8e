"""Everything that aiobatch raises.

::

    AiobatchError
    ├── InvalidInputError (ValueError)      before any I/O: nothing was sent
    ├── TransportError                      no readable answer
    │   ├── ConnectError                    no connection: nothing was sent
    │   └── RequestTimeoutError (TimeoutError)
    ├── ResponseError                       Batch answered with an error status
    │   ├── AuthenticationError             401
    │   ├── ForbiddenError                  403
    │   ├── AudienceNotFoundError           404
    │   ├── InvalidRequestError             400
    │   ├── RateLimitedError                429
    │   └── ServerError                     5xx
    │       └── MaintenanceError            503
    ├── MalformedResponseError              a 2xx that cannot be read
    ├── TokenReplacedError                  a later replace superseded the update
    ├── IndexingTimeoutError (TimeoutError) not APPLIED in time
    ├── ViewManyError (ExceptionGroup)      name -> error of every view that failed
    ├── UploadError                         what was sent, what was not, tokens so far
    └── SyncError                           the sync engine's; its own are below it

Attributes are plain values, no text holds a key or a user id, and every error survives pickling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

__all__ = [
    "AiobatchError",
    "AudienceNotFoundError",
    "AuthenticationError",
    "ConnectError",
    "ForbiddenError",
    "IndexingTimeoutError",
    "InvalidInputError",
    "InvalidRequestError",
    "MaintenanceError",
    "MalformedResponseError",
    "RateLimitedError",
    "RequestTimeoutError",
    "ResponseError",
    "ServerError",
    "SyncError",
    "TokenReplacedError",
    "TransportError",
    "UploadError",
    "ViewManyError",
]


# Ranges that the text of an UploadError spells out; its attributes have them all.
_SPELLED = 5


class AiobatchError(Exception):
    """The root: `except AiobatchError` catches whatever aiobatch raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from `args` and `__dict__`, past constructors that take keywords only."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(cls: type[AiobatchError], args: tuple[Any, ...], state: dict[str, Any]) -> AiobatchError:
    """Unpickle or copy an error."""
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, the base of TimeoutError, fills them in __init__ alone
    error.__dict__.update(state)
    return error


class InvalidInputError(AiobatchError, ValueError):
    """The caller gave something that Batch would refuse or that cannot be meant; nothing was sent."""


class TransportError(AiobatchError):
    """No readable answer came; the request may or may not have reached Batch.

    Attributes:
        attempts: Requests made, the first one included.
    """

    attempts: int

    def __init__(self, message: str, *, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


class ConnectError(TransportError):
    """No connection could be made; nothing was sent.

    Attributes:
        lasting: Whether waiting does not mend it, as with a certificate that is not trusted.
    """

    lasting: bool

    def __init__(self, message: str, *, attempts: int = 1, lasting: bool = False) -> None:
        super().__init__(message, attempts=attempts)
        self.lasting = lasting


class RequestTimeoutError(TransportError, TimeoutError):
    """One request took longer than `RetryPolicy.request_timeout`; its outcome is unknown."""


class ResponseError(AiobatchError):
    """Batch answered with an error status.

    Attributes:
        status: The HTTP status.
        code: Batch's number of the error, where the body gave one.
        name: Batch's name of the error (`MALFORMED_PARAMETER`), where known.
        message: Batch's own words, where the body gave any.
        method: The HTTP method.
        path: The path, its key redacted.
        attempts: Requests made, the first one included.
    """

    status: int
    code: int | None
    name: str | None
    message: str | None
    method: str
    path: str
    attempts: int

    def __init__(  # noqa: PLR0913  # what an answer has, each by keyword
        self,
        text: str,
        *,
        status: int,
        method: str,
        path: str,
        code: int | None = None,
        name: str | None = None,
        message: str | None = None,
        attempts: int = 1,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.name = name
        self.message = message
        self.method = method
        self.path = path
        self.attempts = attempts


class AuthenticationError(ResponseError):
    """401: a key is wrong, or belongs to another company."""


class ForbiddenError(ResponseError):
    """403: the key is known but may not do this."""


class AudienceNotFoundError(ResponseError):
    """404: there is no such audience (or no such route: see `name`)."""


class InvalidRequestError(ResponseError):
    """400: Batch refused the request as malformed."""


class RateLimitedError(ResponseError):
    """429: too many requests.

    Attributes:
        retry_after: Seconds that Batch asked to wait, where it said so.
    """

    retry_after: float | None

    def __init__(self, text: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(text, **fields)
        self.retry_after = retry_after


class ServerError(ResponseError):
    """5xx: Batch failed; whether the request took effect is unknown."""


class MaintenanceError(ServerError):
    """503: Batch is in maintenance; the request took no effect."""


class MalformedResponseError(AiobatchError):
    """A 2xx answer that cannot be read.

    Attributes:
        problems: What is wrong and where, one line each (`"missing field 'name' @ $.audiences[3]"`).
        method: The HTTP method.
        path: The path, its key redacted.
        attempts: Requests made, the first one included.
    """

    problems: tuple[str, ...]
    method: str
    path: str
    attempts: int

    def __init__(
        self, text: str, *, problems: Sequence[str] = (), method: str = "", path: str = "", attempts: int = 1
    ) -> None:
        super().__init__(text)
        self.problems = tuple(problems)
        self.method = method
        self.path = path
        self.attempts = attempts


class TokenReplacedError(AiobatchError):
    """The token's update was superseded by a later replace: its ids may not be in the audience.

    Attributes:
        token: The token as a string, for `IndexingToken.parse`.
        audience: The audience's name.
    """

    token: str
    audience: str

    def __init__(self, *, token: str, audience: str) -> None:
        super().__init__(
            f"audience {audience!r}: the update was REPLACED, a later replace superseded it; unless that "
            "replace was yours, another writer uses this audience: settle who does, then send the ids again"
        )
        self.token = token
        self.audience = audience


class IndexingTimeoutError(AiobatchError, TimeoutError):
    """The token was not APPLIED in time; the update itself goes on at Batch.

    Attributes:
        token: The token as a string: `client.await_applied(IndexingToken.parse(error.token))` resumes.
        audience: The audience's name.
        last_state: The last state seen or, where none was, the last failure; None when nothing was seen.
        polls: Polls made for this token while this call waited.
        waited: Seconds waited.
    """

    token: str
    audience: str
    last_state: str | None
    polls: int
    waited: float

    def __init__(
        self, *, token: str, audience: str, last_state: str | None, polls: int, waited: float
    ) -> None:
        super().__init__(
            f"audience {audience!r}: not APPLIED after {waited:.1f} s and {polls} polls (last seen: "
            f"{last_state or 'nothing'}); the update goes on at Batch, resume the wait with "
            f"await_applied(IndexingToken.parse({token!r}))"
        )
        self.token = token
        self.audience = audience
        self.last_state = last_state
        self.polls = polls
        self.waited = waited


class ViewManyError(AiobatchError, ExceptionGroup[AiobatchError]):
    """Some audiences of a `view_many` could not be had; all the others were yielded.

    Attributes:
        errors: Audience name -> the error of its view.
    """

    errors: dict[str, AiobatchError]

    def __new__(cls, message: str, exceptions: Sequence[AiobatchError], names: Sequence[str] = ()) -> Self:
        """Build a group whose `errors` pairs *names* with *exceptions*, in order; no names, no pairs."""
        self = super().__new__(cls, message, exceptions)
        self.errors = dict(zip(names, exceptions, strict=False))
        return self

    def __init__(
        self,
        message: str,
        exceptions: Sequence[AiobatchError],
        names: Sequence[str] = (),  # noqa: ARG002  # `__new__` takes it, ExceptionGroup's `__init__` would not
    ) -> None:
        """See `__new__`; ExceptionGroup keeps its arguments there."""
        super().__init__(message, exceptions)

    @classmethod
    def of(cls, errors: Mapping[str, AiobatchError]) -> Self:
        """Group *errors*, audience name -> error."""
        message = "some audiences could not be viewed; .errors maps each one's name to its error"
        return cls(message, tuple(errors.values()), tuple(errors))

    def derive(self, excs: Sequence[AiobatchError]) -> ViewManyError:  # type: ignore[override]  # narrower than typeshed's
        """Keep the names beside the errors that `split` and `except*` select."""
        derived = ViewManyError(self.message, excs)
        selected = {id(error) for error in excs}
        derived.errors = {name: error for name, error in self.errors.items() if id(error) in selected}
        return derived


class UploadError(AiobatchError):
    """An upload ended early because a chunk failed for good, or because an iterable of ids raised.

    Positions count the items of the caller's own iterables from 0.

    Attributes:
        audience: The audience's name.
        tokens: Tokens of the chunks that Batch accepted, as strings for `IndexingToken.parse`.
        sent: Pairs (list, range) of accepted positions: `("add", range(0, 10000))`.
        not_sent: Pairs (list, range) of positions read but not accepted; their outcome may be unknown, and
            sending them again is safe.
        unread: List -> the first position that was never read: all from there on was not sent.
    """

    audience: str
    tokens: tuple[str, ...]
    sent: tuple[tuple[str, range], ...]
    not_sent: tuple[tuple[str, range], ...]
    unread: dict[str, int]

    def __init__(
        self,
        *,
        audience: str,
        tokens: Sequence[str],
        sent: Sequence[tuple[str, range]],
        not_sent: Sequence[tuple[str, range]],
        unread: Mapping[str, int],
    ) -> None:
        super().__init__(
            f"audience {audience!r}: the upload stopped; sent {_spell(sent)}; not sent {_spell(not_sent)}"
            f"{''.join(f', nor from {name}[{start}] on' for name, start in unread.items())}; "
            f"{len(tokens)} tokens are in .tokens, and sending the same ids again is safe"
        )
        self.audience = audience
        self.tokens = tuple(tokens)
        self.sent = tuple(sent)
        self.not_sent = tuple(not_sent)
        self.unread = dict(unread)


class SyncError(AiobatchError):
    """A sync run failed; the sync engine's own errors stand below this one.

    Attributes:
        report: What the run did until then, a `SyncReport`; None where it had not begun.
    """

    report: Any = None


def _spell(ranges: Sequence[tuple[str, range]]) -> str:
    """Write ranges as `add[0:10000], remove[0:7]`, adjacent ones as one, and not all where there are many."""
    merged: list[tuple[str, int, int]] = []
    for name, span in sorted(ranges, key=lambda item: (item[0], item[1].start)):
        adjacent = bool(merged) and merged[-1][0::2] == (name, span.start)
        start = merged.pop()[1] if adjacent else span.start
        merged.append((name, start, span.stop))
    shown = [f"{name}[{start}:{stop}]" for name, start, stop in merged[:_SPELLED]]
    if len(merged) > _SPELLED:
        shown.append(f"and {len(merged) - _SPELLED} more ranges")
    return ", ".join(shown) or "nothing"
