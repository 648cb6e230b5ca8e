"""The sync engine: one open state, and the operations that bring audiences in line with their sources."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs

from .._client import AudienceClient
from ..errors import InvalidInputError
from ..options import App, Project, check_instance
from ._engine_base import EngineBase, check_client_and_name
from ._errors import StalePlanError
from ._options import DEFAULTS, Mode, SyncOptions
from ._plan import Plan
from ._report import OnProgress, SyncReport, Verification
from .run._audience_run import AudienceRun
from .run._fan_out import check_source, fan_out, staging
from .sources._source import Source, SourceLike
from .sources._stage import StageCounts, StagedSource
from .state._history import Run, RunOutcome, show_run
from .state._repair import forget, stage_rollback
from .state._state import AudienceRecord, State
from .state._status import RunHistory, Status, read_run, read_runs, read_status, take_status
from .state._targets import TargetKey, get_or_create_audience, name_targets


class SyncEngine(EngineBase):
    """Brings audiences in line with their sources, and keeps one state open for all of them.

    Use it as `async with SyncEngine(state="state.duckdb") as engine`. The first operation that needs to write
    opens the state, and the end of the `async with` closes it. `status`, `runs` and `show` also work while
    another process has the state open. The event loop is never blocked. Cancelling is always safe: what was
    sent is journaled, and the next run continues from there.

    Attributes:
        state: The state file. Default: the user's own.
        options: The options of operations that are passed none.
        on_progress: Called on the event loop after each change, with a `SyncProgress`.
        stop: Set it to end early. Chunks in flight are finished, within the grace period.
        purpose: What the process is doing, for others that find the state locked. Default: the first
            operation.
    """

    async def sync(
        self, client: AudienceClient, name: str, source: SourceLike, *, options: SyncOptions | None = None
    ) -> SyncReport:
        """Bring an audience in line with a source, by sending only what differs.

        Args:
            client: An open client of the audience's target. `BULK_RETRY` is a good policy for it.
            name: The audience's name.
            source: A path, a URL with its query as `Source`, IDs or Members, or an Arrow table.
            options: The options of this run. Default: the engine's.

        Returns:
            The report of the run.

        Raises:
            GuardError: The guard refused the plan. Nothing was sent.
            LockedError: Another process or run has the state or the audience.
            RunError: The run began and did not succeed.
            SourceError: The source cannot be read to its end. Nothing was sent.
            StateError: The state cannot be used.
            InvalidInputError: An argument is invalid. Nothing was sent.
            AiobatchError: Batch refused or could not be reached, before anything was sent.
        """
        (outcome,) = await self.sync_many([client], name, source, options=options)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def sync_many(
        self,
        clients: Sequence[AudienceClient],
        name: str,
        source: SourceLike,
        *,
        options: SyncOptions | None = None,
        on_progress: OnProgress | None = None,
        dry_run: bool = False,
    ) -> list[SyncReport | Exception]:
        """Bring the audience of one name in line in several targets. The source is read once.

        Args:
            clients: An open client of each target.
            name: The audiences' name.
            source: As for `sync`.
            options: As for `sync`.
            on_progress: Called instead of the engine's own. `SyncProgress.target` is the client's position.
            dry_run: Whether to send nothing, and report the plans. A refused plan is a `GuardError`.

        Returns:
            For each client the report or the error. One that fails does not stop the others.
        """
        parsed, hook = Source.of(source), on_progress or self.on_progress
        contexts = [
            await self._context("sync", client, name, options, _of_target(number, hook))
            for number, client in enumerate(clients)
        ]
        return await fan_out(contexts, parsed, dry_run=dry_run)

    async def resync(
        self, client: AudienceClient, name: str, source: SourceLike, *, options: SyncOptions | None = None
    ) -> SyncReport:
        """Send all of a source again, and remove every other ID that this state has ever sent.

        For an audience that another writer changed. No member is removed meanwhile. The rest is as for
        `sync`.
        """
        return await self.sync(client, name, source, options=self._in_mode(Mode.RESYNC, options))

    async def apply(
        self,
        client: AudienceClient,
        plan: Plan,
        source: SourceLike | None = None,
        *,
        options: SyncOptions | None = None,
    ) -> SyncReport:
        """Carry out a plan, if neither its source nor the state has changed since.

        Args:
            client: An open client of the plan's target.
            plan: The plan.
            source: The source, which is read again. Default: the plan's.
            options: The options. Default: the plan's.

        Returns:
            The report of the run.

        Raises:
            StalePlanError: The source or the state has changed. Nothing was sent.
            SyncError: As for `sync`.
        """
        check_instance(plan, Plan, "plan")
        parsed = _source_of(plan) if source is None else Source.of(source)
        check_source(parsed, client)
        async with self._run("apply", client, plan.audience, options or plan.options) as run:
            return await _apply(run, plan, parsed)

    async def rollback(
        self, client: AudienceClient, name: str, to: int, *, options: SyncOptions | None = None
    ) -> SyncReport:
        """Restore the members, without attributes, that an audience had after run *to*. As `sync` otherwise.

        Raises:
            UnknownRunError: The audience has no such run, or its changes are no longer kept.
        """
        _check_run_number(to)
        async with self._run("rollback", client, name, self._in_mode(Mode.ROLLBACK, options)) as run:
            await run.prepare()
            await run.begin(await run.plan(await _stage_rollback(run, to)))
            return await run.send()

    async def settle(
        self, client: AudienceClient, name: str, *, options: SyncOptions | None = None
    ) -> Run | None:
        """Settle what an earlier run left open: wait for tokens, and resend chunks of unknown outcome.

        What an interrupted run had not sent is not sent. The next sync plans it again.

        Returns:
            The audience's latest run, of which nothing is open any more. It is `whole` if all of its plan is
            APPLIED. None if there is no run.

        Raises:
            RunError: The run cannot be settled now.
            StateError: The state cannot be used.
        """
        async with self._run("settle", client, name, options) as run:
            return await run.settle()

    # -- operations that send nothing -------------------------------------------------------------------

    async def plan(
        self, client: AudienceClient, name: str, source: SourceLike, *, options: SyncOptions | None = None
    ) -> Plan:
        """Work out what `sync` would do with the same arguments.

        Returns:
            The plan, with the guard's decision. Its `report` is that of a run that sends nothing.

        Raises:
            OpenRunError: An earlier run must be settled first.
            SyncError: As for `sync`.
        """
        parsed = _check_arguments(client, name, source)
        async with self._run("plan", client, name, options) as run:
            return await _plan(run, parsed)

    async def adopt(
        self, client: AudienceClient, name: str, source: SourceLike, *, options: SyncOptions | None = None
    ) -> SyncReport:
        """Import the members of an existing audience from a source. Nothing is sent.

        Only the options for reading IDs apply, and `strict`: whether a different count is an error.

        Returns:
            The report, with the members that the state records from now on.

        Raises:
            DriftError: Batch counts other members than the source has, and the options are strict.
            SyncError: As for `plan`.
        """
        parsed, chosen = _check_arguments(client, name, source), self._in_mode(Mode.ADOPT, options)
        async with self._run("adopt", client, name, chosen) as run:
            await run.prepare(send=False)
            async with staging([run.context], parsed) as staged:
                return await run.adopt(await run.plan(staged))

    async def verify(self, client: AudienceClient, name: str) -> Verification:
        """Compare Batch's member count with the recorded one. Nothing is settled or sent.

        Raises:
            OpenRunError: An earlier run must be settled first.
            AudienceNotFoundError: The audience does not exist.
            StateError: The state cannot be used.
        """
        check_client_and_name(client, name)
        seen = await client.view(name)
        thread = await self._open(f"verify {name}")
        record = await thread.call(_settled_record, TargetKey.of(client.target), name)
        return Verification(audience=name, known=record.known, members=record.members, counted=seen.nb_ids)

    async def forget(self, client: AudienceClient, name: str) -> None:
        """Delete an audience and its history from the state. Nothing is sent, and *client* need not be open.

        Raises:
            StateError: The state cannot be used.
        """
        check_client_and_name(client, name)
        thread = await self._open(f"forget {name}")
        await thread.call(_forget, TargetKey.of(client.target), name)

    async def name_targets(self, targets: Mapping[str, App | Project]) -> None:
        """Record the names of apps and projects, for `status`, `runs` and `show`."""
        thread = await self._open("name targets")
        await thread.call(name_targets, {TargetKey.of(one): name for name, one in targets.items()})

    # -- operations that read ---------------------------------------------------------------------------

    async def status(self) -> Status:
        """Return each audience at a glance.

        Raises:
            LockedError: Another process has just opened the state, and has not written its status yet.
            StateError: There is no state, or it cannot be read.
        """
        if self._thread is not None:
            return await self._thread.call(take_status, running=list(self._thread.running.values()))
        return await asyncio.to_thread(read_status, self.state)

    async def runs(self, name: str | None = None, *, limit: int = 50) -> RunHistory:
        """Return runs, newest first. While another process has the state open, only the latest can be read.

        Args:
            name: An audience's name, in any target. None: all audiences.
            limit: The number of runs at most.

        Raises:
            LockedError: As for `status`.
            StateError: As for `status`.
        """
        if self._thread is not None:
            return await self._thread.call(RunHistory.read, name=name, limit=limit)
        return await asyncio.to_thread(read_runs, self.state, name=name, limit=limit)

    async def show(self, run: int) -> Run:
        """Return one run.

        Raises:
            UnknownRunError: There is no such run, or it cannot be read while another process writes.
            StateError: As for `status`.
        """
        if self._thread is not None:
            return await self._thread.call(show_run, run)
        return await asyncio.to_thread(read_run, self.state, run)


async def sync_audience(  # noqa: PLR0913 - three for what to sync, the others for how, by keyword
    client: AudienceClient,
    name: str,
    source: SourceLike,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring one audience in line with a source: `SyncEngine.sync` in one call.

    Args:
        client: An open client of the audience's target. `BULK_RETRY` is a good policy for it.
        name: The audience's name.
        source: A path, a URL with its query as `Source`, IDs or Members, or an Arrow table.
        state: The state file. Default: the user's own.
        options: The options of the run.
        on_progress: Called on the event loop after each change, with a `SyncProgress`.
        stop: Set it to end early. Chunks in flight are finished, within the grace period.

    Returns:
        The report of the run.

    Raises:
        SyncError: As for `SyncEngine.sync`.
        AiobatchError: As for `SyncEngine.sync`.
    """
    async with SyncEngine(state=state, options=options, on_progress=on_progress, stop=stop) as engine:
        return await engine.sync(client, name, source)


def _check_run_number(to: object) -> None:
    if isinstance(to, bool) or not isinstance(to, int):
        msg = f"to must be the number of a run, not {type(to).__name__}. `runs` returns the numbers."
        raise InvalidInputError(msg)


def _check_arguments(client: AudienceClient, name: str, source: SourceLike) -> Source:
    """Return the source. Raise InvalidInputError before the state is opened."""
    parsed = Source.of(source)
    check_client_and_name(client, name)
    check_source(parsed, client)
    return parsed


async def _plan(run: AudienceRun, source: Source) -> Plan:
    await run.prepare(send=False)
    async with staging([run.context], source) as staged:
        plan = await run.plan(staged)
    return attrs.evolve(
        plan,
        report=run.context.reporter.report(RunOutcome.PLANNED),
        source=source,
        options=run.context.options,
        state=str(run.context.state.state.path),
    )


async def _apply(run: AudienceRun, plan: Plan, source: Source) -> SyncReport:
    await run.load_state()
    _check_unchanged(plan, run.record, run.context.state.state.state_id)
    await run.prepare()
    async with staging([run.context], source) as staged:
        fresh = await run.plan(staged)
        plan.refuse_stale(fresh)
        await run.begin(fresh)
    return await run.send()


def _of_target(number: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Return a hook that adds the number of a target to the progress."""
    if on_progress is None or number == 0:
        return on_progress
    return lambda progress: on_progress(attrs.evolve(progress, target=number))


def _settled_record(state: State, target: TargetKey, name: str) -> AudienceRecord:
    return state.refuse_open_run(get_or_create_audience(state, target, name).key)


def _forget(state: State, target: TargetKey, name: str) -> None:
    forget(state, get_or_create_audience(state, target, name))


async def _stage_rollback(run: AudienceRun, to: int) -> StagedSource:
    """Stage the members that an audience had after run *to*."""
    thread = run.context.state
    table = await thread.call_interruptible(stage_rollback, run.record, to)
    (count,) = await thread.run(thread.state.row, "SELECT count(*) FROM {table}", (), table=table)
    counts = StageCounts(read=count, kept=count, duplicate=0, rejected=0, reasons=MappingProxyType({}))
    return StagedSource(table=table, label=f"members after run {to}", counts=counts)


def _source_of(plan: Plan) -> Source:
    if plan.source is None:
        msg = f"The plan of audience {plan.audience!r} keeps no source. Pass the source."
        raise InvalidInputError(msg)
    return plan.source


def _check_unchanged(plan: Plan, record: AudienceRecord, state_id: str) -> None:
    """Raise StalePlanError for a plan of another target or an earlier state, before anything is read."""
    if record.key != plan.key:
        raise StalePlanError(audience=plan.audience, moved=["it is a plan for another app or project"])
    if record.open_run is not None:
        moved = [f"run {record.open_run} has begun since and is not settled"]
        raise StalePlanError(audience=plan.audience, moved=moved)
    plan.refuse_moved(state_id, record.generation)
