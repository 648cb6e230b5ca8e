"""The `verify`, `adopt`, `rollback` and `forget` commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ...errors import Remedy
from ...models import check_name
from ...sync import (
    Mode,
    SyncEngine,
    SyncReport,
    Verification,
)
from .._arguments import decode_stdin_dash
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._sync_session import CommandInfo, EngineSession, check_recorded, run_command
from ..inputs._credentials import find_target, open_client
from ..options._common import Yes
from ..options._sync import AdoptCommand, KnownCommand, RollbackCommand
from ..output._command_hints import with_remedy
from ..output._messages import print_error
from ..output._tables import Column

__all__ = ["adopt", "forget", "rollback", "verify"]

_ADOPT, _ROLLBACK, _KNOWN = AdoptCommand(), RollbackCommand(), KnownCommand()
_VERIFICATION = (
    Column("audience", "audience"),
    Column("members", "members"),
    Column("counted", "Batch counts"),
    Column("drift", "drift"),
)
_RUN = Group("Run", sort_key=6)
_Drift = Annotated[int, Parameter(metavar="N", group=_RUN, validator=Number(gte=0))]
_To = Annotated[int, Parameter(name="--to", metavar="RUN", group=_RUN)]


async def verify(
    name: str, /, *, command: KnownCommand = _KNOWN, drift: _Drift = 0, context: InjectedContext
) -> ExitCode:
    """Compare Batch's member count with the state.

    Exits with 13 if they differ.

    Example: `aiobatch verify vip || aiobatch resync vip users.parquet`

    Args:
        name: The audience.
        drift: Accept a difference of this many IDs.
    """
    check_name(name)
    with context.progress(transient=True) as progress:
        async with (
            open_client(command.target, progress.on_event) as client,
            SyncEngine(state=command.state.path) as engine,
        ):
            found = await engine.verify(client, name)
    with context.output.rows(_VERIFICATION) as add:
        add(
            {
                column: getattr(found, column)
                for column in ("audience", "known", "members", "counted", "drift")
            }
        )
    return _check_drift(found, drift)


def _check_drift(found: Verification, drift: int) -> ExitCode:
    """Print an error if the counts differ and return the exit code."""
    if abs(found.drift) <= drift:
        return ExitCode.DONE
    if not found.known:
        text = f"Audience {found.audience!r}: the state has no record of its {found.counted:,} members."
        print_error(with_remedy(text, Remedy("adopt", found.audience)))
        return ExitCode.UNKNOWN_MEMBERS
    text = (
        f"Audience {found.audience!r}: Batch counts {found.counted:,} members, but the state has "
        f"{found.members:,}. Another writer may be active, or Batch's count lags."
    )
    print_error(with_remedy(text, Remedy("resync", found.audience)))
    return ExitCode.DRIFTED


async def adopt(
    name: str,
    file: Annotated[str, Parameter(metavar="SOURCE")],
    /,
    *,
    command: AdoptCommand = _ADOPT,
    context: InjectedContext,
) -> ExitCode:
    """Import the members of an existing audience from a file. Sends nothing.

    For an audience that was filled without aiobatch, or whose state file was lost.

    Example: `aiobatch adopt vip members.csv --strict`

    Args:
        name: The audience.
        file: The members of the audience, as the source of sync.
    """
    info = CommandInfo(audience=name, mode=Mode.ADOPT, source=decode_stdin_dash(file), target=command.target)

    async def work(session: EngineSession) -> SyncReport:
        async with session.engine(command.state.path, command.options(mode=info.mode)) as engine:
            return await engine.adopt(session.client, check_name(name), command.members.source(file))

    return await run_command(context, info, work)


async def rollback(
    name: str, /, *, to: _To, command: RollbackCommand = _ROLLBACK, context: InjectedContext
) -> ExitCode:
    """Restore the members that an audience had after an earlier run.

    The guard checks removals. Attributes and tags are not stored, so they do not come back.

    Example: `aiobatch rollback vip --to 41`

    Args:
        name: The audience.
        to: Return to the members after this run. `aiobatch runs` lists them.
    """
    info = CommandInfo.of(command, audience=name, mode=Mode.ROLLBACK, source="")

    async def work(session: EngineSession) -> SyncReport:
        async with session.engine(command.state.path, command.options(mode=info.mode)) as engine:
            return await engine.rollback(session.client, check_name(name), to)

    return await run_command(context, info, work)


def forget(
    name: str, /, *, yes: Yes = False, command: KnownCommand = _KNOWN, context: InjectedContext
) -> Awaitable[ExitCode]:
    """Remove an audience from the state. Sends nothing.

    Removes its members, history and open chunks from the state. The audience at Batch does not change. To
    import its members again, use adopt.

    Example: `aiobatch forget vip --yes`

    Args:
        name: The audience.
        yes: Do not ask for confirmation.
    """
    check_name(name)
    status = asyncio.run(SyncEngine(state=command.state.path).status())
    recorded = status.audiences_of(find_target(command.target)[0])
    check_recorded(name, recorded)
    where = f"{recorded[name].target} in {command.state.path}"
    context.confirm(f"Forget the members and the history of audience {name!r} ({where})?", yes=yes)
    return _forget(name, command, context)


async def _forget(name: str, command: KnownCommand, context: Context) -> ExitCode:
    """Forget the audience after the confirmation."""
    async with open_client(command.target) as client, SyncEngine(state=command.state.path) as engine:
        await engine.forget(client, name)
    context.info(f"Forgot audience {name!r}.")
    return ExitCode.DONE
