"""Being asked to stop: what has not begun to send ends at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..._tasks import cancel_and_wait
from .._errors import InterruptedRunError

R = TypeVar("R")


async def unless_stopped(stop: asyncio.Event, audience: str, work: Coroutine[Any, Any, R]) -> R:
    """Do *work*, or cancel it as soon as *stop* is set.

    Args:
        stop: Set from outside to end early.
        audience: The audience's name.
        work: Something that can be cancelled.

    Raises:
        InterruptedRunError: *stop* was set before the work had ended.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_see)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancel_and_wait([task, stopping])
    if task.cancelled():
        msg = "asked to stop; this run has sent no ids"
        raise InterruptedRunError(msg, audience=audience)
    return task.result()


def _see(task: asyncio.Task[Any]) -> None:
    """Look at what a task raised: where its owner was cancelled, nobody else will."""
    if not task.cancelled():
        task.exception()
