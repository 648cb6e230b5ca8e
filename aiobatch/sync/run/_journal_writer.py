"""Group commit: steps that chunks take together share one transaction, and so one wait for the disk."""

from __future__ import annotations

import asyncio

import attrs

from ..._tasks import wait_through_cancellation
from ..state._chunks import ChunkTransition
from ..state._journal import Journal
from ..state._thread import StateThread


@attrs.define(eq=False)
class Marker:
    """Writes steps into a journal.

    Attributes:
        journal: The journal.
        thread: Where it is written.
    """

    journal: Journal
    thread: StateThread
    _waiting: list[tuple[ChunkTransition, asyncio.Future[None]]] = attrs.field(factory=list, init=False)
    _writer: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    async def mark(self, mark: ChunkTransition) -> None:
        """Write down a step; it is on disk when this returns.

        A step that was asked for is written even if whoever asked is cancelled.

        Raises:
            StateError: It could not be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((mark, written))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await written

    async def aclose(self) -> None:
        """Wait until all is written, however often this is cancelled meanwhile."""
        if self._writer is not None:
            await wait_through_cancellation([self._writer])

    async def _write(self) -> None:
        """Write what waits, and what came meanwhile, until nothing does."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                outcome: Exception | None = None
                try:
                    await self.thread.run(self.journal.record, [mark for mark, _ in group])
                except Exception as error:  # noqa: BLE001 - not swallowed: each caller raises it
                    outcome = error
                _resolve([written for _, written in group], outcome)
        finally:
            self._writer = None


def _resolve(futures: list[asyncio.Future[None]], outcome: Exception | None) -> None:
    """Let everybody go on who still waits."""
    for future in futures:
        if future.done():
            continue
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)
