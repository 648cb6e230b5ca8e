"""The errors that end the wait for a token.

They carry tokens as text, because this package is below the models and errors must survive pickling.
"""

from __future__ import annotations

from ._base import AiobatchError


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
