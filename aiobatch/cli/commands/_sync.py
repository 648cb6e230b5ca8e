"""The `sync` and `resync` commands."""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Group, Parameter

from ...models import check_name
from ...sync import GuardDecision, Mode, SyncReport
from .._arguments import decode_stdin_dash
from .._context import InjectedContext
from .._exit_codes import ExitCode
from .._sync_session import CommandInfo, EngineSession, run_command
from ..inputs._place import resolve
from ..options._common import Flag
from ..options._sync import ResyncCommand, SyncCommand
from ._plan import plan_one

__all__ = ["resync", "sync"]

_SYNC, _RESYNC = SyncCommand(), ResyncCommand()

Source = Annotated[str | None, Parameter(metavar="SOURCE")]
DryRun = Annotated[Flag, Parameter(group=Group("Run", sort_key=6))]


async def sync(
    name: str,
    source: Source = None,
    /,
    *,
    command: SyncCommand = _SYNC,
    dry_run: DryRun = False,
    context: InjectedContext,
) -> ExitCode:
    """Sync an audience with a source by sending only the difference.

    First the run finishes what an earlier one left open. It sends nothing before it has read the whole source
    and the guard has checked the plan. Changes count as done when they are APPLIED. If a run is killed, the
    next one resumes it.

    Example: `aiobatch sync vip users.parquet --create`

    Example: `aiobatch sync vip 'postgresql://me:${PGPASSWORD}@db/crm' --query 'SELECT id FROM v'`

    Example: `aiobatch sync vip --config aiobatch.toml --target web`

    Args:
        name: The audience.
        source: A file, a directory or a pattern (CSV, JSON lines, Parquet, gzip), `-` for standard input,
            the same at s3://, gs://, az:// or https://, or a database with --query: duckdb:///FILE,
            sqlite:///FILE, postgresql://USER@HOST/NAME or adbc+DRIVER://. `${NAME}` stands for an
            environment variable. Default: as in the config.
        dry_run: Show the plan and send nothing.
    """
    mode = command.options().mode
    info = CommandInfo.of("sync", command, audience=name, mode=mode, source=decode_stdin_dash(source or ""))
    info = attrs.evolve(info, attempts=not dry_run)

    async def work(session: EngineSession) -> SyncReport | tuple[SyncReport, GuardDecision]:
        if dry_run:
            return await plan_one(session, context, source, command)
        options = command.options(base=session.place.options)
        async with session.engine(options) as engine:
            found = session.place.source(source, command.members, mode=options.mode)
            return await engine.sync(session.client, check_name(session.place.audience), found)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=source, reads=True), work
    )


async def resync(
    name: str, source: Source = None, /, *, command: ResyncCommand = _RESYNC, context: InjectedContext
) -> ExitCode:
    """Resend the whole source and remove all other IDs that were ever sent.

    For an audience that another program has changed. The audience is never empty in between. Batch does not
    list members, so IDs that this state never sent are unknown. To remove those, use `sync --mode replace` or
    create a new audience.

    Example: `aiobatch resync vip users.parquet`

    Args:
        name: The audience.
        source: The source, as for sync.
    """
    shown = decode_stdin_dash(source or "")
    info = CommandInfo.of("resync", command, audience=name, mode=Mode.RESYNC, source=shown)

    async def work(session: EngineSession) -> SyncReport:
        place = session.place
        found = place.source(source, command.members, mode=Mode.RESYNC)
        async with session.engine(command.options(mode=info.mode, base=place.options)) as engine:
            return await engine.sync(session.client, check_name(place.audience), found)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=source, reads=True), work
    )
