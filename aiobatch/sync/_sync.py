"""The engine's doors: each opens the state, does one thing, and closes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from .._client import AudienceClient
from ._engine import AudienceRun, Staged, scope_of
from ._ids import IdRules
from ._options import SyncOptions
from ._plan import Mode, Plan
from ._repair import forget, stage_rollback
from ._report import OnProgress, SyncReport
from ._schema import fill
from ._sources import Source
from ._staging import StageCounts, stage
from ._state import State, default_state_path
from ._thread import StateThread

_OPTIONS = SyncOptions()


async def sync_audience(
    client: AudienceClient,
    name: str,
    source: Any,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring an audience in line with a source.

    The event loop is never blocked: files and DuckDB have a thread of their own. Cancelling is safe at any moment; what
    was sent is journaled, and the next run goes on from there.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        source: A path, a URL with its query as `Source`, ids or Members, or an Arrow table.
        state: The state file; None for the user's own.
        options: How.
        on_progress: Called on the event loop whenever something moved.
        stop: Set it to end early: chunks under way are finished, within the grace.

    Returns:
        What the run did.

    Raises:
        GuardError: The guard refused the plan; nothing was sent.
        LockedError: Another run holds the state or the audience.
        RunError: The run began and did not come to its good end.
        SourceError: The source cannot be read, or not to its end; nothing was sent.
        StateError: The state cannot be used.
        InvalidInputError: An argument cannot be used; nothing was sent.
    """
    async with _opened(state, options, f"sync {name}") as thread:
        (outcome,) = await fan_out(
            thread, [client], name, source, options=options, on_progress=on_progress, stop=stop
        )
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


async def plan_audience(
    client: AudienceClient,
    name: str,
    source: Any,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
) -> tuple[Plan, SyncReport]:
    """Work out what `sync_audience` would do; nothing is sent.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        source: As for `sync_audience`.
        state: The state file; None for the user's own.
        options: How.
        on_progress: Called on the event loop whenever something moved.

    Returns:
        The plan, with the guard's verdict, and the report of a run that sends nothing.

    Raises:
        OpenRunError: An earlier run must be settled first.
        LockedError: Another run holds the state or the audience.
        SourceError: The source cannot be read, or not to its end.
        StateError: The state cannot be used.
        InvalidInputError: An argument cannot be used.
    """
    async with (
        _opened(state, options, f"plan {name}") as thread,
        AudienceRun(client=client, name=name, thread=thread, options=options, on_progress=on_progress) as run,
    ):
        await run.prepare(send=False)
        staged = await _stage(thread, source, [run], options)
        plan = await run.plan(staged)
        return plan, run.planned(staged, plan)


async def apply_plan(
    client: AudienceClient,
    plan: Plan,
    source: Any,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Carry out a plan that was made before, if neither its source nor the state has moved.

    Args:
        client: An open client of the plan's target.
        plan: What `plan_audience` answered.
        source: The plan's source, to be read again.
        state: The state file; None for the user's own.
        options: As the plan was made with.
        on_progress: Called on the event loop whenever something moved.
        stop: Set it to end early.

    Returns:
        What the run did.

    Raises:
        StalePlanError: The source or the state has moved since; nothing was sent.
        SyncError: As for `sync_audience`.
    """
    async with (
        _opened(state, options, f"apply {plan.audience}") as thread,
        AudienceRun(
            client=client,
            name=plan.audience,
            thread=thread,
            options=options,
            on_progress=on_progress,
            stop=stop or asyncio.Event(),
        ) as run,
    ):
        await run.prepare()
        staged = await _stage(thread, source, [run], options)
        fresh = await run.plan(staged)
        plan.refuse_stale(fresh)
        return await run.bring(staged, fresh)


async def fan_out(
    thread: StateThread,
    clients: Sequence[AudienceClient],
    name: str,
    source: Any,
    *,
    options: SyncOptions,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> list[SyncReport | Exception]:
    """Bring the audience of one name, in several targets, in line with a source that is read once.

    Args:
        thread: The open state.
        clients: A client for each target.
        name: The audience's name.
        source: As for `sync_audience`.
        options: How.
        on_progress: Called on the event loop whenever something moved.
        stop: Set it to end early.

    Returns:
        For each client its report, or what went wrong; one that fails does not stop the others.
    """
    stop = stop or asyncio.Event()
    runs = [
        AudienceRun(
            client=client, name=name, thread=thread, options=options, on_progress=on_progress, stop=stop
        )
        for client in clients
    ]
    async with AsyncExitStack() as stack:
        ready: dict[int, AudienceRun] = {}
        outcomes: dict[int, SyncReport | Exception] = {}
        for number, run in enumerate(runs):
            try:
                await stack.enter_async_context(run)
                await run.prepare()
                ready[number] = run
            except Exception as error:  # noqa: BLE001 - not swallowed: it is this target's outcome
                outcomes[number] = error
        if ready:
            outcomes |= await _bring_all(thread, ready, source, options)
        return [outcomes[number] for number in range(len(runs))]


async def _bring_all(
    thread: StateThread, ready: dict[int, AudienceRun], source: Any, options: SyncOptions
) -> dict[int, SyncReport | Exception]:
    """Read the source once and bring every run to its end."""
    try:
        staged = await _stage(thread, source, list(ready.values()), options)
    except Exception as error:  # noqa: BLE001 - not swallowed: it is the outcome of all of them
        return dict.fromkeys(ready, error)
    try:
        outcomes: dict[int, SyncReport | Exception] = {}

        async def bring(number: int, run: AudienceRun) -> None:
            try:
                plan = await run.plan(staged)
                outcomes[number] = await run.bring(staged, plan)
            except Exception as error:  # noqa: BLE001 - not swallowed: it is this target's outcome
                outcomes[number] = error

        async with asyncio.TaskGroup() as group:
            for number, run in ready.items():
                group.create_task(bring(number, run))
        return outcomes
    finally:
        await thread.run(_unstage, thread.state, staged.table)


# -- repairs ------------------------------------------------------------------------------------------


async def adopt_audience(
    client: AudienceClient,
    name: str,
    source: Any,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
) -> SyncReport:
    """Take over an audience whose members a source tells; nothing is sent.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        source: Its members, as for `sync_audience`.
        state: The state file; None for the user's own.
        options: How the ids are read; whether a count that differs is an error (`strict`).
        on_progress: Called on the event loop whenever something moved.

    Returns:
        What is believed from now on.

    Raises:
        DriftError: Batch counts other members than the source has, and *options* are strict; nothing was changed.
        SyncError: As for `plan_audience`.
    """
    options = attrs.evolve(options, mode=Mode.ADOPT)
    async with (
        _opened(state, options, f"adopt {name}") as thread,
        AudienceRun(client=client, name=name, thread=thread, options=options, on_progress=on_progress) as run,
    ):
        await run.prepare(send=False)
        staged = await _stage(thread, source, [run], options)
        plan = await run.plan(staged)
        return await run.adopt(staged, plan)


async def rollback_audience(
    client: AudienceClient,
    name: str,
    to: int,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring an audience back to the members that it had after a run; attributes cannot be restored.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        to: The run's number.
        state: The state file; None for the user's own.
        options: How; the guard judges what would go.
        on_progress: Called on the event loop whenever something moved.
        stop: Set it to end early.

    Returns:
        What the run did.

    Raises:
        UnknownRunError: It is no run of this audience, or its changes are no longer kept.
        SyncError: As for `sync_audience`.
    """
    options = attrs.evolve(options, mode=Mode.ROLLBACK)
    async with (
        _opened(state, options, f"rollback {name}") as thread,
        AudienceRun(
            client=client,
            name=name,
            thread=thread,
            options=options,
            on_progress=on_progress,
            stop=stop or asyncio.Event(),
        ) as run,
    ):
        await run.prepare()
        table = await thread.run_long(stage_rollback, thread.state, run.believed, to)
        (count,) = await thread.run(thread.state.row, "SELECT count(*) FROM {table}", (), table=table)
        counts = StageCounts(
            read=count,
            kept=count,
            duplicate=0,
            rejected=0,
            reasons=MappingProxyType({}),
            source_fingerprint="",
        )
        staged = Staged(table=table, label=f"members after run {to}", counts=counts)
        return await run.bring(staged, await run.plan(staged))


@attrs.frozen(kw_only=True)
class Verification:
    """Batch's count beside ours.

    Attributes:
        audience: The audience's name.
        known: Whether we know its members.
        members: Members as we know them.
        counted: What Batch counts; None where it does not say.
    """

    audience: str
    known: bool
    members: int
    counted: int | None

    @property
    def drift(self) -> int:
        """Ids by which Batch counts more than we know."""
        return 0 if self.counted is None else self.counted - self.members


async def verify_audience(
    client: AudienceClient, name: str, *, state: Path | str | None = None
) -> Verification:
    """Settle nothing, send nothing: compare what Batch counts with what we know.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        state: The state file; None for the user's own.

    Raises:
        OpenRunError: An earlier run must be settled first.
        AudienceNotFoundError: There is no such audience.
        StateError: The state cannot be used.
    """
    audience = await client.view(name)
    async with _opened(state, _OPTIONS, f"verify {name}") as thread:
        believed = await thread.run(thread.state.audience, scope_of(client), name)
        believed = await thread.run(thread.state.refuse_open_run, believed.key)
    return Verification(
        audience=name, known=believed.known, members=believed.members, counted=audience.nb_ids
    )


async def forget_audience(client: AudienceClient, name: str, *, state: Path | str | None = None) -> None:
    """Forget an audience with its history; nothing is sent.

    Args:
        client: A client of the audience's target; it need not be open.
        name: The audience's name.
        state: The state file; None for the user's own.

    Raises:
        StateError: The state cannot be used.
    """
    async with _opened(state, _OPTIONS, f"forget {name}") as thread:
        believed = await thread.run(thread.state.audience, scope_of(client), name)
        await thread.run(forget, thread.state, believed)


async def settle_audience(
    client: AudienceClient,
    name: str,
    *,
    state: Path | str | None = None,
    options: SyncOptions = _OPTIONS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> int | None:
    """Bring what an earlier run left open to its end: tokens are waited for, unknown outcomes sent again.

    Args:
        client: An open client of the audience's target.
        name: The audience's name.
        state: The state file; None for the user's own.
        options: How long to wait.
        on_progress: Called on the event loop whenever something moved.
        stop: Set it to end early.

    Returns:
        The run that was settled; None if none was open.

    Raises:
        RunError: It cannot be settled now.
        StateError: The state cannot be used.
    """
    async with (
        _opened(state, options, f"wait {name}") as thread,
        AudienceRun(
            client=client,
            name=name,
            thread=thread,
            options=options,
            on_progress=on_progress,
            stop=stop or asyncio.Event(),
        ) as run,
    ):
        return await run.settle()


# -- inside -------------------------------------------------------------------------------------------


@asynccontextmanager
async def _opened(state: Path | str | None, options: SyncOptions, what: str) -> AsyncIterator[StateThread]:
    """Open a state, and close it whatever happens."""
    path = default_state_path() if state is None else Path(state)
    thread = await StateThread.open(path, what=what, memory_limit=options.memory_limit)
    try:
        yield thread
    finally:
        await thread.aclose()


async def _stage(
    thread: StateThread, source: Any, runs: Sequence[AudienceRun], options: SyncOptions
) -> Staged:
    """Read a source to its end."""
    parsed = Source.of(source)
    loop = asyncio.get_running_loop()

    def on_progress(rows: int) -> None:
        for run in runs:
            loop.call_soon_threadsafe(run.tell_read, rows)

    rules = options.rules(runs[0].client.default_id_type)
    table = f"staged_{id(parsed):x}"
    counts = await thread.run_long(
        _stage_as, thread.state, parsed, rules, options.rejects, table, on_progress
    )
    return Staged(table=f"temp.{table}", label=parsed.label, counts=counts)


def _stage_as(
    state: State, source: Source, rules: IdRules, rejects: Path | None, table: str, on_progress: Any
) -> StageCounts:
    """Stage under a name of its own, so that several sources can stand side by side."""
    counts = stage(state.connection, source, rules, rejects=rejects, on_progress=on_progress)
    state.connection.execute(fill("ALTER TABLE temp.staged RENAME TO {table}", table=table))
    return counts


def _unstage(state: State, table: str) -> None:
    state.rows("DROP TABLE IF EXISTS {table}", table=table)
