"""The engine's other doors: adopt, rollback, verify, forget, settle."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import MappingProxyType

import attrs

from .._client import AudienceClient
from ..errors import InvalidInputError
from ..options import check_instance
from ._options import DEFAULTS, Mode, SyncOptions
from ._report import OnProgress, SyncReport
from .run._audience_run import AudienceRun, check_whose, target_key_of
from .run._fan_out import stage_for
from .run._open import opened, running
from .run._stage_source import Staged, check_source
from .sources._source import Source, SourceLike
from .sources._stage import StageCounts
from .state._history import Run
from .state._repair import forget, stage_rollback
from .state._targets import get_or_create_audience


async def adopt_audience(  # noqa: PLR0913 - as sync_audience
    client: AudienceClient,
    name: str,
    source: SourceLike,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Take over an audience whose members a source tells; nothing is sent.

    Of *options* counts how ids are read, and whether a count that differs is an error (`strict`). The rest is
    as for `sync_audience`.

    Returns:
        What is believed from now on.

    Raises:
        DriftError: Batch counts other members than the source has, and *options* are strict.
        SyncError: As for `plan_audience`.
    """
    options = _of_mode(Mode.ADOPT, options)
    parsed = Source.of(source)
    check_source(parsed, client)
    async with running(
        client, name, "adopt", state=state, options=options, on_progress=on_progress, stop=stop
    ) as run:
        await run.prepare(send=False)
        return await run.adopt(await run.plan(await stage_for([run], parsed)))


async def rollback_audience(  # noqa: PLR0913 - as sync_audience
    client: AudienceClient,
    name: str,
    to: int,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring an audience back to the members that it had after a run; attributes cannot be restored.

    The number of that run is *to*, and the guard judges what would go. The rest is as for `sync_audience`.

    Returns:
        What the run did.

    Raises:
        UnknownRunError: It is no run of this audience, or its changes are no longer kept.
        SyncError: As for `sync_audience`.
    """
    if isinstance(to, bool) or not isinstance(to, int):
        msg = f"to must be the number of a run, as show and list_runs tell it, not {type(to).__name__}"
        raise InvalidInputError(msg)
    options = _of_mode(Mode.ROLLBACK, options)
    async with running(
        client, name, "rollback", state=state, options=options, on_progress=on_progress, stop=stop
    ) as run:
        await run.prepare()
        await run.begin(await run.plan(await _stage_rollback(run, to)))
        return await run.send()


def _of_mode(mode: Mode, options: SyncOptions) -> SyncOptions:
    """Return *options* for a run of *mode*, which makes no audience."""
    check_instance(options, SyncOptions, "options")
    return attrs.evolve(options, mode=mode, create=False)


async def _stage_rollback(run: AudienceRun, to: int) -> Staged:
    """Make a source of the members that an audience had after a run."""
    state = run.thread.state
    table = await run.thread.run_interruptible(stage_rollback, state, run.believed, to)
    (count,) = await run.thread.run(state.row, "SELECT count(*) FROM {table}", (), table=table)
    counts = StageCounts(
        read=count,
        kept=count,
        duplicate=0,
        rejected=0,
        reasons=MappingProxyType({}),
    )
    return Staged(table=table, label=f"members after run {to}", counts=counts)


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
    check_whose(client, name)
    audience = await client.view(name)
    async with opened(state, DEFAULTS, f"verify {name}") as thread:
        believed = await thread.run(get_or_create_audience, thread.state, target_key_of(client.target), name)
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
    check_whose(client, name)
    async with opened(state, DEFAULTS, f"forget {name}") as thread:
        believed = await thread.run(get_or_create_audience, thread.state, target_key_of(client.target), name)
        await thread.run(forget, thread.state, believed)


async def settle_audience(
    client: AudienceClient,
    name: str,
    *,
    state: Path | str | None = None,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> Run | None:
    """Bring what an earlier run left open to its end: tokens are waited for, unknown outcomes sent again.

    What an interrupted run had not sent yet is not sent: that is for the next sync, which plans anew. Of
    *options* counts how long to wait. The rest is as for `sync_audience`.

    Returns:
        The audience's latest run, of which nothing is open any more; `whole` tells whether all of its plan is
        applied. None if it has none.

    Raises:
        RunError: It cannot be settled now.
        StateError: The state cannot be used.
    """
    async with running(
        client, name, "wait", state=state, options=options, on_progress=on_progress, stop=stop
    ) as run:
        return await run.settle()
