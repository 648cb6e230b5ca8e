"""The errors of one request: no answer, an error status, or a response that cannot be read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from ._base import NOTHING_SENT, AiobatchError, InvalidInputError


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
        is_foreign: Whether the response is not in Batch's form, so that a proxy may have sent it. A 4xx then
            has no class of its own, because it does not prove what it states.
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
    """404, or 400 to a view or a delete: the audience, or the route, does not exist."""


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


def after_earlier_attempts(error: AiobatchError) -> AiobatchError:
    """Return *error* without the claim that nothing was sent, because earlier attempts were.

    Args:
        error: The error of the last attempt.

    Returns:
        The same error if it has no such claim. Else one whose class has none either.
    """
    text = str(error).replace(NOTHING_SENT, "An earlier attempt may have taken effect.")
    if isinstance(error, ConnectError):
        return TransportError(text, attempts=error.attempts)
    if isinstance(error, InvalidInputError):
        return AiobatchError(text)
    if text == str(error):
        return error
    changed = copy.copy(error)
    changed.args = (text, *error.args[1:])
    return changed
