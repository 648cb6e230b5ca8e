"""Waiting for indexing tokens."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Literal

from .._poller import settle
from ..errors import InvalidInputError
from ..models import Audience, IndexingState, IndexingToken, Operation, Settled
from ..options import check_timeout
from ._base_client import BaseClient

# The start of str(token), whatever its audience.
_TOKEN_TEXT = re.compile(f"[A-Za-z0-9_-]+:(?:{'|'.join(Operation)}):")


class WaitingClient(BaseClient):
    """The part of a client that waits for tokens."""

    async def await_applied(
        self,
        token: IndexingToken | str,
        *,
        audience: str | None = None,
        timeout: float | Literal["policy"] | None = "policy",
    ) -> Audience:
        """Wait until, and only until, *token* is APPLIED.

        Maintenance, overload and broken connections never end the wait before its deadline. Any number of
        calls may wait for one token and share its polls.

        Args:
            token: A token, the text of one (`str(token)`), or Batch's bare token with *audience*.
            audience: The audience of a bare token.
            timeout: Seconds. `"policy"` for `PollingPolicy.timeout`, None for no limit. The last poll is sent
                at the deadline.

        Returns:
            The audience as it was when the token was found APPLIED.

        Raises:
            InvalidInputError: An argument is invalid. Nothing was sent.
            TokenReplacedError: A later replace superseded the update.
            IndexingTimeoutError: The token was not APPLIED in time. The message contains the call to resume.
            WaitInterruptedError: The client was closed or drained.
            ResponseError: Batch rejected the poll in a way that waiting cannot fix: 400, 401, 403, 404, 413.
            ConnectError: No poll can be sent, as with an untrusted certificate.
        """
        self._check_usable()
        parsed = self._parse(token, audience)
        future = self._poller.subscribe(parsed, self._timeout(timeout))
        try:
            return await future
        finally:
            # Polling of a token ends with its last waiter, also when that one is cancelled.
            await self._poller.unsubscribe((parsed, future))

    async def settle(
        self, tokens: Iterable[IndexingToken | str], *, timeout: float | Literal["policy"] | None = "policy"
    ) -> AsyncGenerator[Settled, None]:
        """Wait for many tokens and yield the outcome of each, in completion order.

        Args:
            tokens: Tokens, or texts of tokens (`str(token)`). A repeated token is yielded once.
            timeout: Seconds for all of them. `"policy"` for `PollingPolicy.timeout`, None for no limit.

        Yields:
            A `Settled` for every token, exactly once, whatever happens to the others.

        Raises:
            InvalidInputError: An argument is invalid. Nothing was sent.
        """
        self._check_usable()
        if isinstance(tokens, str | bytes | IndexingToken) or not isinstance(tokens, Iterable):
            msg = (
                f"tokens must be an iterable of tokens, not {type(tokens).__name__}. "
                "Use await_applied for a single token."
            )
            raise InvalidInputError(msg)
        wanted = dict.fromkeys(self._parse(token, None) for token in tokens)
        # A consumer that stops early must leave no wait behind, and an unclosed generator ends too late.
        async with aclosing(settle(self._poller, wanted, self._timeout(timeout))) as ends:
            async for settled in ends:
                yield settled

    async def check(self, token: IndexingToken | str, *, audience: str | None = None) -> IndexingState:
        """Ask for the state of *token* once, without retrying and without waiting.

        Args:
            token: A token, the text of one (`str(token)`), or Batch's bare token with *audience*.
            audience: The audience of a bare token.

        Returns:
            The state. IN_PROGRESS while the audience is not created yet, APPLIED after it was deleted.

        Raises:
            InvalidInputError: An argument is invalid. Nothing was sent.
            ResponseError: Batch rejected the request.
            MalformedResponseError: The response cannot be read.
            TransportError: No readable response arrived.
        """
        self._check_usable()
        return await self._poller.check(self._parse(token, audience))

    async def drain(self, *, timeout: float | None = 0.0) -> None:
        """End open waits with a WaitInterruptedError, so that their callers can keep the tokens.

        From then on new waits end at once. All other calls work until the client is closed.

        Args:
            timeout: Seconds for which open waits continue. 0 ends them at once. None for no limit.

        Raises:
            InvalidInputError: The timeout is invalid, or the client is not open.
        """
        self._check_usable()
        await self._poller.drain(timeout if timeout == 0 else check_timeout(timeout))

    def _parse(self, token: IndexingToken | str, audience: str | None) -> IndexingToken:
        """Return *token* as an IndexingToken, and remember it: no later write has the same one."""
        parsed = _parse(token, audience)
        self._tokens.add(parsed.value)
        return parsed

    def _timeout(self, timeout: float | Literal["policy"] | None) -> float | None:
        return self._polling.timeout if timeout == "policy" else check_timeout(timeout)


def _parse(token: IndexingToken | str, audience: str | None) -> IndexingToken:
    """Return *token* as an IndexingToken."""
    if token is None:
        msg = "token must not be None. If create or delete returns None, there is nothing to wait for."
        raise InvalidInputError(msg)
    if not isinstance(token, IndexingToken):
        if isinstance(token, str) and audience is not None and _TOKEN_TEXT.match(token) is None:
            return IndexingToken(audience, token)
        token = IndexingToken.parse(token)
    if audience is not None and audience != token.audience:
        msg = f"audience {audience!r} does not match the token of audience {token.audience!r}. Leave it out."
        raise InvalidInputError(msg)
    return token
