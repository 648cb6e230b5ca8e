"""What the parts of one audience's run share."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import attrs

from ..._client import AudienceClient
from ..._tasks import cancel_and_wait
from ...interfaces import Clock
from ...transport import before_send
from .._errors import InterruptedRunError
from .._options import SyncOptions
from ..state._thread import StateThread
from ._reporter import RunReporter

R = TypeVar("R")


@attrs.frozen(eq=False, kw_only=True)
class RunContext:
    """What the parts of one audience's run share.

    Attributes:
        client: An open client of the audience's target.
        audience: The audience's name.
        state: The open state, in its thread.
        options: The run's options.
        stop: Set from outside to end the run early.
        clock: The clock that waits and deadlines go by.
        reporter: Tracks the run's progress and builds its report.
    """

    client: AudienceClient
    audience: str
    state: StateThread
    options: SyncOptions
    stop: asyncio.Event
    clock: Clock
    reporter: RunReporter

    @contextlib.contextmanager
    def checked(self, key: str) -> Iterator[None]:
        """Raise LockedError in place of a request, if another process may have taken the audience.

        Args:
            key: The audience's key.
        """
        before = before_send.set(functools.partial(self.state.state.ledger.check, key))
        try:
            yield
        finally:
            before_send.reset(before)

    async def unless_stopped(self, work: Coroutine[Any, Any, R]) -> R:
        """Await *work*, and cancel it as soon as `stop` is set.

        Args:
            work: A coroutine that may be cancelled. It sends no IDs.

        Raises:
            InterruptedRunError: `stop` was set before the work was done.
        """
        task = asyncio.ensure_future(work)
        task.add_done_callback(_retrieve_exception)
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel_and_wait([task, stopping])
        if task.cancelled():
            msg = "stopped on request. This run has sent no IDs."
            raise InterruptedRunError(msg, audience=self.audience)
        return task.result()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    # If the run itself is cancelled, nothing else retrieves it, and asyncio would log an error.
    if not task.cancelled():
        task.exception()
