"""Brings the chunks of a journal to their end, and ends the journal's run whichever way that goes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence

import attrs

from ..._client import AudienceClient
from ..._clock import Clock
from ..._tasks import cancel_and_wait
from .._errors import StateError
from .._options import RESTATING_MODES, SyncOptions
from .._report import Phase, outcome_of, text_of
from ..sources._rejects import append_rejects
from ..state._chunks import ChunkState
from ..state._history import Run, RunOutcome
from ..state._journal import Journal, close_run
from ..state._thread import StateThread
from ._chunk_sender import Sender
from ._reporter import Teller
from ._status_publisher import publish

_logger = logging.getLogger("aiobatch.sync")


@attrs.frozen(eq=False, kw_only=True)
class Dispatch:
    """Sends what is journaled, and closes the journal.

    Attributes:
        client: Sends and waits.
        thread: The open state.
        options: How.
        teller: Told of each step.
        stop: Set from outside to end early.
        clock: Tells the time and sleeps.
    """

    client: AudienceClient
    thread: StateThread
    options: SyncOptions
    teller: Teller
    stop: asyncio.Event
    clock: Clock

    async def send(self, journal: Journal, *, states: Collection[ChunkState], wait: bool) -> None:
        """Bring a journal's chunks to their end; where that fails, the run is closed.

        Args:
            journal: The journal.
            states: The chunks to send: PLANNED of a new run, SENDING of one that an earlier process left.
            wait: Whether to wait for tokens at all.

        Raises:
            RunError: The run did not come to its good end; the journal stands.
            StateError: The journal could not be written.
        """
        counts = journal.counts()
        phase = Phase.SENDING if ChunkState.PLANNED in states else Phase.SETTLING
        run = journal.run if phase is Phase.SENDING else None
        self.teller.tell(phase=phase, total=sum(counts.get(state, 0) for state in states), run=run)
        publishing = asyncio.create_task(publish(self.thread, journal, self.clock))
        # An earlier run's tokens may be REPLACED for one that sends everything again, its own may not.
        mends = phase is Phase.SETTLING and self.options.mode in RESTATING_MODES
        try:
            await self._sender(journal, mends=mends).run(states=states, wait=wait)
        except BaseException as error:
            await self.close_early(journal, error)
            raise
        finally:
            await cancel_and_wait([publishing])

    def _sender(self, journal: Journal, *, mends: bool) -> Sender:
        options = self.options
        return Sender(
            client=self.client,
            journal=journal,
            thread=self.thread,
            id_type=options.id_type or self.client.default_id_type,
            timeout=options.timeout,
            grace=options.grace,
            max_refused=options.max_refused,
            mends=mends,
            stop=self.stop,
            clock=self.clock,
            on_change=self.teller.tell_sent,
            on_refused=self.keep_refused,
        )

    async def keep_refused(self, ids: Sequence[str]) -> None:
        """Keep ids that Batch refused for the owner of the data.

        Args:
            ids: What was refused.

        Raises:
            StagingError: The file of rejected rows cannot be written.
        """
        if self.options.rejects is not None:
            await self.thread.run(append_rejects, self.options.rejects, ids)

    async def close(self, journal: Journal, outcome: RunOutcome, error: str | None = None) -> Run:
        """End a run in the journal.

        Args:
            journal: The journal.
            outcome: How it ended.
            error: What went wrong, without ids and keys; None where nothing did.

        Raises:
            StateError: It could not be written.
        """
        teller, retries = self.teller, self.teller.take_retries()
        run = await self.thread.run(
            close_run, self.thread.state, journal, outcome, error=error, retries=retries
        )
        teller.run = run
        if run.refused:
            where = "the file of rejected rows has them" if self.options.rejects else "name a file for them"
            teller.warn(f"Batch refused {run.refused:,} ids as malformed; {where}")
        return run

    async def close_early(self, journal: Journal, error: BaseException) -> None:
        """End a run that *error* ended; where that cannot be noted, the next run finds it as after a kill.

        Args:
            journal: The journal.
            error: What ended it.
        """
        try:
            await self.close(journal, outcome_of(error), text_of(error))
        except StateError as failure:
            _logger.error("audience %r: the run could not be closed: %s", journal.audience, failure)  # noqa: TRY400 - the first error is raised, with its trace
