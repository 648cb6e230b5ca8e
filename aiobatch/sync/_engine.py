"""The sync engine: one open state, and the operations that bring audiences in line with their sources."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from .._client import AudienceClient
from ..options import App, Project
from ._engine_base import (
    EngineBase,
    check_arguments,
    check_client_and_name,
    check_plans,
    check_run_number,
    only,
    source_of,
)
from ._options import DEFAULTS, Mode, SyncOptions
from ._plan import Plan
from ._report import OnProgress, SyncReport, Verification
from .run._audience_run import AudienceRun
from .run._fan_out import check_source, fan_out, plan_each, staging
from .run._state_note import forget_note
from .sources._source import Source, SourceLike
from .sources._stage import StageCounts, StagedSource
from .state._history import Run, show_run
from .state._repair import forget, stage_rollback
from .state._state import AudienceRecord, State
from .state._status import RunHistory, Status, read_run, read_runs, read_status, take_status
from .state._targets import TargetKey, get_or_create_audience, name_targets
from .state.ledger._ledger import StateUrl


class SyncEngine(EngineBase):
    """Brings audiences in line with their sources, and keeps one state open for all of them.

    Use it as `async with SyncEngine(state="state.duckdb") as engine`. The first operation that needs to write
    opens the state, and the end of the `async with` closes it. `status`, `runs` and `show` also work while
    another process has the state open. The event loop is never blocked. Cancelling is always safe: what was
    sent is journaled, and the next run continues from there.

    Attributes:
        state: The state: a file, or a URL such as `s3://bucket/prefix`. Default: the user's own file.
        options: The options of operations that are passed none.
        on_progress: Called on the event loop after each change, with a `SyncProgress`.
        stop: Set it to end early. Chunks in flight are finished, within the grace period.
        purpose: What the process is doing, for others that find the state locked. Default: the first
            operation.
        records_attempts: Whether each attempt is recorded beside the state for `status`, however it ends.
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
        return only(await self.sync_many([client], name, source, options=options))

    async def sync_many(
        self,
        clients: Sequence[AudienceClient],
        name: str,
        source: SourceLike,
        *,
        options: SyncOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[SyncReport | Exception]:
        """Bring the audience of one name in line in several targets. The source is read once.

        Args:
            clients: An open client of each target.
            name: The audiences' name.
            source: As for `sync`.
            options: As for `sync`.
            on_progress: Called instead of the engine's own. `SyncProgress.target` is the client's position.

        Returns:
            For each client the report or the error. One that fails does not stop the others.
        """
        parsed = Source.of(source)
        attempt = self._attempt("sync", clients, name, self._chosen(options).mode, parsed)
        async with attempt as outcomes:
            contexts = await self._contexts("sync", clients, name, options, on_progress)
            outcomes.extend(await fan_out(contexts, parsed))
        return outcomes

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
        return only(await self.apply_many([client], [plan], source, options=options))

    async def apply_many(
        self,
        clients: Sequence[AudienceClient],
        plans: Sequence[Plan],
        source: SourceLike | None = None,
        *,
        options: SyncOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[SyncReport | Exception]:
        """Carry out what `plan_many` returned for several targets. The source is read once.

        Args:
            clients: An open client of each plan's target.
            plans: Plans of one audience's name, source and options.
            source: As for `apply`.
            options: As for `apply`.
            on_progress: As for `sync_many`.

        Returns:
            For each plan the report or the error. One that fails does not stop the others.
        """
        first = check_plans(clients, plans)
        parsed, chosen = source_of(first) if source is None else Source.of(source), options or first.options
        for client in clients:
            check_source(parsed, client)
        async with self._attempt("apply", clients, first.audience, chosen.mode, parsed) as outcomes:
            contexts = await self._contexts("apply", clients, first.audience, chosen, on_progress)
            outcomes.extend(await fan_out(contexts, parsed, plans=plans))
        return outcomes

    async def rollback(
        self, client: AudienceClient, name: str, to: int, *, options: SyncOptions | None = None
    ) -> SyncReport:
        """Restore the members, without attributes, that an audience had after run *to*. As `sync` otherwise.

        Raises:
            UnknownRunError: The audience has no such run, or its changes are no longer kept.
        """
        check_run_number(to)
        chosen = self._in_mode(Mode.ROLLBACK, options)
        async with (
            self._attempt("rollback", [client], name, chosen.mode) as outcomes,
            self._run("rollback", client, name, chosen) as run,
        ):
            await run.prepare()
            await run.begin(await run.plan(await _stage_rollback(run, to)))
            outcomes.append(report := await run.send())
        return report

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
        parsed = check_arguments(client, name, source)
        return only(await self.plan_many([client], name, parsed, options=options))

    async def plan_many(
        self,
        clients: Sequence[AudienceClient],
        name: str,
        source: SourceLike,
        *,
        options: SyncOptions | None = None,
        on_progress: OnProgress | None = None,
    ) -> list[Plan | Exception]:
        """Work out what `sync_many` would do with the same arguments.

        Returns:
            For each client the plan or the error. One that fails does not stop the others.
        """
        parsed = Source.of(source)
        return await plan_each(await self._contexts("plan", clients, name, options, on_progress), parsed)

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
        parsed, chosen = check_arguments(client, name, source), self._in_mode(Mode.ADOPT, options)
        async with (
            self._attempt("adopt", [client], name, chosen.mode, parsed) as outcomes,
            self._run("adopt", client, name, chosen) as run,
        ):
            await run.prepare(send=False)
            async with staging([run.context], parsed) as staged:
                outcomes.append(report := await run.adopt(await run.plan(staged)))
        return report

    async def verify(self, client: AudienceClient, name: str) -> Verification:
        """Compare Batch's member count with the recorded one. Nothing is settled or sent.

        Raises:
            OpenRunError: An earlier run must be settled first.
            AudienceNotFoundError: The audience does not exist.
            StateError: The state cannot be used.
        """
        check_client_and_name(client, name)
        seen = await client.view(name)
        async with self._record("verify", client, name) as thread:
            record = await thread.call(_settled_record, TargetKey.of(client.target), name)
        return Verification(audience=name, known=record.known, members=record.members, counted=seen.nb_ids)

    async def forget(self, client: AudienceClient, name: str) -> None:
        """Delete an audience and its history from the state. Nothing is sent, and *client* need not be open.

        Raises:
            StateError: The state cannot be used.
        """
        check_client_and_name(client, name)
        async with self._record("forget", client, name) as thread:
            await thread.call(_forget, TargetKey.of(client.target), name, client.base_url)

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
        if self._thread is not None and self._thread.state.ledger.is_whole:
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
        if self._thread is not None and self._thread.state.ledger.is_whole:
            return await self._thread.call(RunHistory.read, name=name, limit=limit)
        return await asyncio.to_thread(read_runs, self.state, name=name, limit=limit)

    async def show(self, run: int) -> Run:
        """Return one run.

        Raises:
            UnknownRunError: There is no such run, or it cannot be read while another process writes.
            StateError: As for `status`.
        """
        if self._thread is not None and self._thread.state.ledger.is_whole:
            return await self._thread.call(show_run, run)
        return await asyncio.to_thread(read_run, self.state, run)


async def sync_audience(  # noqa: PLR0913 - three for what to sync, the others for how, by keyword
    client: AudienceClient,
    name: str,
    source: SourceLike,
    *,
    state: Path | str | StateUrl | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring one audience in line with a source: `SyncEngine.sync` in one call.

    Args:
        client: An open client of the audience's target. `BULK_RETRY` is a good policy for it.
        name: The audience's name.
        source: A path, a URL with its query as `Source`, IDs or Members, or an Arrow table.
        state: The state: a file, or a URL such as `s3://bucket/prefix`. Default: the user's own file.
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


def _settled_record(state: State, target: TargetKey, name: str) -> AudienceRecord:
    return state.refuse_open_run(get_or_create_audience(state, target, name).key)


def _forget(state: State, target: TargetKey, name: str, base_url: str) -> None:
    audience = get_or_create_audience(state, target, name)
    forget(state, audience)
    forget_note(audience.key, base_url)


async def _stage_rollback(run: AudienceRun, to: int) -> StagedSource:
    """Stage the members that an audience had after run *to*."""
    thread = run.context.state
    table = await thread.call_interruptible(stage_rollback, run.record, to)
    (count,) = await thread.run(thread.state.row, "SELECT count(*) FROM {table}", (), table=table)
    counts = StageCounts(read=count, kept=count, duplicate=0, rejected=0, reasons=MappingProxyType({}))
    return StagedSource(table=table, label=f"members after run {to}", counts=counts)
