"""The engine's main doors: sync, plan, apply a plan."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .._client import AudienceClient
from ..options import check_instance
from ._errors import StalePlanError
from ._options import DEFAULTS, SyncOptions
from ._plan import Plan
from ._report import OnProgress, SyncReport
from .run._fan_out import fan_out, stage_for
from .run._open import opened, running
from .run._stage_source import check_source, unstage
from .sources._source import Source, SourceLike
from .state._state import AudienceRecord


async def sync_audience(  # noqa: PLR0913 - three that say what, the others how, by keyword
    client: AudienceClient,
    name: str,
    source: SourceLike,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring an audience in line with a source.

    The event loop is never blocked: files and DuckDB have a thread of their own. Cancelling is safe at any
    moment; what was sent is journaled, and the next run goes on from there.

    Args:
        client: An open client of the audience's target; `BULK_RETRY` is a good policy for it.
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
        AiobatchError: Batch refused, or could not be asked, before anything was sent.
    """
    parsed = Source.of(source)
    async with opened(state, options, f"sync {name}") as thread:
        (outcome,) = await fan_out(
            thread, [client], name, parsed, options=options, on_progress=on_progress, stop=stop
        )
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def plan_audience(  # noqa: PLR0913 - as sync_audience
    client: AudienceClient,
    name: str,
    source: SourceLike,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> tuple[Plan, SyncReport]:
    """Work out what `sync_audience` would do, were it given the same; nothing is sent.

    Returns:
        The plan, with the guard's verdict, and the report of a run that sends nothing.

    Raises:
        OpenRunError: An earlier run must be settled first.
        LockedError: Another run holds the state or the audience.
        SourceError: The source cannot be read, or not to its end.
        StateError: The state cannot be used.
        InvalidInputError: An argument cannot be used.
        AiobatchError: Batch could not be asked.
    """
    parsed = Source.of(source)
    check_source(parsed, client)
    async with running(
        client, name, "plan", state=state, options=options, on_progress=on_progress, stop=stop
    ) as run:
        await run.prepare(send=False)
        plan = await run.plan(await stage_for([run], parsed))
        return plan, run.report_plan()


async def apply_plan(  # noqa: PLR0913 - as sync_audience
    client: AudienceClient,
    plan: Plan,
    source: SourceLike,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Carry out a *plan* of `plan_audience`'s, if neither its source nor the state has moved.

    The *source* is read again, with the *options* of then; the rest is as for `sync_audience`.

    Returns:
        What the run did.

    Raises:
        StalePlanError: The source or the state has moved since; nothing was sent.
        SyncError: As for `sync_audience`.
    """
    check_instance(plan, Plan, "plan")
    parsed = Source.of(source)
    check_source(parsed, client)
    async with running(
        client, plan.audience, "apply", state=state, options=options, on_progress=on_progress, stop=stop
    ) as run:
        await run.believe()
        _refuse_moved(plan, run.believed, run.thread.state.state_id)
        await run.prepare()
        staged = await stage_for([run], parsed)
        fresh = await run.plan(staged)
        plan.refuse_stale(fresh)
        await run.begin(fresh)
        await unstage(run.thread, staged)
        return await run.send()


def _refuse_moved(plan: Plan, believed: AudienceRecord, state_id: str) -> None:
    """Refuse a plan of another target or of an earlier state before anything is asked or read."""
    if believed.key != plan.key:
        raise StalePlanError(audience=plan.audience, moved=["it is a plan for another app or project"])
    if believed.open_run is not None:
        moved = [f"run {believed.open_run} has begun since and is not settled"]
        raise StalePlanError(audience=plan.audience, moved=moved)
    plan.refuse_moved(state_id, believed.generation)
