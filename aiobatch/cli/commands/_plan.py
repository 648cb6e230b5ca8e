"""The `plan` and `apply` commands, for one audience or for all of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Group, Parameter

from ...errors import AiobatchError, InvalidInputError
from ...models import check_name
from ...sync import GuardDecision, Mode, Plan, PlanSet, SyncReport, load_plans
from .._arguments import decode_stdin_dash
from .._config_plan import apply_config, plan_config
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import CommandInfo, EngineSession, fail, run_command
from ..inputs._place import resolve, resolve_plan
from ..inputs._plan_file import check_savable, save_plan
from ..options._common import Flag, ManyOptions
from ..options._sync import ApplyCommand, PlanCommand, SyncCommand, source_words
from ..output._command_hints import command as command_line
from ..output._command_hints import command_context
from ..output._sync_report import plan_fields, print_fields

__all__ = ["apply", "plan", "plan_one"]

_PLAN, _APPLY, _MANY = PlanCommand(), ApplyCommand(), ManyOptions()
_RUN = Group("Run", sort_key=6)

Name = Annotated[str | None, Parameter(metavar="NAME")]
Source = Annotated[str | None, Parameter(metavar="SOURCE")]
Detailed = Annotated[Flag, Parameter(group=_RUN)]
Out = Annotated[Path | None, Parameter(metavar="FILE", group=_RUN)]


async def plan(  # noqa: PLR0913 - groups of options, by keyword
    name: Name = None,
    source: Source = None,
    /,
    *,
    command: PlanCommand = _PLAN,
    many: ManyOptions = _MANY,
    out: Out = None,
    detailed_exitcode: Detailed = False,
    context: InjectedContext,
) -> ExitCode:
    """Show what sync or run would do. Sends nothing.

    Exits with 11 if the guard would refuse the plan. Without NAME, plans all audiences of the config, and one
    file keeps all plans.

    Example: `aiobatch plan vip users.parquet --out plan.json`

    Example: `aiobatch plan --config aiobatch.toml --out plans.json`

    Args:
        name: The audience. Default: all audiences of the config.
        source: The source, as for sync.
        out: Save the plan to this file, with a few IDs and no secret.
        detailed_exitcode: Exit with 10 if anything would be changed.
    """
    if name is None:
        return await plan_config(command, many, context, out=out, detailed=detailed_exitcode)
    info = CommandInfo(
        command="plan",
        audience=name,
        mode=command.options().mode,
        source=decode_stdin_dash(source or ""),
        options=command,
        attempts=False,
        detailed=detailed_exitcode,
    )
    if many != _MANY:
        msg = "--only and --jobs are for a plan of a whole config. Leave out NAME, or these options."
        return fail(context, info, InvalidInputError(msg))

    async def work(session: EngineSession) -> tuple[SyncReport, GuardDecision]:
        return await plan_one(session, context, source, command, out)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=source, reads=True), work
    )


async def plan_one(
    session: EngineSession,
    context: Context,
    source: str | None,
    command: PlanCommand | SyncCommand,
    out: Path | None = None,
) -> tuple[SyncReport, GuardDecision]:
    """Plan one audience, show the plan, and save it if *out* names a file."""
    place = session.place
    options = command.options(base=place.options)
    parsed = place.source(source, command.members, mode=options.mode)
    if out is not None:
        await in_thread(lambda: check_savable(out, parsed))
    async with session.engine(options) as engine:
        made = await engine.plan(session.client, check_name(place.audience), parsed)
    report: SyncReport = made.report
    session.end()
    if out is not None:  # first: a reader of the printed plan may close its pipe
        await in_thread(lambda: save_plan(made, out))
    if not context.options.json:
        print_fields(context.output, plan_fields(made, report))
    if out is not None:
        run = command_line("apply", str(out))
        refused = f"The guard refuses it, so {run} sends nothing without the options above."
        context.info(f"Saved to {out}. {f'Run {run}.' if made.decision.allowed else refused}")
    return report, made.decision


async def apply(
    file: Annotated[Path, Parameter(metavar="PLAN")],
    /,
    *,
    command: ApplyCommand = _APPLY,
    many: ManyOptions = _MANY,
    context: InjectedContext,
) -> ExitCode:
    """Carry out saved plans if neither source nor state has changed.

    Mode, IDs and limits come from the plan. If the guard refuses it, pass --allow-removals here or to plan.
    Of the plans of a config, those that are stale or fail do not stop the others.

    Example: `aiobatch apply plan.json --allow-removals 120000`

    Example: `aiobatch apply plans.json --only 'vip*'`

    Args:
        file: A file that plan --out wrote.
    """
    info = CommandInfo.of("apply", command, audience="", mode=Mode.MIRROR, source=str(file))
    try:
        saved = await in_thread(lambda: load_plans(file))
        if isinstance(saved, Plan) and many != _MANY:
            msg = (
                f"--only and --jobs are for the plans of a whole config. {file} is the plan of one audience."
            )
            raise InvalidInputError(msg)
    except (AiobatchError, OSError) as error:
        return fail(context, info, error)
    if isinstance(saved, PlanSet):
        return await apply_config(command, many, saved, context)
    return await _apply_one(command, info, saved, context)


async def _apply_one(command: ApplyCommand, info: CommandInfo, saved: Plan, context: Context) -> ExitCode:
    """Carry out the plan of one audience."""
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
