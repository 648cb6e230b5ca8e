"""The `view`, `list`, `create` and `delete` commands."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

from cyclopts import Parameter

from ..._client import AudienceClient, is_name_taken
from ...errors import AiobatchError, InvalidInputError, ResponseError
from ...models import IdType, IndexingToken, Operation, check_name
from .._arguments import decode_stdin_dash
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from ..inputs._credentials import open_client
from ..inputs._words import read_words
from ..options._common import IdTypeName, TargetOptions, WaitOnRequest, Yes
from ..output._command_hints import command
from ..output._tables import AUDIENCE, audience_record
from ._write_result import Report, finish, outside_write, write

__all__ = ["create", "delete", "list_", "view"]

_TARGET = TargetOptions()
_WAIT = WaitOnRequest()


async def view(*names: str, target: TargetOptions = _TARGET, context: InjectedContext) -> ExitCode:
    """Show audiences, several at once.

    Shows the name, type, number of IDs, state and time of the last update, and description. If some
    audiences cannot be viewed, the others are still shown.

    Example: `aiobatch view vip trial --json | jq .nb_ids`

    Args:
        names: Names of audiences. `-` reads them from standard input.
    """
    wanted = list(dict.fromkeys(await read_words(names, check_name)))
    if not wanted:
        msg = f"No audience was named. Run {command('list')} to show all."
        raise InvalidInputError(msg)
    with context.output.rows(AUDIENCE) as add, context.progress(transient=True) as progress:
        async with open_client(target, progress.on_event) as client:
            with progress.stage("view", unit="audience", total=len(wanted)) as stage:
                async for audience in client.view_many(wanted):
                    add(audience_record(audience))
                    stage.advance()
    return ExitCode.DONE


async def list_(*, target: TargetOptions = _TARGET, context: InjectedContext) -> ExitCode:
    """List all audiences of the app or project.

    Shows the same columns as view. The APIs 1.x report no state here.

    Example: `aiobatch list | cut -f 1`
    """
    with context.output.rows(AUDIENCE) as add, context.progress(transient=True) as progress:
        async with open_client(target, progress.on_event) as client:
            with progress.stage("list", unit="audience") as stage:
                async for audience in client.list_audiences():
                    add(audience_record(audience))
                    stage.advance()
    return ExitCode.DONE


async def create(
    name: str,
    /,
    *,
    description: Annotated[str | None, Parameter(metavar="TEXT")] = None,
    id_type: IdTypeName = None,
    waiting: WaitOnRequest = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> ExitCode:
    """Create an audience.

    Example: `aiobatch create vip --description "Very important" --wait`

    Args:
        name: The name: 1 to 255 letters, digits, `_` or `-`.
        description: Describe the audience. API 2.x calls it the display name.
        id_type: Treat IDs as this type. Default: the type of the API version.
    """
    kind = None if id_type is None else IdType(id_type)
    text = None if description is None else decode_stdin_dash(description)
    with context.progress() as progress:
        async with open_client(target, progress.on_event) as client:
            try:
                token = await client.create(name, description=text, id_type=kind)
            except ResponseError as error:
                if is_name_taken(error):
                    await _check_not_existing(client, name)
                raise error from None
            report = Report(name=name, operation=Operation.CREATE, tokens=_listed(token))
            report, code = await finish(client, report, waiting, progress, context)
    if report.applied:
        context.info(f"Created audience {name!r}.")
    write(report, context)
    return code


async def _check_not_existing(client: AudienceClient, name: str) -> None:
    """Raise a clear error if the audience exists. Batch's response to the create does not show that.

    Raises:
        AiobatchError: The audience exists.
    """
    try:
        await client.view(name)
    except AiobatchError:
        return
    msg = (
        f"Audience {name!r} already exists and was not changed. Run {command('view', name)} to show it, or "
        f"fill it with {command('sync', name, 'SOURCE')} or {command('update', name, '--add', 'FILE')}."
    )
    raise AiobatchError(msg)


def delete(
    name: str,
    /,
    *,
    yes: Yes = False,
    waiting: WaitOnRequest = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> Awaitable[ExitCode]:
    """Delete a whole audience.

    A campaign that targets it reaches no one. To remove IDs from an audience, use update.

    Example: `aiobatch delete vip --yes`

    Args:
        name: The audience.
        yes: Do not ask for confirmation.
    """
    check_name(name)
    context.confirm(f"Delete audience {name!r} with all its IDs?", yes=yes)
    return _delete(name, waiting, target, context)


async def _delete(name: str, waiting: WaitOnRequest, target: TargetOptions, context: Context) -> ExitCode:
    """Delete the audience after the confirmation."""
    with context.progress() as progress:
        async with (
            open_client(target, progress.on_event) as client,
            outside_write(client, name, f"delete {name}") as outside,
        ):
            token = await client.delete(name)
            await outside.end_deleted()
            report = Report(name=name, operation=Operation.DELETE, tokens=_listed(token))
            report, code = await finish(client, report, waiting, progress, context)
    if report.applied:
        context.info(f"Deleted audience {name!r}.")
    write(report, context)
    return code


def _listed(token: IndexingToken | None) -> tuple[IndexingToken, ...]:
    """Return the tokens of a write. 1.x returns none, because the write has taken effect."""
    return () if token is None else (token,)
