"""Group commit for the journal."""

from __future__ import annotations

import asyncio

import attrs

from ..._tasks import wait_through_cancellation
from ..state._chunks import ChunkTransition
from ..state._journal import Journal
from ..state._thread import StateThread


@attrs.define(eq=False)
class JournalWriter:
    """Writes transitions of chunks into a journal.

    Chunks that change at about the same time share one transaction, and so one wait for the disk.

    Attributes:
        journal: The journal.
        thread: The thread that writes it.
    """

    journal: Journal
    thread: StateThread
    _waiting: list[tuple[ChunkTransition, asyncio.Future[None]]] = attrs.field(factory=list, init=False)
    _writer: asyncio.Task[None] | None = attrs.field(default=None, init=False)

    async def write(self, transition: ChunkTransition) -> None:
        """Write a transition and return when it is on disk.

        If the caller is cancelled, the transition is written all the same.

        Raises:
            StateError: The transition could not be written.
        """
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((transition, written))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_waiting())
        await written

    async def aclose(self) -> None:
        """Wait until everything is written, however often the caller is cancelled."""
        if self._writer is not None:
            await wait_through_cancellation([self._writer])

    async def _write_waiting(self) -> None:
        try:
            # What arrives during a write forms the next group: the slower the disk, the larger the groups.
            while self._waiting:
                group, self._waiting = self._waiting, []
                outcome: Exception | None = None
                try:
                    await self.thread.run(self.journal.record, [transition for transition, _ in group])
                except Exception as error:  # noqa: BLE001 - not swallowed: each caller raises it
                    outcome = error
                _resolve([written for _, written in group], outcome)
        finally:
            self._writer = None


def _resolve(futures: list[asyncio.Future[None]], outcome: Exception | None) -> None:
    """Resolve the futures of all callers that still wait."""
    for future in futures:
        if future.done():
            continue
        if outcome is None:
            future.set_result(None)
        else:
            future.set_exception(outcome)
