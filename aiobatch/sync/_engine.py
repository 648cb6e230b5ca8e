"""One audience's run: settle, look, plan, send, wait, check."""

from __future__ import annotations

import asyncio
import csv
import datetime as dt
import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import attrs

from .._client import AudienceClient
from .._clock import Clock, SystemClock
from .._concurrent import reap
from ..errors import AiobatchError, AudienceNotFoundError
from ..models import Audience
from ..options import App
from ._chunks import ChunkState
from ._diff import make_plan
from ._errors import (
    DriftError,
    InterruptedRunError,
    NotAppliedError,
    OpenRunError,
    ReplacedElsewhereError,
    UnknownMembersError,
)
from ._history import Ending, Run, RunOutcome
from ._journal import Journal
from ._lock import FileLock
from ._options import SyncOptions
from ._plan import Mode, Plan
from ._repair import adopt
from ._report import OnProgress, Phase, SyncProgress, SyncReport
from ._sender import Sender, Tally
from ._staging import StageCounts
from ._state import AudienceState, State, audience_lock_path
from ._status import take_status, write_status
from ._thread import StateThread

_logger = logging.getLogger("aiobatch.sync")

# Seconds between two looks at Batch's own count.
_LOOK_AGAIN = 1.0
# Seconds between two writings of the status file.
_PUBLISH_EVERY = 5.0


def scope_of(client: AudienceClient) -> str:
    """Return what tells a client's target from another; secret, the state keeps its digest."""
    target = client.target
    if isinstance(target, App):
        return f"app {target.api_key.reveal()}"
    return f"project {target.project_key.reveal()}"


@attrs.frozen(kw_only=True)
class Staged:
    """A source that was read.

    Attributes:
        table: Where its ids are.
        label: What it is, without secrets.
        counts: What became of its rows.
    """

    table: str
    label: str
    counts: StageCounts


@attrs.define(eq=False, kw_only=True)
class AudienceRun:
    """The run of one audience in an open state; use `prepare`, then `plan` or `bring`, within `async with`.

    Attributes:
        client: A client of the audience's target.
        name: The audience's name.
        thread: The open state.
        options: How.
        on_progress: Called whenever something moved; None for nobody.
        stop: Set from outside to end early.
        clock: Tells the time and sleeps.
    """

    client: AudienceClient
    name: str
    thread: StateThread
    options: SyncOptions
    on_progress: OnProgress | None = None
    stop: asyncio.Event = attrs.field(factory=asyncio.Event)
    clock: Clock = attrs.field(factory=SystemClock)
    progress: SyncProgress = attrs.field(init=False)
    _started: dt.datetime = attrs.field(init=False, factory=lambda: dt.datetime.now(dt.UTC))
    _start: float = attrs.field(init=False)
    _retries: int = attrs.field(init=False)
    _lock: FileLock | None = attrs.field(init=False, default=None)
    _believed: AudienceState = attrs.field(init=False)
    _exists: bool = attrs.field(init=False, default=True)
    _settled_run: int | None = attrs.field(init=False, default=None)
    _calls: int = attrs.field(init=False, default=0)
    _warnings: list[str] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        """Begin to count."""
        self.progress = SyncProgress(audience=self.name, phase=Phase.SETTLING)
        self._start = self.clock.monotonic()
        self._retries = self.client.stats.retries

    async def __aenter__(self) -> AudienceRun:
        """Take the audience's lock."""
        self._believed = await self.thread.run(self.thread.state.audience, scope_of(self.client), self.name)
        lock = FileLock(audience_lock_path(self._believed.key))
        self._lock = await self.thread.run(lock.acquire, f"sync {self.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give the lock back."""
        if self._lock is not None:
            await self.thread.run(self._lock.release)

    # -- steps ----------------------------------------------------------------------------------------

    async def prepare(self, *, send: bool = True) -> None:
        """Settle what an earlier run left open, and look whether the audience is there.

        Args:
            send: Whether anything may be sent; otherwise an open run is an error.

        Raises:
            OpenRunError: A run is open, and nothing may be sent.
            AudienceNotFoundError: There is no such audience, and none is to be made.
            RunError: The earlier run cannot be settled now.
        """
        await self._settle(send=send)
        seen = await self._look()
        self._exists = seen is not None
        if seen is None and self.options.create and send:
            await self._create()
        elif seen is not None:
            self._check_believed(seen)

    async def settle(self) -> int | None:
        """Bring what an earlier run left open to its end; see `prepare`.

        Returns:
            The run that was settled; None if none was open.
        """
        await self._settle(send=True)
        return self._settled_run

    @property
    def believed(self) -> AudienceState:
        """The audience as the state knows it."""
        return self._believed

    async def plan(self, staged: Staged) -> Plan:
        """Work out what a run would do.

        Args:
            staged: The source.

        Raises:
            InvalidInputError: A replace of more than one call takes.
            StateError: DuckDB failed.
        """
        self._tell(phase=Phase.PLANNING, read=staged.counts.read)
        rate = self.client.limits.rate
        request = self.options.request(staged.label, staged.table, rate)
        state = self.thread.state
        plan = await self.thread.run_long(make_plan, state, self._believed, request)
        self._tell(total=plan.changes, planned_calls=plan.calls)
        return plan

    async def bring(self, staged: Staged, plan: Plan) -> SyncReport:
        """Carry a plan out.

        Args:
            staged: The source.
            plan: What `plan` answered last.

        Returns:
            The report.

        Raises:
            GuardError: The guard refuses the plan; nothing was sent.
            RunError: The run did not come to its good end; the journal stands.
            StateError: The journal could not be written.
        """
        plan.enforce()
        if not plan.changes:
            counted = await self._check_count(plan.members_after, run=None)
            return self._report(staged, plan, RunOutcome.DONE, counted=counted)
        journal = await self.thread.run_long(Journal.begin, self.thread.state, plan)
        tally = Tally()
        try:
            await self._send(journal, tally, states=[ChunkState.PLANNED], wait=self.options.wait)
        except BaseException as error:
            await self._close(journal, self._ending(tally, _outcome(error), _text(error)))
            raise
        outcome = RunOutcome.SENT if journal.open_chunks() else RunOutcome.DONE
        run = await self._close(journal, self._ending(tally, outcome))
        counted = None
        if outcome is RunOutcome.DONE:
            counted = await self._check_count(run.members_after or 0, run=run.run)
        return self._report(staged, plan, outcome, counted=counted, run=run)

    async def adopt(self, staged: Staged, plan: Plan) -> SyncReport:
        """Believe the source instead of sending anything.

        Args:
            staged: The source.
            plan: What `plan` answered last, of mode ADOPT.

        Returns:
            The report.

        Raises:
            DriftError: Batch counts other members, and the options are strict; nothing was changed.
        """
        counted = await self._check_count(plan.members_after, run=None)
        run = await self.thread.run(adopt, self.thread.state, plan)
        return self._report(staged, plan, RunOutcome.DONE, counted=counted, run=run)

    def planned(self, staged: Staged, plan: Plan) -> SyncReport:
        """Return the report of a dry run.

        Args:
            staged: The source.
            plan: The plan.
        """
        return self._report(staged, plan, RunOutcome.PLANNED)

    # -- settling -------------------------------------------------------------------------------------

    async def _settle(self, *, send: bool) -> None:
        """Bring the open chunks of an earlier run to their end: poll tokens, send again what is of unknown outcome."""
        state = self.thread.state
        journal = await self.thread.run_long(Journal.resume, state, self._believed)
        if journal is None:
            return
        if not send and journal.open_chunks():
            raise OpenRunError(audience=self.name, run=journal.run)
        tally = Tally()
        try:
            await self._send(journal, tally, states=[ChunkState.SENDING], wait=True)
        except BaseException as error:
            await self._close(journal, self._ending(tally, None, _text(error)))
            raise
        await self._close(journal, Ending())
        self._settled_run = journal.run
        self._believed = await self.thread.run(state.audience_by_key, self._believed.key)

    # -- the audience ---------------------------------------------------------------------------------

    async def _look(self) -> Audience | None:
        """View the audience; None where there is none and one may be made."""
        try:
            return await self.client.view(self.name)
        except AudienceNotFoundError:
            if self.options.create:
                return None
            raise

    async def _create(self) -> None:
        """Make the audience and wait until it is there."""
        options = self.options
        token = await self.client.create(self.name, description=options.description, id_type=options.id_type)
        if token is not None:
            await self.client.await_applied(token, timeout=options.timeout)
        self._exists = True

    def _check_believed(self, seen: Audience) -> None:
        """Compare Batch's count with ours before anything is sent."""
        if seen.nb_ids is None or self.options.mode in {Mode.REPLACE, Mode.ADOPT}:
            return
        believed = self._believed
        if not believed.known and seen.nb_ids > 0:
            raise UnknownMembersError(
                f"it has {seen.nb_ids:,} members that this state knows nothing of; nothing was sent. Tell what they are "
                f"with `aiobatch adopt {self.name} FILE`, or replace them all with --mode replace",
                audience=self.name,
            )
        if believed.known and abs(seen.nb_ids - believed.members) > self.options.drift:
            self._drift(
                f"Batch counts {seen.nb_ids:,} members before the run, we know of {believed.members:,}: "
                f"somebody else writes to it, or Batch counts late; `aiobatch resync` mends it",
                run=None,
            )

    async def _check_count(self, members: int, *, run: int | None) -> int | None:
        """Compare Batch's count with ours after the run, with patience: Batch may count late."""
        if not self._exists:
            return None
        self._tell(phase=Phase.CHECKING)
        deadline = self.clock.monotonic() + self.options.drift_patience
        while True:
            counted = (await self.client.view(self.name)).nb_ids
            if counted is None or abs(counted - members) <= self.options.drift:
                return counted
            if self.clock.monotonic() >= deadline:
                break
            await self.clock.sleep(_LOOK_AGAIN)
        patience = self.options.drift_patience
        text = f"Batch counts {counted:,} members {patience:g} s after the run, it should be {members:,}"
        self._drift(text, run=run)
        return counted

    def _drift(self, text: str, *, run: int | None) -> None:
        """Raise or warn of a count that differs."""
        if self.options.strict:
            raise DriftError(text, audience=self.name, run=run)
        self._warn(text)

    # -- sending --------------------------------------------------------------------------------------

    async def _send(
        self, journal: Journal, tally: Tally, *, states: Collection[ChunkState], wait: bool
    ) -> None:
        """Bring a journal's chunks to their end."""
        counts = journal.counts()
        phase = Phase.SENDING if ChunkState.PLANNED in states else Phase.SETTLING
        self._tell(phase=phase, total=sum(counts.get(state, 0) for state in states))
        sender = Sender(
            client=self.client,
            journal=journal,
            thread=self.thread,
            id_type=self.options.id_type or self.client.default_id_type,
            timeout=self.options.timeout,
            grace=self.options.grace,
            max_refused=self.options.max_refused,
            stop=self.stop,
            clock=self.clock,
            on_change=self._on_tally,
            on_refused=self._on_refused,
            tally=tally,
        )
        publishing = asyncio.create_task(self._publish(journal))
        try:
            await sender.run(states=states, wait=wait)
        finally:
            await reap([publishing])

    async def _publish(self, journal: Journal) -> None:
        """Write now and then how the state is, for `status` while it cannot be opened."""
        while True:
            await self.thread.run(_write_status, self.thread.state, journal)
            await self.clock.sleep(_PUBLISH_EVERY)

    def _on_tally(self, tally: Tally) -> None:
        """Tell how far the run is."""
        phase = self.progress.phase
        if phase is Phase.SENDING and tally.sent + tally.refused >= self.progress.total:
            phase = Phase.WAITING
        self._tell(phase=phase, sent=tally.sent, applied=tally.applied, calls=tally.calls)

    async def _on_refused(self, ids: Sequence[str]) -> None:
        """Keep ids that Batch refused for the owner of the data."""
        if self.options.rejects is not None:
            await self.thread.run(_append_rejects, self.options.rejects, ids)

    async def _close(self, journal: Journal, ending: Ending) -> Run:
        """End a run in the journal, whatever else happens to us."""
        return await self.thread.run(journal.close, ending)

    # -- telling --------------------------------------------------------------------------------------

    def tell_read(self, rows: int) -> None:
        """Tell how many rows of the source were read."""
        self._tell(phase=Phase.READING, read=rows)

    def _tell(self, **changes: Any) -> None:
        """Tell how far the run is; what the hook raises harms nobody."""
        self.progress = attrs.evolve(self.progress, **changes)
        if self.on_progress is not None:
            try:
                self.on_progress(self.progress)
            except Exception:
                _logger.exception("on_progress raised; the run goes on")

    def _warn(self, text: str) -> None:
        """Note something to look at."""
        _logger.warning("audience %r: %s", self.name, text)
        self._warnings.append(text)

    def _ending(self, tally: Tally, outcome: RunOutcome | None, error: str | None = None) -> Ending:
        """Say how a run ended, for the history."""
        retries = self.client.stats.retries - self._retries
        return Ending(outcome=outcome, error=error, calls=tally.calls, retries=retries)

    def _report(
        self,
        staged: Staged,
        plan: Plan,
        outcome: RunOutcome,
        *,
        counted: int | None = None,
        run: Run | None = None,
    ) -> SyncReport:
        """Put a report together."""
        counts, refused = staged.counts, 0 if run is None else run.refused or 0
        if refused:
            self._warn(f"Batch refused {refused:,} ids as malformed, one by one; the rejects file names them")
        return SyncReport(
            audience=self.name,
            mode=plan.mode,
            outcome=outcome,
            source=staged.label,
            run=None if run is None else run.run,
            started=self._started,
            seconds=self.clock.monotonic() - self._start,
            read=counts.read,
            kept=counts.kept,
            duplicate=counts.duplicate,
            rejected=counts.rejected,
            reasons={str(reason): rows for reason, rows in counts.reasons.items()},
            adds=plan.adds,
            removes=plan.removes,
            attribute_changes=plan.attribute_changes,
            resends=plan.resends,
            strays=plan.strays,
            unchanged=plan.unchanged,
            members_before=plan.members_before,
            members_after=plan.members_after if run is None else run.members_after or 0,
            counted=counted,
            calls=plan.calls if run is None else run.calls or 0,
            retries=self.client.stats.retries - self._retries,
            applied=0 if run is None else run.applied or 0,
            refused=refused,
            expected_seconds=plan.seconds,
            settled_run=self._settled_run,
            warnings=tuple(self._warnings),
        )


def _outcome(error: BaseException) -> RunOutcome:
    """Name how a run ended that raised *error*."""
    outcomes: dict[type[BaseException], RunOutcome] = {
        NotAppliedError: RunOutcome.NOT_APPLIED,
        InterruptedRunError: RunOutcome.INTERRUPTED,
        asyncio.CancelledError: RunOutcome.INTERRUPTED,
        ReplacedElsewhereError: RunOutcome.REPLACED,
    }
    return outcomes.get(type(error), RunOutcome.FAILED)


def _text(error: BaseException) -> str:
    """Say what went wrong, for the history: our own texts hold no id and no key, others' might."""
    return str(error) if isinstance(error, AiobatchError) else type(error).__name__


def _write_status(state: State, journal: Journal) -> None:
    write_status(state.path, take_status(state, running=[journal]))


def _append_rejects(path: Path, ids: Sequence[str]) -> None:
    """Add ids that Batch refused to the file of rejected rows; they have no row number any more."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", newline="") as file:  # noqa: PTH123  # a descriptor, for its mode
        csv.writer(file).writerows(("batch", "", "refused_by_batch", id_) for id_ in ids)
