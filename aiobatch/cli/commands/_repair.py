"""Compare, take over, go back, forget: what keeps our knowledge of an audience right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..._remedy import Remedy
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
from .._sync_session import CommandInfo, EngineSession, check_recorded, recorded_audiences, run_command
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
    """Compare Batch's own count of an audience's members with ours; exits with 13 where they differ.

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
                "audience": found.audience,
                "known": found.known,
                "members": found.members,
                "counted": found.counted,
                "drift": found.drift,
            }
        )
    return _judge(found, drift)


def _judge(found: Verification, drift: int) -> ExitCode:
    """Say what a count that differs means, and what to do."""
    if abs(found.drift) <= drift:
        return ExitCode.DONE
    if not found.known:
        text = f"Audience {found.audience!r}: this state has no record of its {found.counted:,} members."
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
    """Take over an audience whose members a source tells; nothing is sent.

    For an audience that was filled before aiobatch, or whose state was lost.

    Example: `aiobatch adopt vip members.csv --strict`

    Args:
        name: The audience.
        file: Its members, as for sync.
    """
    job = CommandInfo(audience=name, mode=Mode.ADOPT, source=decode_stdin_dash(file), target=command.target)

    async def work(session: EngineSession) -> SyncReport:
        async with session.engine(command.state.path, command.options(mode=job.mode)) as engine:
            return await engine.adopt(session.client, check_name(name), command.members.source(file))

    return await run_command(context, job, work)


async def rollback(
    name: str, /, *, to: _To, command: RollbackCommand = _ROLLBACK, context: InjectedContext
) -> ExitCode:
    """Bring an audience back to the members that it had after an earlier run.

    What would go passes the guard. Attributes and tags that were sent then are not kept and do not come back.

    Example: `aiobatch rollback vip --to 41`

    Args:
        name: The audience.
        to: Return to the members after this run. `aiobatch runs` lists them.
    """
    job = CommandInfo.of(command, audience=name, mode=Mode.ROLLBACK, source="")

    async def work(session: EngineSession) -> SyncReport:
        async with session.engine(command.state.path, command.options(mode=job.mode)) as engine:
            return await engine.rollback(session.client, check_name(name), to)

    return await run_command(context, job, work)


def forget(
    name: str, /, *, yes: Yes = False, command: KnownCommand = _KNOWN, context: InjectedContext
) -> Awaitable[ExitCode]:
    """Forget what is known of an audience: members, history and open chunks; nothing is sent.

    The audience itself stays as it is; adopt takes it over again.

    Example: `aiobatch forget vip --yes`

    Args:
        name: The audience.
        yes: Do not ask.
    """
    check_name(name)
    status = asyncio.run(SyncEngine(state=command.state.path).status())
    known = recorded_audiences(status, find_target(command.target)[0])
    check_recorded(name, known)
    place = f"{known[name].target}, in {command.state.path}"
    context.confirm(f"Forget the members and the history of audience {name!r} of {place}?", yes=yes)
    return _forget(name, command, context)


async def _forget(name: str, command: KnownCommand, context: Context) -> ExitCode:
    """Forget, when the answer was yes."""
    async with open_client(command.target) as client, SyncEngine(state=command.state.path) as engine:
        await engine.forget(client, name)
    context.info(f"forgot audience {name!r}")
    return ExitCode.DONE
