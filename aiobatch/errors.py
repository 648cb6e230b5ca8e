"""The exceptions that aiobatch raises.

::

    AiobatchError
    ├── InvalidInputError (ValueError)      an invalid argument, nothing was sent
    ├── TransportError                      no readable response
    │   ├── ConnectError                    no connection, nothing was sent
    │   └── RequestTimeoutError (TimeoutError)
    ├── ResponseError                       Batch responded with an error status
    │   ├── AuthenticationError             401
    │   ├── ForbiddenError                  403
    │   ├── AudienceNotFoundError           404
    │   ├── InvalidRequestError             400
    │   ├── RateLimitedError                429
    │   └── ServerError                     5xx
    │       └── MaintenanceError            503
    ├── MalformedResponseError              a 2xx response that cannot be read
    ├── TokenReplacedError                  a later replace superseded the update
    ├── IndexingTimeoutError (TimeoutError) not APPLIED in time
    ├── WaitInterruptedError                the client was closed or drained during a wait
    ├── ViewManyError (ExceptionGroup)      audience name -> error of each failed view
    ├── UploadError                         an upload that ended early, with its tokens so far
    └── SyncError                           the base class of the sync engine's errors

Attributes are plain values. No message contains a key or a user ID. Every error can be pickled.

A message gives what failed and why, then what to do. HTTP details come last, in brackets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from ._ranges import Ranges, format_ranges, merge_ranges
from ._remedy import Remedy

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
    "WaitInterruptedError",
]

# Errors carry tokens as text, because this module is below the models and errors must survive pickling.


class AiobatchError(Exception):
    """The base class of all errors of aiobatch."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle `args` and `__dict__`, because some constructors take keywords only, and the cause.

        A foreign cause is left out, because it may not support pickling.
        """
        cause = self.__cause__ if isinstance(self.__cause__, AiobatchError) else None
        return _rebuild, (type(self), self.args, self.__dict__, cause)


def _rebuild(cls: type[AiobatchError], args: tuple[Any, ...], state: dict[str, Any], cause: Any) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, the base of TimeoutError, sets them only in __init__
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


class InvalidInputError(AiobatchError, ValueError):
    """An argument is invalid. Nothing was sent."""


class TransportError(AiobatchError):
    """No readable response arrived. Batch may or may not have processed the request.

    Attributes:
        attempts: Number of requests made, including the first.
    """

    def __init__(self, message: str, *, attempts: int = 1) -> None:
        super().__init__(message)
        self.attempts = attempts


class ConnectError(TransportError):
    """No connection could be opened, or the request was not admitted in time. Nothing was sent.

    Attributes:
        lasting: Whether retrying cannot help, as with an untrusted certificate.
    """

    def __init__(self, message: str, *, attempts: int = 1, lasting: bool = False) -> None:
        super().__init__(message, attempts=attempts)
        self.lasting = lasting


class RequestTimeoutError(TransportError, TimeoutError):
    """A request took longer than `RetryPolicy.request_timeout`. Its outcome is unknown."""


class ResponseError(AiobatchError):
    """Batch responded with an error status.

    Attributes:
        problem: What failed and why, in full sentences.
        advice: What to do, in full sentences. Empty if there is none.
        status: The HTTP status.
        code: Batch's error number, or None.
        name: Batch's error name (`MALFORMED_PARAMETER`), or None.
        message: The error message in the response, or None.
        method: The HTTP method.
        path: The path, with its key redacted.
        attempts: Number of requests made, including the first.
        is_foreign: Whether the body is no JSON object, so that a proxy may have sent the response.
    """

    def __init__(  # noqa: PLR0913  # the fields of a response, each by keyword
        self,
        problem: str,
        *,
        advice: str = "",
        status: int,
        method: str,
        path: str,
        code: int | None = None,
        name: str | None = None,
        message: str | None = None,
        attempts: int = 1,
        is_foreign: bool = False,
    ) -> None:
        reason = name or (None if code is None else f"code {code}")
        details = " ".join((str(status), *([reason] if reason else [])))
        tried = f", {attempts} attempts" if attempts > 1 else ""
        super().__init__(" ".join((problem, *([advice] if advice else []), f"[{details}{tried}]")))
        self.problem = problem
        self.advice = advice
        self.status = status
        self.code = code
        self.name = name
        self.message = message
        self.method = method
        self.path = path
        self.attempts = attempts
        self.is_foreign = is_foreign


class AuthenticationError(ResponseError):
    """401: a key is wrong, or belongs to another company."""


class ForbiddenError(ResponseError):
    """403: the key has no permission for this request."""


class AudienceNotFoundError(ResponseError):
    """404: the audience, or the route, does not exist."""


class InvalidRequestError(ResponseError):
    """400: Batch rejected the request as malformed."""


class RateLimitedError(ResponseError):
    """429: too many requests.

    Attributes:
        retry_after: Seconds until the client sends the next probe, if it is paused, else from `Retry-After`.
            None if neither is known.
    """

    def __init__(self, problem: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.retry_after = retry_after


class ServerError(ResponseError):
    """5xx: Batch failed. Whether the request took effect is unknown."""


class MaintenanceError(ServerError):
    """503: Batch is in maintenance. The request took no effect, or was not sent because of a pause.

    Attributes:
        retry_after: Seconds until the client sends the next probe, if it is paused, else from `Retry-After`.
            None if neither is known.
    """

    def __init__(self, problem: str, *, retry_after: float | None = None, **fields: Any) -> None:
        super().__init__(problem, **fields)
        self.retry_after = retry_after


class MalformedResponseError(AiobatchError):
    """A 2xx response that cannot be read.

    Attributes:
        problems: What is wrong and where, one line each (`"missing field 'name' @ $.audiences[3]"`).
        method: The HTTP method.
        path: The path, with its key redacted.
        attempts: Number of requests made, including the first.
    """

    def __init__(
        self, text: str, *, problems: Sequence[str] = (), method: str = "", path: str = "", attempts: int = 1
    ) -> None:
        super().__init__(text)
        self.problems = tuple(problems)
        self.method = method
        self.path = path
        self.attempts = attempts


class TokenReplacedError(AiobatchError):
    """A later replace superseded the token's update. Its IDs may not be in the audience.

    Attributes:
        token: The token's text.
        audience: The audience's name.
    """

    def __init__(self, *, token: str, audience: str) -> None:
        super().__init__(
            f"Audience {audience!r}: a later replace superseded the update. If you did not send that "
            "replace, another program writes to this audience. Find it, then send the IDs again. [REPLACED]"
        )
        self.token = token
        self.audience = audience


class IndexingTimeoutError(AiobatchError, TimeoutError):
    """The token was not APPLIED in time. Batch continues to process the update.

    Attributes:
        token: The token's text. `client.await_applied(error.token)` resumes the wait.
        audience: The audience's name.
        last_state: The last state that was seen, else the last failure, else None.
        last_failure: Text of the last failed poll, which is also the cause. None if the last poll succeeded.
        polls: Number of polls for this token during this wait.
        waited: Seconds waited.
    """

    def __init__(  # what is known of the wait, each by keyword
        self,
        *,
        token: str,
        audience: str,
        last_state: str | None,
        polls: int,
        waited: float,
        last_failure: str | None = None,
    ) -> None:
        failed = "" if last_failure is None else f"The last poll failed: {last_failure} "
        super().__init__(
            f"Audience {audience!r}: the update was not APPLIED after {waited:.1f} s and {polls} polls (last "
            f"seen: {last_state or 'nothing'}). {failed}Batch continues to process the update. "
            f"Resume with await_applied({token!r})."
        )
        self.token = token
        self.audience = audience
        self.last_state = last_state
        self.last_failure = last_failure
        self.polls = polls
        self.waited = waited


class WaitInterruptedError(AiobatchError):
    """The client was closed or drained during a wait. Batch continues to process the update.

    Attributes:
        token: The token's text. `client.await_applied(error.token)` of any other client resumes the wait.
        audience: The audience's name.
        last_state: The last state that was seen, or None.
    """

    def __init__(self, *, token: str, audience: str, last_state: str | None) -> None:
        super().__init__(
            f"Audience {audience!r}: the wait ended because the client was closed or drained (last seen: "
            f"{last_state or 'nothing'}). Batch continues to process the update. "
            f"Resume with await_applied({token!r}) of another client."
        )
        self.token = token
        self.audience = audience
        self.last_state = last_state


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
            f"Sent: {', '.join(format_ranges(self.sent)) or 'nothing'}. "
            f"Not sent: {', '.join(left) or 'nothing'}. Sending the same IDs again is safe. "
            f"Tokens of accepted chunks ({len(tokens)}) are in .tokens.{details}"
        )


class SyncError(AiobatchError):
    """A sync run failed. The sync engine's other errors derive from this one.

    As text the error ends with the library's call that fixes it, if there is one.

    Attributes:
        report: A `SyncReport` of what the run did before it failed. None if it had not started.
        remedy: The operation that fixes the problem. None if no single operation does.
    """

    report: Any = None
    remedy: Remedy | None = None

    @property
    def text(self) -> str:
        """The message without the remedy."""
        return super().__str__()

    def __str__(self) -> str:
        return self.text if self.remedy is None else f"{self.text.rstrip('.')}. {self.remedy}"


def _describe_reason(error: Exception | None) -> tuple[str, str]:
    """Return an error as text, and as sentences of another message."""
    if isinstance(error, ResponseError):
        return str(error), f" Reason: {error.problem} {error.advice}".rstrip()
    if error is None:
        return "", ""
    # The text of a foreign error may contain an ID.
    text = str(error) if isinstance(error, AiobatchError) else f"The iterable raised {type(error).__name__}."
    return text, f" Reason: {text}"
