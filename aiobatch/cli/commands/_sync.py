"""Bring an audience in line with a source: at once, or as a plan that is looked at first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Group, Parameter

from ...errors import AiobatchError
from ...models import check_name
from ...sync import (
    Mode,
    Overrides,
    SyncOptions,
    SyncReport,
    Verdict,
)
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import CommandInfo, EngineSession, fail, run_command
from ..inputs._plan_file import SavedOptions, SavedPlan, check_savable
from ..options._common import Flag
from ..options._sync import (
    ApplyCommand,
    PlanCommand,
    ResyncCommand,
    SourceWords,
    StateOptions,
    SyncCommand,
    engine_values,
)
from ..output._command_hints import command as command_line
from ..output._command_hints import command_context
from ..output._sync_report import plan_fields, print_fields

__all__ = ["apply", "plan", "resync", "sync"]

_SYNC, _PLAN, _APPLY, _RESYNC = SyncCommand(), PlanCommand(), ApplyCommand(), ResyncCommand()
_RUN = Group("Run", sort_key=6)

Source = Annotated[str, Parameter(metavar="SOURCE")]
DryRun = Annotated[Flag, Parameter(group=_RUN)]
Detailed = Annotated[Flag, Parameter(group=_RUN)]
Out = Annotated[Path | None, Parameter(metavar="FILE", group=_RUN)]


async def sync(
    name: str,
    source: Source,
    /,
    *,
    command: SyncCommand = _SYNC,
    dry_run: DryRun = False,
    context: InjectedContext,
) -> ExitCode:
    """Bring an audience in line with a source, by sending only what differs.

    What an earlier run left open is settled first. Nothing is sent before the source was read to its end and
    the guard has judged; what was sent counts when it is APPLIED. A run that was killed is gone on with by
    the next one.

    Example: `aiobatch sync vip users.parquet --create`

    Example: `aiobatch sync vip 'postgresql://me:${PGPASSWORD}@db/crm' --query 'SELECT id FROM v'`

    Args:
        name: The audience.
        source: A file, directory or pattern (CSV, JSON lines, Parquet, gzip), `-` for standard input, or a
            database: duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/NAME, with --query; `${NAME}`
            stands for an environment variable.
        dry_run: Send nothing, and show the plan.
    """
    words, mode = command.members.words(source), Mode(command.changes.mode)
    job = CommandInfo.of(command, audience=name, mode=mode, source=words.text, creates=True)

    async def work(session: EngineSession) -> SyncReport | tuple[SyncReport, Verdict]:
        options = command.options(job.mode)
        if dry_run:
            return await _plan(session, context, name, words, _Plan(options, command.state))
        return await _sync(session, name, words, options, command.state)

    return await run_command(context, job, work)


async def resync(
    name: str, source: Source, /, *, command: ResyncCommand = _RESYNC, context: InjectedContext
) -> ExitCode:
    """Send all of a source again, and take out whoever else this state ever sent; nobody is out meanwhile.

    For an audience to which somebody else wrote. Ids that this state never sent cannot be known, as Batch
    shows nobody's members: only `sync --mode replace`, or a new audience, is rid of them.

    Example: `aiobatch resync vip users.parquet`

    Args:
        name: The audience.
        source: As for sync.
    """
    words = command.members.words(source)
    job = CommandInfo.of(command, audience=name, mode=Mode.RESYNC, source=words.text)

    async def work(session: EngineSession) -> SyncReport:
        return await _sync(session, name, words, command.options(job.mode), command.state)

    return await run_command(context, job, work)


async def _sync(
    session: EngineSession, name: str, words: SourceWords, options: SyncOptions, state: StateOptions
) -> SyncReport:
    """Let the engine do it."""
    async with session.engine(state.path, options) as engine:
        return await engine.sync(session.client, check_name(name), words.source())


# -- plan and apply -----------------------------------------------------------------------------------


@attrs.frozen
class _Plan:
    """How a plan is made, and where it goes."""

    options: SyncOptions
    state: StateOptions
    out: Path | None = None


async def plan(
    name: str,
    source: Source,
    /,
    *,
    command: PlanCommand = _PLAN,
    out: Out = None,
    detailed_exitcode: Detailed = False,
    context: InjectedContext,
) -> ExitCode:
    """Show what sync would do; nothing is sent.

    Exits with 11 where the guard would refuse it.

    Example: `aiobatch plan vip users.parquet --out plan.json`

    Args:
        name: The audience.
        source: As for sync.
        out: Save the plan to this file, for apply; a few ids are in it, and no secret.
        detailed_exitcode: Exit with 10 where something would be changed.
    """
    words = command.members.words(source)
    job = CommandInfo(
        audience=name,
        mode=Mode(command.changes.mode),
        source=words.text,
        target=command.target,
        detailed=detailed_exitcode,
        creates=True,
    )

    async def work(session: EngineSession) -> tuple[SyncReport, Verdict]:
        return await _plan(
            session, context, name, words, _Plan(command.options(job.mode), command.state, out)
        )

    return await run_command(context, job, work)


async def _plan(
    session: EngineSession, context: Context, name: str, words: SourceWords, how: _Plan
) -> tuple[SyncReport, Verdict]:
    """Make a plan, save it where that is wanted, and show it."""
    out = how.out
    kept = words if out is None else await in_thread(lambda: check_savable(words, out))
    async with session.engine(how.state.path, how.options) as engine:
        made = await engine.plan(session.client, check_name(name), words.source())
    report: SyncReport = made.report
    session.end()
    if out is not None:  # before a reader of the facts can go away
        options = SavedOptions.of(how.options)
        saved = SavedPlan(plan=made, source=kept, options=options, state=str(how.state.path))
        await in_thread(lambda: saved.save(out))
    if not context.options.json:
        print_fields(context.output, plan_fields(made, report))
    if out is not None:
        context.info(f"saved to {out}; to carry it out: {command_line('apply', str(out))}")
    return report, made.verdict


async def apply(
    file: Annotated[Path, Parameter(metavar="PLAN")],
    /,
    *,
    command: ApplyCommand = _APPLY,
    context: InjectedContext,
) -> ExitCode:
    """Carry out a saved plan, if neither its source nor what is known of the audience has moved.

    Mode, ids and limits are the plan's; a plan that the guard refuses needs --allow-removals here or there.

    Example: `aiobatch apply plan.json --allow-removals 120000`

    Args:
        file: What plan --out wrote.
    """
    job = CommandInfo.of(command, audience="", mode=Mode.MIRROR, source=str(file))
    try:
        saved = await in_thread(lambda: SavedPlan.read(file))
    except (AiobatchError, OSError) as error:
        return fail(context, job, error)
    plan, words, state = saved.plan, saved.source, command.state.state or Path(saved.state)
    job = attrs.evolve(job, audience=plan.audience, mode=plan.mode, source=words.text)
    with command_context(state=state, **words.options()):
        return await run_command(context, job, lambda session: _apply(session, saved, state, command))


async def _apply(session: EngineSession, saved: SavedPlan, state: Path, command: ApplyCommand) -> SyncReport:
    """Let the engine carry out a plan."""
    async with session.engine(state, _of_plan(saved, command)) as engine:
        return await engine.apply(session.client, saved.plan, saved.source.source())


def _of_plan(saved: SavedPlan, command: ApplyCommand) -> SyncOptions:
    """Return the options that a plan was made with, and what `apply` adds to them."""
    values = saved.options.values() | {"mode": saved.plan.mode}
    for group in (command.running, command.checks, command.state):
        values |= engine_values(group)
    now, then = command.allowed.overrides(), saved.options.overrides
    values["overrides"] = Overrides(
        allow_removals=then.allow_removals if now.allow_removals is None else now.allow_removals,
        allow_empty=then.allow_empty or now.allow_empty,
    )
    return SyncOptions(**values)
