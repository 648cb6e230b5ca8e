"""Waiting for many tokens at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

from ..errors import AiobatchError
from ..models import Audience, IndexingToken, Outcome, Settled
from ._poll_result import outcome_of
from ._poller import Poller

# Waits begun before the host's own tasks get their turn.
_PER_TURN = 500


async def settle(
    poller: Poller, tokens: Iterable[IndexingToken], timeout: float | None
) -> AsyncGenerator[Settled, None]:
    """Wait for *tokens*, each there once, and yield how each wait ended, as they end.

    Args:
        poller: Does the waiting.
        tokens: What to wait for.
        timeout: Seconds for all of them; None for ever.
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
            await poller.leave((token, future))
            yield _describe(token, future)
    finally:
        await poller.leave(*((token, future) for future, token in waits.items()))


def _describe(token: IndexingToken, future: asyncio.Future[Audience]) -> Settled:
    """Describe how a wait ended."""
    error = future.exception()
    if error is None:
        return Settled(token=token, outcome=Outcome.APPLIED, audience=future.result())
    if not isinstance(error, AiobatchError):
        raise error
    return Settled(token=token, outcome=outcome_of(error), error=error)
