"""Sends what a journal holds, publishes the status meanwhile, and closes the journal however that ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Final

import attrs

from ..._logs import log
from ..._tasks import cancel_and_wait
from ...errors import Remedy, SyncError
from .._errors import StateError
from .._options import DELTA_MODES, RESTATING_MODES
from .._report import Phase, outcome_of, text_of
from ..sources._rejects import append_rejects
from ..state._chunks import ChunkState, ChunkTransition
from ..state._history import Run, RunEnding, RunOutcome, show_run
from ..state._journal import Journal
from ..state._state import State
from ..state._status import take_status, write_status
from ._chunk_sender import ChunkSender
from ._context import RunContext

_logger = logging.getLogger("aiobatch.sync")

# Seconds between two writes of the status file, whichever runs of the process write them.
_STATUS_INTERVAL: Final = 5.0
# The final states of chunks of a run that is complete. A split chunk lives on in its halves.
_COMPLETE = frozenset({ChunkState.APPLIED, ChunkState.REFUSED, ChunkState.SPLIT})


@attrs.frozen(eq=False)
class ChunkDispatcher:
    """Sends the chunks of a journal and closes it.

    Attributes:
        context: The run's.
    """

    context: RunContext

    async def send(
        self, journal: Journal, *, states: Collection[ChunkState], wait: bool, resends: bool = True
    ) -> None:
        """Bring a journal's chunks to their end. If that fails, close the run.

        Args:
            journal: The journal.
            states: The chunks to send: PLANNED of a new run, SENDING of one that an earlier process left.
            wait: Whether to wait for tokens.
            resends: Whether a chunk whose token Batch does not know is sent again.

        Raises:
            RunError: The run did not succeed. The journal keeps its progress.
            StateError: The journal could not be written.
        """
        context, counts = self.context, journal.counts()
        settles = ChunkState.PLANNED not in states
        context.reporter.start(
            Phase.SETTLING if settles else Phase.SENDING,
            total=sum(counts.get(state, 0) for state in states),
            run=None if settles else journal.run,
        )
        sender = ChunkSender(
            context=context,
            journal=journal,
            wait=wait,
            # An earlier run's tokens may be REPLACED if this run sends everything again. Its own may not.
            tolerate_replaced=settles and context.options.mode in RESTATING_MODES,
            resends=resends,
            keep_refused=self.keep_refused,
        )
        publishing = asyncio.create_task(self._publish_status(journal))
        try:
            await sender.run(states)
        except BaseException as error:
            await self.close_early(journal, error)
            raise
        finally:
            await cancel_and_wait([publishing])

    async def keep_refused(self, ids: Sequence[str]) -> None:
        """Append IDs that Batch refused to the reject file, if there is one.

        Args:
            ids: The refused IDs.

        Raises:
            StagingError: The reject file cannot be written.
        """
        if self.context.options.rejects is not None:
            await self.context.state.run(append_rejects, self.context.options.rejects, ids)

    def warn_of_refused(self, count: int) -> None:
        """Warn of IDs that are not sent, because Batch refused them lately.

        Args:
            count: Their number.
        """
        context = self.context
        text = f"Skipped {count:,} IDs that Batch refused in the last 7 days. Fix them"
        if context.options.mode in DELTA_MODES:
            # A resync with such a source would remove all other members.
            context.reporter.warn(f"{text}. Otherwise they are sent again after that time.")
        else:
            context.reporter.warn(f"{text}, or resync to retry them.", Remedy("resync", context.audience))

    async def close(self, journal: Journal, outcome: RunOutcome, error: str | None = None) -> Run:
        """End a run in the journal.

        Args:
            journal: The journal.
            outcome: How the run ended.
            error: What went wrong, without IDs and keys. None if nothing did.

        Raises:
            StateError: The end could not be written.
        """
        context, reporter = self.context, self.context.reporter
        run = await context.state.run(
            close_run, journal, outcome, error=error, retries=reporter.take_retries()
        )
        reporter.run = run
        if run.refused:
            has_file = context.options.rejects is not None
            where = "The reject file lists them." if has_file else "Name a reject file to list them."
            reporter.warn(f"Batch refused {run.refused:,} IDs as malformed. {where}")
        return run

    async def close_early(self, journal: Journal, error: BaseException) -> None:
        """End a run that *error* ended.

        If that cannot be written, the next run finds the journal as after a kill.

        Args:
            journal: The journal.
            error: What ended the run.
        """
        try:
            await self.close(journal, outcome_of(error), text_of(error))
        except SyncError as failure:
            # The first error is raised, with its trace.
            text, audience = "could not close the run", journal.audience
            log(_logger, logging.ERROR, text, audience=audience, reason=str(failure))

    async def _publish_status(self, journal: Journal) -> None:
        """Write the status file until cancelled, because others cannot read a state that is open."""
        thread, clock = self.context.state, self.context.clock
        thread.running[journal.key] = journal
        try:
            while True:
                now = clock.monotonic()
                if now >= thread.status_due:  # one run writes for all
                    thread.status_due = now + _STATUS_INTERVAL
                    await thread.call(_write_status, list(thread.running.values()))
                await clock.sleep(thread.status_due - now)
        finally:
            del thread.running[journal.key]


def _write_status(state: State, journals: list[Journal]) -> None:
    try:
        write_status(state.path, take_status(state, running=journals))
    except StateError as error:  # no reason to end a run
        log(_logger, logging.WARNING, "could not write the status file", reason=str(error))


def close_run(
    journal: Journal, outcome: RunOutcome | None, *, error: str | None = None, retries: int = 0
) -> Run:
    """Close a run's journal. Its calls are those of all processes that worked on it.

    Args:
        journal: The run's journal.
        outcome: How it ended. None keeps what an earlier process recorded.
        error: What went wrong, without IDs and keys. None if nothing did.
        retries: Requests that this process repeated.

    Raises:
        StateError: If it could not be written. Nothing was changed.
    """
    return journal.close(RunEnding(outcome=outcome, error=error, calls=journal.calls, retries=retries))


def close_resumed_run(state: State, journal: Journal, *, retries: int) -> Run:
    """Close a run that an earlier process left open, after all its chunks were settled.

    Those that are still SENDING become UNKNOWN: the next plan decides for each of their IDs.

    Args:
        state: The open state.
        journal: The run's journal.
        retries: Requests that this process repeated.

    Raises:
        StateError: If it could not be written. Nothing was changed.
    """
    unknown = journal.in_state(ChunkState.SENDING)
    journal.record([ChunkTransition(n=chunk.n, state=ChunkState.UNKNOWN) for chunk in unknown])
    states = {chunk.state for chunk in journal.chunks.values()}
    outcome = show_run(state, journal.run).outcome or RunOutcome.INTERRUPTED
    if ChunkState.REPLACED in states:
        outcome = RunOutcome.REPLACED
    elif states <= _COMPLETE:
        outcome = RunOutcome.DONE
    return close_run(journal, outcome, retries=retries)
