"""One audience's run: look, settle, plan, send, wait, check."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

import attrs

from ..._client import AudienceClient
from ..._clock import Clock, SystemClock
from ..._remedy import Remedy
from ...errors import AudienceNotFoundError, InvalidInputError, SyncError
from ...models import Audience, check_name
from ...options import App, Project, check_callback, check_instance
from .._errors import DriftError, OpenRunError, ReplacedElsewhereError
from .._options import RESTATING_MODES, Mode, SyncOptions
from .._plan import Plan
from .._report import OnProgress, Phase, SyncReport, outcome_of
from ..state._audience_snapshots import (
    check_not_deleted,
    check_not_emptied,
    check_not_recreated,
    foreign_change,
    read_snapshot,
    record_end,
    record_start,
)
from ..state._chunks import ChunkState
from ..state._diff import PlanRequest, clear_plan, make_plan
from ..state._history import Run, RunOutcome, latest_run, record_drift, replaced_since
from ..state._journal import Journal, close_resumed_run
from ..state._lock import FileLock
from ..state._refused_ids import excluded_ids
from ..state._repair import adopt
from ..state._state import AudienceRecord, audience_lock_path
from ..state._targets import TargetKey, get_or_create_audience
from ..state._thread import StateThread
from ._create_audience import create_audience
from ._dispatcher import Dispatch
from ._drift_check import Census
from ._reporter import Teller
from ._stage_source import Staged
from ._stop import unless_stopped

R = TypeVar("R")


def target_key_of(target: App | Project) -> TargetKey:
    """Return what tells a target from another; the state keeps its digest."""
    return (
        TargetKey("app", target.api_key)
        if isinstance(target, App)
        else TargetKey("project", target.project_key)
    )


def check_whose(client: AudienceClient, name: str) -> None:
    """Refuse what is no client, or cannot name an audience, before a state is asked about it."""
    check_instance(client, AudienceClient, "client")
    check_name(name)


@attrs.define(eq=False, kw_only=True)
class AudienceRun:
    """The run of one audience in an open state, within `async with`.

    First `prepare`, then `plan`; then `begin` and `send`, or `adopt`, or nothing for a dry run. An error of
    the engine's that passes its end carries a report.

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
    _teller: Teller = attrs.field(init=False)
    _census: Census = attrs.field(init=False)
    _dispatch: Dispatch = attrs.field(init=False)
    _lock: FileLock = attrs.field(init=False)
    _believed: AudienceRecord = attrs.field(init=False)
    _seen: Audience | None = attrs.field(init=False, default=None)
    _journal: Journal | None = attrs.field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Make the parts."""
        check_whose(self.client, self.name)
        check_instance(self.stop, asyncio.Event, "stop")
        if self.on_progress is not None:
            check_callback(self.on_progress, "on_progress")
        client, options = self.client, self.options
        self._teller = Teller(
            audience=self.name,
            mode=options.mode,
            clock=self.clock,
            on_progress=self.on_progress,
        )
        self._census = Census(
            client=client, options=options, stop=self.stop, clock=self.clock, warn=self._teller.warn
        )
        self._dispatch = Dispatch(
            client=client,
            thread=self.thread,
            options=options,
            teller=self._teller,
            stop=self.stop,
            clock=self.clock,
        )
        self._lock = FileLock(audience_lock_path(target_key_of(client.target).audience_key(self.name)))

    async def __aenter__(self) -> Self:
        """Take the audience's lock."""
        try:
            await self.thread.run(self._lock.acquire, f"sync {self.name}")
        except BaseException:
            await self.thread.run(self._lock.release)
            raise
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close a journal whose chunks were never sent, and give the lock back."""
        try:
            if self._journal is not None:
                await self._dispatch.close_early(self._journal, error or asyncio.CancelledError())
            if error is not None:
                self.blame(error)
        finally:
            await self.thread.run(self._lock.release)

    def blame(self, error: BaseException) -> None:
        """Let an error of the engine's, or a cancellation, carry the report of this run.

        Args:
            error: What ended it.
        """
        if isinstance(error, SyncError | asyncio.CancelledError) and getattr(error, "report", None) is None:
            report = self._teller.report(outcome_of(error), error)
            error.report = report  # type: ignore[union-attr]  # whoever cancelled sees how far it was

    def counting(self) -> AbstractContextManager[None]:
        """Count the requests that are repeated for what is done inside as this run's."""
        return self._teller.counting()

    @property
    def believed(self) -> AudienceRecord:
        """The audience as the state knows it, from `prepare` or `settle` on."""
        return self._believed

    # -- before ---------------------------------------------------------------------------------------

    async def prepare(self, *, send: bool = True) -> None:
        """Look whether the audience is there, settle what an earlier run left open, compare the counts.

        Args:
            send: Whether anything may be sent; otherwise an open run is an error.

        Raises:
            AudienceNotFoundError: There is no such audience, and none is to be made.
            OpenRunError: A run is open, and nothing may be sent.
            RunError: The earlier run cannot be settled now, or the audience is not as we know it.
        """
        self._seen = seen = await self._unless_stopped(self._look())
        await self.believe()
        if seen is None:
            check_not_deleted(self._believed)
            return
        self._check_type(seen)
        last = await self.thread.run(read_snapshot, self.thread.state, self._believed.key)
        if self.options.mode not in RESTATING_MODES:
            check_not_recreated(last, self._believed, seen)
            check_not_emptied(last, self._believed, seen, least=self.options.guard.small_audience)
        if await self._settle(send=send):
            self._seen = seen = await self._unless_stopped(self.client.view(self.name))
        elif (text := foreign_change(last, seen)) is not None:
            self._teller.warn(text, Remedy("resync", self.name))
        await self._refuse_replaced()
        self._teller.counted = await self._census.before(self._believed, seen)

    async def settle(self) -> Run | None:
        """Bring what an earlier run left open to its end: poll tokens, send again what is of unknown outcome.

        Returns:
            The audience's latest run, of which nothing is open any more; None if it has none.

        Raises:
            RunError: It cannot be settled now.
        """
        await self.believe()
        await self._settle(send=True)
        return await self.thread.run(latest_run, self.thread.state, self._believed.key)

    async def plan(self, staged: Staged) -> Plan:
        """Work out what a run would do.

        Args:
            staged: The source.

        Raises:
            InvalidInputError: A replace of more than one call takes.
            StateError: DuckDB failed.
        """
        teller = self._teller
        teller.source, teller.counts = staged.label, staged.counts
        teller.tell(phase=Phase.PLANNING, read=staged.counts.read)
        request = self._request(staged)
        making = self.thread.run_interruptible(make_plan, self.thread.state, self._believed, request)
        plan = await self._unless_stopped(making)
        teller.plan = plan
        teller.tell(total=plan.changes, planned_calls=plan.calls)
        if plan.refused_before:
            await self._dispatch.keep_refused(
                await self.thread.run(excluded_ids, self.thread.state, plan.key, staged.table)
            )
            teller.warn(
                f"Skipped {plan.refused_before:,} IDs that Batch refused in the last 7 days. Fix them, or "
                "resync to retry them.",
                Remedy("resync", self.name),
            )
        return plan

    def tell_read(self, rows: int) -> None:
        """Tell how many rows of the source were read."""
        self._teller.tell_read(rows)

    def report_plan(self) -> SyncReport:
        """Return the report of a dry run."""
        return self._teller.report(RunOutcome.PLANNED)

    # -- the run --------------------------------------------------------------------------------------

    async def begin(self, plan: Plan) -> None:
        """Let the guard judge, make the audience if it is to be made, and journal what will be sent.

        Args:
            plan: What `plan` answered last.

        Raises:
            GuardError: The guard refuses the plan; nothing was sent.
            AiobatchError: The audience cannot be made.
            StateError: The journal could not be written; nothing was sent.
        """
        plan.enforce()
        if self._seen is None:
            self._teller.tell(phase=Phase.CREATING)
            await self._unless_stopped(create_audience(self.client, self.name, self.options, self.clock))
        state = self.thread.state
        await self.thread.run(record_start, state, plan, self._seen)
        self._journal = await self._unless_stopped(self.thread.run_interruptible(Journal.begin, state, plan))
        await self.thread.run(clear_plan, state, plan.key)

    async def send(self) -> SyncReport:
        """Send what was begun, wait until it is APPLIED, and compare the counts.

        Returns:
            The report.

        Raises:
            RunError: The run did not come to its good end; the journal stands.
            StateError: The journal could not be written.
        """
        assert self._journal is not None  # noqa: S101 - begin comes first
        journal, self._journal = self._journal, None
        await self._dispatch.send(journal, states=[ChunkState.PLANNED], wait=self.options.wait)
        outcome = RunOutcome.SENT if journal.open_chunks() else RunOutcome.DONE
        run = await self._dispatch.close(journal, outcome)
        if outcome is RunOutcome.DONE:
            await self._check(run)
        return self._teller.report(outcome)

    async def adopt(self, plan: Plan) -> SyncReport:
        """Believe the source instead of sending anything.

        Args:
            plan: What `plan` answered last, of mode ADOPT.

        Returns:
            The report.

        Raises:
            DriftError: Batch counts other members, and the options are strict; nothing was changed.
        """
        teller = self._teller
        teller.tell(phase=Phase.CHECKING)
        teller.counted = await self._census.after(self.name, plan.members_after, run=None)
        teller.run = await self.thread.run(adopt, self.thread.state, plan)
        await self._record_end(self._census.last)
        return teller.report(RunOutcome.DONE)

    # -- parts ----------------------------------------------------------------------------------------

    async def _unless_stopped(self, work: Coroutine[Any, Any, R]) -> R:
        return await unless_stopped(self.stop, self.name, work)

    async def believe(self) -> None:
        """Read what the state knows."""
        target = target_key_of(self.client.target)
        self._believed = await self.thread.run(get_or_create_audience, self.thread.state, target, self.name)

    async def _look(self) -> Audience | None:
        """View the audience; None where there is none and one may be made."""
        try:
            return await self.client.view(self.name)
        except AudienceNotFoundError:
            if self.options.create:
                return None
            raise

    def _check_type(self, seen: Audience) -> None:
        """Refuse to send ids of another type than the audience holds: Batch would refuse each."""
        ours = self.options.id_type or self.client.default_id_type
        if seen.id_type.is_known and seen.id_type is not ours:
            msg = (
                f"audience {self.name!r} holds {seen.id_type}, not {ours}: set id_type (--id-type); nothing "
                "was sent"
            )
            raise InvalidInputError(msg)

    def _request(self, staged: Staged) -> PlanRequest:
        """Return what to ask a plan for; a rollback's ids are members that keep their contract already."""
        options, client = self.options, self.client
        rules = None if options.mode is Mode.ROLLBACK else str(options.rules(client.default_id_type))
        return PlanRequest(
            mode=options.mode,
            source=staged.label,
            staged=staged.table,
            id_rules=rules,
            policy=options.guard,
            overrides=options.overrides,
            chunk_size=options.chunk_size,
            rate=client.rate_limit,
            counted=0 if self._seen is None else self._seen.nb_ids or 0,
        )

    async def _refuse_replaced(self) -> None:
        """Refuse to build on members that somebody else has replaced."""
        if self.options.mode in RESTATING_MODES:
            return
        run = await self.thread.run(replaced_since, self.thread.state, self._believed.key)
        if run is not None:
            msg = (
                f"another writer replaced the members during run {run}, so the recorded members are no "
                "longer valid. Nothing was sent."
            )
            raise ReplacedElsewhereError(msg, audience=self.name, run=run, remedy=Remedy("resync", self.name))

    async def _settle(self, *, send: bool) -> bool:
        """Bring the open chunks of an earlier run to their end; tell whether there was such a run."""
        state, teller = self.thread.state, self._teller
        journal = await self.thread.run_interruptible(Journal.resume, state, self._believed)
        if journal is None:
            return False
        if not send and journal.open_chunks():
            raise OpenRunError(audience=self.name, run=journal.run)
        await self._dispatch.send(journal, states=[ChunkState.SENDING], wait=True)
        await self.thread.run(close_resumed_run, state, journal, retries=teller.take_retries())
        teller.settled_run = journal.run
        await self.believe()
        return True

    async def _check(self, run: Run) -> None:
        """Compare the counts after a run, but where nothing was sent and they were right before."""
        teller, members = self._teller, run.members_after or 0
        teller.tell(phase=Phase.CHECKING)
        if not run.calls and teller.counted is not None:
            await self._record_end(self._seen)
            return
        try:
            teller.counted = await self._census.after(self.name, members, run=run.run)
        except DriftError as error:
            teller.run = await self.thread.run(record_drift, self.thread.state, run.run, str(error))
            raise
        await self._record_end(self._census.last)

    async def _record_end(self, seen: Audience | None) -> None:
        """Note when Batch says that the audience, which is as it shall be, has changed last."""
        if seen is not None:
            await self.thread.run(record_end, self.thread.state, self._believed.key, seen)
