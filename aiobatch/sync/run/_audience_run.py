"""One audience's run: look, settle, plan, send, wait, check."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

import attrs

from ..._client import id_type_of
from ...errors import AudienceNotFoundError, InvalidInputError, SyncError
from ...errors._base import without_claim
from ...models import Audience
from ...options import Project
from .._errors import AudienceGoneError, DriftError, OpenRunError, StateError
from .._options import DELTA_MODES, RESTATING_MODES, Mode
from .._plan import Plan
from .._report import Phase, SyncReport, outcome_of
from ..sources._stage import StagedSource
from ..state._audience_snapshots import check_not_deleted, record_end, snapshot_of
from ..state._chunks import ChunkState
from ..state._diff import PlanRequest, clear_plan, make_plan
from ..state._history import Run, RunOutcome, RunRows, latest_run, record_failure
from ..state._journal import Journal
from ..state._refused_ids import excluded_ids
from ..state._repair import adopt
from ..state._state import AudienceRecord, State
from ..state._targets import TargetKey
from ._audience_hold import AudienceHold
from ._context import RunContext
from ._create_audience import create_audience
from ._dispatcher import ChunkDispatcher, close_resumed_run
from ._drift_check import DriftCheck
from ._last_run import LastRun, read_last_run
from ._state_note import check_not_older, note_state


@attrs.define(eq=False)
class AudienceRun:
    """The run of one audience in an open state, within `async with`.

    First `prepare`, then `plan`. Then `begin` and `send`, or `adopt`, or nothing for a dry run. An error of
    the engine that leaves the `async with` carries a report.

    Attributes:
        context: What the parts of the run share.
        record: The audience as the state records it. Set by `load_state`.
    """

    context: RunContext
    record: AudienceRecord = attrs.field(init=False)
    _target: TargetKey = attrs.field(init=False)
    _drift: DriftCheck = attrs.field(init=False)
    _dispatcher: ChunkDispatcher = attrs.field(init=False)
    _hold: AudienceHold = attrs.field(init=False)
    _seen: Audience | None = attrs.field(init=False, default=None)
    _journal: Journal | None = attrs.field(init=False, default=None)
    _has_plan: bool = attrs.field(init=False, default=False)
    # Whether an earlier run has recorded the audience's times.
    _is_anchored: bool = attrs.field(init=False, default=False)

    def __attrs_post_init__(self) -> None:
        """Create the parts."""
        self._target = TargetKey.of(self.context.client.target)
        self._drift = DriftCheck(self.context)
        self._dispatcher = ChunkDispatcher(self.context)
        self._hold = AudienceHold(self.context.state, self.context.client, self.context.audience)

    async def __aenter__(self) -> Self:
        """Take the audience."""
        await self._hold.take(f"sync {self.context.audience}")
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close a journal whose chunks were never sent, and release the lock."""
        try:
            if self._journal is not None:
                await self._dispatcher.close_early(self._journal, error or asyncio.CancelledError())
            if error is not None:
                self.attach_report(error)
            await self.discard_plan()
        finally:
            await self._hold.release()

    def attach_report(self, error: BaseException) -> None:
        """Attach the report of this run to an error of the engine, or to a cancellation.

        Args:
            error: What ended the run.
        """
        if isinstance(error, SyncError) and self.context.reporter.progress.calls:
            # What an earlier run left was sent. An error from before the first chunk of this run is right
            # about its own IDs only.
            error.args = (without_claim(error.text),)
        if getattr(error, "report", None) is not None:
            return
        report = self.context.reporter.report(outcome_of(error), error)
        if isinstance(error, SyncError | asyncio.CancelledError):
            error.report = report  # type: ignore[union-attr]  # a cancelled caller can see the progress

    # -- before ---------------------------------------------------------------------------------------

    async def prepare(self, *, send: bool = True) -> None:
        """View the audience, settle what an earlier run left open, and compare the counts.

        Args:
            send: Whether anything may be sent. If not, an open run is an error.

        Raises:
            AudienceNotFoundError: The audience does not exist, and the options do not create it.
            OpenRunError: A run is open, and nothing may be sent.
            RunError: The earlier run cannot be settled now, or the audience is not as recorded.
        """
        context = self.context
        self._seen = seen = await context.unless_stopped(_look(context))
        last = await self.load_state()
        await self._check_copy()
        if seen is None:
            check_not_deleted(self.record)
            return
        _check_type(context, seen)
        last.refuse_foreign(context, seen)
        if await self._settle(send=send):
            self._seen = seen = await context.unless_stopped(context.client.view(context.audience))
            last = await self.load_state()
            last.refuse_foreign(context, seen)
        last.warn(context, seen)
        last.refuse_replaced(context)
        context.reporter.counted = await self._drift.before(
            self.record, seen, after_resync=last.is_resync, unknown=last.unknown
        )
        last.warn_of_recent(context, seen)
        self._is_anchored = last.is_anchored

    async def load_state(self) -> LastRun:
        """Read what the state records of the audience."""
        last = await self.context.state.call(read_last_run, self._target, self.context.audience)
        self.record = last.record
        return last

    async def settle(self) -> Run | None:
        """Settle what an earlier run left open: wait for tokens, and resend chunks of unknown outcome.

        Returns:
            The audience's latest run, of which nothing is open any more. None if there is none.

        Raises:
            RunError: The run cannot be settled now.
        """
        await self.load_state()
        await self._check_copy()
        await self._settle(send=True, resends=True)
        return await self.context.state.call(latest_run, self.record.key)

    async def plan(self, staged: StagedSource) -> Plan:
        """Work out what a run would do.

        Args:
            staged: The source.

        Raises:
            InvalidInputError: A replace has more IDs than one request takes.
            StateError: DuckDB failed.
        """
        context, reporter = self.context, self.context.reporter
        reporter.source, reporter.counts = staged.label, staged.counts
        reporter.lint, reporter.attribute_lint = staged.lint, staged.attribute_lint
        reporter.update(phase=Phase.PLANNING, read=staged.counts.read)
        request = _plan_request(context, staged, self._seen)
        planning = context.state.call_interruptible(make_plan, self.record, request)
        self._has_plan = True
        plan = await context.unless_stopped(planning)
        plan = attrs.evolve(
            plan,
            lint=str(staged.lint),
            sample_lint=staged.lint.sample,
            attribute_lint=str(staged.attribute_lint),
        )
        reporter.plan = plan
        reporter.update(total=plan.changes, planned_calls=plan.calls)
        self._warn_of_lint(staged)
        if plan.refused_before:
            excluded = await context.state.call(excluded_ids, plan.key, staged.table)
            await self._dispatcher.keep_refused(excluded)
            self._dispatcher.warn_of_refused(plan.refused_before)
        return plan

    def _warn_of_lint(self, staged: StagedSource) -> None:
        if staged.lint.counts:
            self.context.reporter.warn(
                f"IDs of the source that match no user: {staged.lint}. Fix the source, or reject them."
            )
        if staged.attribute_lint.counts:
            self.context.reporter.warn(
                f"Attributes beyond the limits of Batch's Profile API: {staged.attribute_lint}. "
                "Batch may drop them. Fix the source, or reject its rows."
            )

    async def discard_plan(self) -> None:
        """Drop the tables of a plan that was not begun."""
        if self._has_plan:
            self._has_plan = False
            with contextlib.suppress(StateError):  # a broken state has failed the run already
                await self.context.state.call(clear_plan, self.record.key)

    # -- the run --------------------------------------------------------------------------------------

    async def begin(self, plan: Plan) -> None:
        """Enforce the guard, create the audience if needed, and journal what will be sent.

        Args:
            plan: The plan that `plan` returned last.

        Raises:
            GuardError: The guard refuses the plan. Nothing was sent.
            AiobatchError: The audience cannot be created.
            StateError: The journal could not be written. Nothing was sent.
        """
        context = self.context
        plan.enforce()
        if self._seen is None:
            context.reporter.update(phase=Phase.CREATING)
            # Its creation time is on disk before the first chunk, so that a later run knows its audience.
            with context.checked(self.record.key):
                self._seen = await context.unless_stopped(create_audience(context))
        beginning = context.state.call_interruptible(_begin, plan, self._seen, context.reporter.rows)
        self._journal = await context.unless_stopped(beginning)
        await self._note_state()
        self._has_plan = False

    async def send(self) -> SyncReport:
        """Send what was begun, wait until it is APPLIED, and compare the counts.

        Returns:
            The report.

        Raises:
            RunError: The run did not succeed. The journal keeps its progress.
            StateError: The journal could not be written.
        """
        assert self._journal is not None  # noqa: S101 - begin comes first
        journal, self._journal = self._journal, None
        states = [ChunkState.PLANNED]
        await self._dispatcher.send(journal, states=states, wait=self.context.options.wait)
        outcome = RunOutcome.SENT if journal.open_chunks() else RunOutcome.DONE
        run = await self._dispatcher.close(journal, outcome)
        if outcome is RunOutcome.DONE:
            await self._check(run)
        return self.context.reporter.report(outcome)

    async def adopt(self, plan: Plan) -> SyncReport:
        """Record the source as the members instead of sending anything.

        Args:
            plan: The plan that `plan` returned last, of mode ADOPT.

        Returns:
            The report.

        Raises:
            DriftError: Batch has another count, and the options are strict. Nothing was changed.
        """
        reporter = self.context.reporter
        reporter.update(phase=Phase.CHECKING)
        reporter.counted = await self._drift.after(plan.members_after, run=None)
        reporter.run = await self.context.state.call(adopt, plan, reporter.rows)
        await self._note_state()
        await self._record_end(self._drift.last)
        return reporter.report(RunOutcome.DONE)

    # -- parts ----------------------------------------------------------------------------------------

    async def _settle(self, *, send: bool, resends: bool = False) -> bool:
        """Bring the open chunks of an earlier run to their end. Return whether there was such a run.

        Those of unknown outcome are sent again on request only. Otherwise the next plan decides for them.
        """
        if self.record.open_run is None:
            return False
        context = self.context
        journal = await context.state.call_interruptible(Journal.resume, self.record)
        assert journal is not None  # noqa: S101 - the record has an open run, and its lock is held
        if not send and journal.open_chunks():
            raise OpenRunError(audience=context.audience, run=journal.run)
        states = [ChunkState.SENDING] if resends else []
        await self._dispatcher.send(journal, states=states, wait=True, resends=resends)
        await context.state.call(close_resumed_run, journal, retries=context.reporter.take_retries())
        context.reporter.settled_run = journal.run
        return True

    async def _check(self, run: Run) -> None:
        """Compare the counts after a run, unless nothing was sent and they were right before."""
        reporter, members = self.context.reporter, run.members_after or 0
        reporter.update(phase=Phase.CHECKING)
        if not run.calls and reporter.counted is not None:
            # A foreign change must not become the state from which the next one is measured.
            if not self._is_anchored:
                await self._record_end(self._seen)
            return
        try:
            reporter.counted = await self._drift.after(members, run=run.run, before=self._seen)
        except (DriftError, AudienceGoneError) as error:
            outcome = outcome_of(error)
            reporter.run = await self.context.state.call(record_failure, run.run, outcome, error.text)
            raise
        await self._record_end(self._drift.last)

    async def _check_copy(self) -> None:
        """Raise StateError if this is an older copy of the state. A run that only adds or removes warns."""
        context, mode = self.context, self.context.options.mode
        if mode in RESTATING_MODES:
            return
        place = (self.record.key, context.client.base_url, context.audience)
        try:
            await context.state.call(check_not_older, *place)
        except StateError as error:
            if error.reason != "older" or mode not in DELTA_MODES:
                raise
            context.reporter.warn(error.text)

    async def _note_state(self) -> None:
        await self.context.state.call(note_state, self.record.key, self.context.client.base_url)

    async def _record_end(self, seen: Audience | None) -> None:
        if seen is not None:
            await self.context.state.call(record_end, self.record.key, seen)


def _plan_request(context: RunContext, staged: StagedSource, seen: Audience | None) -> PlanRequest:
    options, client = context.options, context.client
    # A rollback's IDs are members, which follow their ID rules already.
    rules = None if options.mode is Mode.ROLLBACK else str(options.rules(client.default_id_type))
    return PlanRequest(
        mode=options.mode,
        source=staged.label,
        staged=staged.table,
        sums=staged.sums,
        id_rules=rules,
        policy=options.guard,
        overrides=options.overrides,
        chunk_size=options.chunk_size,
        rate=client.rate_limit,
        counted=0 if seen is None else seen.nb_ids,
    )


def _begin(state: State, plan: Plan, seen: Audience | None, rows: RunRows | None) -> Journal:
    journal = Journal.begin(state, plan, rows, snapshot_of(seen))
    clear_plan(state, plan.key)
    return journal


async def _look(context: RunContext) -> Audience | None:
    """View the audience. Return None if it does not exist and the options create it."""
    try:
        return await context.client.view(context.audience)
    except AudienceNotFoundError:
        if context.options.create:
            return None
        raise


def _check_type(context: RunContext, seen: Audience) -> None:
    """Raise InvalidInputError if the audience holds IDs of another type: Batch would refuse each ID."""
    wanted = id_type_of(context.client, context.options.id_type)
    if isinstance(context.client.target, Project) and wanted is not context.client.default_id_type:
        return  # how 2.x shows an undocumented type is not documented either
    if seen.id_type is not None and seen.id_type.is_known and seen.id_type is not wanted:
        msg = f"Audience {seen.name!r} holds {seen.id_type}, not {wanted}. Set id_type. Nothing was sent."
        raise InvalidInputError(msg)
