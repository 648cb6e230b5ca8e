"""The `sync`, `plan`, `apply` and `resync` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Group, Parameter

from ...errors import AiobatchError
from ...models import check_name
from ...sync import (
    GuardDecision,
    Mode,
    Plan,
    SyncReport,
)
from .._arguments import decode_stdin_dash
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import CommandInfo, EngineSession, fail, run_command
from ..inputs._place import resolve, resolve_plan
from ..inputs._plan_file import check_savable, save_plan
from ..options._common import Flag
from ..options._sync import (
    ApplyCommand,
    PlanCommand,
    ResyncCommand,
    SyncCommand,
    source_words,
)
from ..output._command_hints import command as command_line
from ..output._command_hints import command_context
from ..output._sync_report import plan_fields, print_fields

__all__ = ["apply", "plan", "resync", "sync"]

_SYNC, _PLAN, _APPLY, _RESYNC = SyncCommand(), PlanCommand(), ApplyCommand(), ResyncCommand()
_RUN = Group("Run", sort_key=6)

Source = Annotated[str | None, Parameter(metavar="SOURCE")]
DryRun = Annotated[Flag, Parameter(group=_RUN)]
Detailed = Annotated[Flag, Parameter(group=_RUN)]
Out = Annotated[Path | None, Parameter(metavar="FILE", group=_RUN)]


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
            or a database with --query: duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME.
            `${NAME}` stands for an environment variable. Default: as in the config.
        dry_run: Show the plan and send nothing.
    """
    mode = command.options().mode
    info = CommandInfo.of("sync", command, audience=name, mode=mode, source=decode_stdin_dash(source or ""))
    info = attrs.evolve(info, attempts=not dry_run)

    async def work(session: EngineSession) -> SyncReport | tuple[SyncReport, GuardDecision]:
        if dry_run:
            return await _plan(session, context, source, command)
        options = command.options(base=session.place.options)
        async with session.engine(options) as engine:
            found = session.place.source(source, command.members)
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
        found = place.source(source, command.members, lists_members=True)
        async with session.engine(command.options(mode=info.mode, base=place.options)) as engine:
            return await engine.sync(session.client, check_name(place.audience), found)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=source, reads=True), work
    )


# -- plan and apply -----------------------------------------------------------------------------------


async def plan(
    name: str,
    source: Source = None,
    /,
    *,
    command: PlanCommand = _PLAN,
    out: Out = None,
    detailed_exitcode: Detailed = False,
    context: InjectedContext,
) -> ExitCode:
    """Show what sync would do. Sends nothing.

    Exits with 11 if the guard would refuse the plan.

    Example: `aiobatch plan vip users.parquet --out plan.json`

    Args:
        name: The audience.
        source: The source, as for sync.
        out: Save the plan to this file, with a few IDs and no secret.
        detailed_exitcode: Exit with 10 if anything would be changed.
    """
    info = CommandInfo(
        command="plan",
        audience=name,
        mode=command.options().mode,
        source=decode_stdin_dash(source or ""),
        options=command,
        attempts=False,
        detailed=detailed_exitcode,
    )

    async def work(session: EngineSession) -> tuple[SyncReport, GuardDecision]:
        return await _plan(session, context, source, command, out)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=source, reads=True), work
    )


async def _plan(
    session: EngineSession,
    context: Context,
    source: str | None,
    command: PlanCommand | SyncCommand,
    out: Path | None = None,
) -> tuple[SyncReport, GuardDecision]:
    """Make a plan, show it, and save it if *out* names a file."""
    place = session.place
    parsed = place.source(source, command.members)
    if out is not None:
        await in_thread(lambda: check_savable(out, parsed))
    async with session.engine(command.options(base=place.options)) as engine:
        made = await engine.plan(session.client, check_name(place.audience), parsed)
    report: SyncReport = made.report
    session.end()
    if out is not None:  # first: a reader of the printed plan may close its pipe
        await in_thread(lambda: save_plan(made, out))
    if not context.options.json:
        print_fields(context.output, plan_fields(made, report))
    if out is not None:
        context.info(f"Saved to {out}. Run {command_line('apply', str(out))}.")
    return report, made.decision


async def apply(
    file: Annotated[Path, Parameter(metavar="PLAN")],
    /,
    *,
    command: ApplyCommand = _APPLY,
    context: InjectedContext,
) -> ExitCode:
    """Carry out a saved plan unless its source or the state has changed.

    Mode, IDs and limits come from the plan. If the guard refuses it, pass --allow-removals here or to plan.

    Example: `aiobatch apply plan.json --allow-removals 120000`

    Args:
        file: A file that plan --out wrote.
    """
    info = CommandInfo.of("apply", command, audience="", mode=Mode.MIRROR, source=str(file))
    try:
        saved = await in_thread(lambda: Plan.load(file))
    except (AiobatchError, OSError) as error:
        return fail(context, info, error)
    words = {} if saved.source is None else source_words(saved.source)
    options = command.options(base=saved.options)
    info = attrs.evolve(
        info, audience=saved.audience, mode=saved.mode, source=words.get("source") or "", waits=options.wait
    )

    async def work(session: EngineSession) -> SyncReport:
        async with session.engine(options) as engine:
            return await engine.apply(session.client, saved, options=options)

    with command_context(state=command.state.state or saved.state, mode=saved.mode, **words):
        return await run_command(context, info, lambda: resolve_plan(command, saved, context.info), work)
