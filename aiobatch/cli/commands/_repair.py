"""The `verify`, `adopt`, `rollback`, `forget` and `state` commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ...errors import InvalidInputError, Remedy
from ...models import check_name
from ...sync import (
    Mode,
    SyncEngine,
    SyncReport,
    Verification,
    collect_garbage,
    copy_state,
    read_attempts,
    record_attempts,
    to_location,
)
from .._arguments import decode_stdin_dash
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from .._sync_session import CommandInfo, EngineSession, check_recorded, run_command
from ..inputs._credentials import find_target, open_client
from ..inputs._place import Place, resolve
from ..options._common import Yes
from ..options._sync import AdoptCommand, KnownCommand, RollbackCommand
from ..output._command_hints import command_context, with_remedy
from ..output._messages import print_error
from ..output._sync_report import pluralize
from ..output._tables import Column

__all__ = ["adopt", "forget", "rollback", "state", "verify"]

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
    place = await in_thread(lambda: resolve(command, name, context.info))
    with command_context(**place.words):
        with context.progress(transient=True) as progress:
            async with (
                open_client(place.target, progress.on_event, place=place.place) as client,
                SyncEngine(state=place.state) as engine,
            ):
                found = await engine.verify(client, place.audience)
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
    file: Annotated[str | None, Parameter(metavar="SOURCE")] = None,
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
    info = CommandInfo(
        command="adopt",
        audience=name,
        mode=Mode.ADOPT,
        source=decode_stdin_dash(file or ""),
        options=command,
    )

    async def work(session: EngineSession) -> SyncReport:
        place = session.place
        found = place.source(file, command.members, mode=Mode.ADOPT)
        async with session.engine(command.options(mode=info.mode, base=place.options)) as engine:
            return await engine.adopt(session.client, check_name(place.audience), found)

    return await run_command(
        context, info, lambda: resolve(command, name, context.info, source=file, reads=True), work
    )


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
    info = CommandInfo.of("rollback", command, audience=name, mode=Mode.ROLLBACK, source="")

    async def work(session: EngineSession) -> SyncReport:
        place = session.place
        async with session.engine(command.options(mode=info.mode, base=place.options)) as engine:
            return await engine.rollback(session.client, check_name(place.audience), to)

    return await run_command(context, info, lambda: resolve(command, name, context.info), work)


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
    place = resolve(command, name, context.info)
    status = asyncio.run(SyncEngine(state=place.state).status())
    target = find_target(place.target)[0] if place.place is None else place.place.target
    recorded = status.audiences_of(target)
    check_recorded(place.audience, recorded)
    where = f"{recorded[place.audience].target} in {place.state}"
    context.confirm(f"Forget the members and the history of audience {name!r} ({where})?", yes=yes)
    return _forget(place, context)


async def _forget(place: Place, context: Context) -> ExitCode:
    """Forget the audience after the confirmation."""
    async with (
        open_client(place.target, place=place.place) as client,
        SyncEngine(state=place.state) as engine,
    ):
        await engine.forget(client, place.audience)
    context.info(f"Forgot audience {place.audience!r}.")
    return ExitCode.DONE


async def state(
    action: Literal["copy", "gc"], state: str, to: str | None = None, /, *, context: InjectedContext
) -> ExitCode:
    """Copy a state to or from object storage, or delete its garbage there.

    copy takes all audiences with their members, history and open chunks. The source stays as it is. Then use
    one of the two only: a run with the older one stops. If a copy is interrupted, repeat it.

    gc deletes what killed runs and replaced members left on object storage. Members, the history and runs
    that are not settled stay. An audience that a run holds is left out.

    Example: `aiobatch state copy state.duckdb s3://bucket/aiobatch`

    Example: `aiobatch state gc s3://bucket/aiobatch`

    Args:
        action: copy or gc.
        state: The state: a file, or a URL that starts with s3://, gs://, az:// or file:///.
        to: The copy: a URL if STATE is a file, and a new file if it is a URL.
    """
    if (action == "copy") != (to is not None):
        needs = "Pass where to copy it to" if to is None else "Pass one state only"
        msg = f"`state {action}` {'needs TO' if to is None else 'has no TO'}. {needs}."
        raise InvalidInputError(msg)
    if to is not None:
        copied = await copy_state(state, to)
        await in_thread(lambda: record_attempts(to_location(to), read_attempts(to_location(state))))
        context.info(f"Copied {pluralize(copied, 'audience')} to {to}.")
        return ExitCode.DONE
    found = await collect_garbage(state)
    context.info(f"Deleted {pluralize(found.objects, 'object')} ({found.size:,} bytes).")
    if found.busy:
        context.info(f"Left out {pluralize(found.busy, 'audience')} that a run holds.", "warning")
    return ExitCode.DONE
