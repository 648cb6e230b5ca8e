"""Waiting for many tokens at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from ..errors import AiobatchError
from ..models import Audience, IndexingToken, Outcome, Settled
from ._poll_result import outcome_of
from ._poller import Poller

# Subscriptions before the event loop runs other tasks.
_PER_TURN = 500


async def settle(
    poller: Poller, tokens: Iterable[IndexingToken], timeout: float | None
) -> AsyncGenerator[Settled, None]:
    """Wait for *tokens* and yield the outcome of each, in the order in which the waits end.

    Args:
        poller: The poller to subscribe to.
        tokens: The tokens, without duplicates.
        timeout: Seconds for all of them. None means no limit.
    """
    ended: asyncio.Queue[asyncio.Future[Audience]] = asyncio.Queue()
    waits: dict[asyncio.Future[Audience], IndexingToken] = {}
    started = poller.now()
    try:
        for count, token in enumerate(tokens, 1):
            left = None if timeout is None else timeout - (poller.now() - started)
            future = poller.subscribe(token, left)
            waits[future] = token
            future.add_done_callback(ended.put_nowait)
            if count % _PER_TURN == 0:
                await asyncio.sleep(0)
        while waits:
            future = await ended.get()
            token = waits.pop(future)
            await poller.unsubscribe((token, future))
            yield _describe(token, future)
    finally:
        await poller.unsubscribe(*((token, future) for future, token in waits.items()))


def _describe(token: IndexingToken, future: asyncio.Future[Audience]) -> Settled:
    error = future.exception()
    if error is None:
        return Settled(token=token, outcome=Outcome.APPLIED, audience=future.result())
    if not isinstance(error, AiobatchError):
        raise error
    return Settled(token=token, outcome=outcome_of(error), error=error)
