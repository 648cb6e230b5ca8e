"""View, list, create and delete audiences."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

from cyclopts import Parameter

from ..._client import AudienceClient
from ...errors import AiobatchError, InvalidInputError, InvalidRequestError
from ...models import IdType, IndexingToken, Operation, check_name
from .._arguments import decode_stdin_dash
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from ..inputs._credentials import open_client
from ..inputs._id_files import read_words
from ..options._common import IdTypeName, TargetOptions, WaitOnRequest, Yes
from ..output._command_hints import command
from ..output._tables import AUDIENCE, audience_record
from ._write_result import Report, finish, write

__all__ = ["create", "delete", "list_", "view"]

_TARGET = TargetOptions()
_WAIT = WaitOnRequest()


async def view(*names: str, target: TargetOptions = _TARGET, context: InjectedContext) -> ExitCode:
    """Show audiences, many at once.

    Shows name, type, ids, state of the last update, time of the last update, description. Audiences that can
    be had are shown even where others cannot.

    Example: `aiobatch view vip trial --json | jq .nb_ids`

    Args:
        names: Names of audiences; `-` reads them from standard input.
    """
    wanted = list(dict.fromkeys(await read_words(names, check_name)))
    if not wanted:
        msg = f"no audience was named; {command('list')} shows all"
        raise InvalidInputError(msg)
    with context.output.rows(AUDIENCE) as add, context.progress(transient=True) as progress:
        async with open_client(target, progress.on_event) as client:
            with progress.stage("view", unit="audience", total=len(wanted)) as stage:
                async for audience in client.view_many(wanted):
                    add(audience_record(audience))
                    stage.advance()
    return ExitCode.DONE


async def list_(*, target: TargetOptions = _TARGET, context: InjectedContext) -> ExitCode:
    """Show every audience of the app or project.

    Shows the same columns as view; the APIs 1.x name no state here.

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
    id_type: IdTypeName | None = None,
    waiting: WaitOnRequest = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> ExitCode:
    """Create an audience.

    Example: `aiobatch create vip --description "Very important" --wait`

    Args:
        name: Its name, 1 to 255 letters, digits, `_` or `-`.
        description: Describe the audience. API 2.x calls it the display name.
        id_type: Treat IDs as this type. Default: the type of the API version.
    """
    kind = None if id_type is None else IdType(id_type)
    text = None if description is None else decode_stdin_dash(description)
    with context.progress() as progress:
        async with open_client(target, progress.on_event) as client:
            try:
                token = await client.create(name, description=text, id_type=kind)
            except InvalidRequestError as error:
                await _refuse_existing(client, name)
                raise error from None
            report = Report(name=name, operation=Operation.CREATE, tokens=_listed(token))
            report, code = await finish(client, report, waiting, progress, context)
    if report.applied:
        context.info(f"created audience {name!r}")
    write(report, context)
    return code


async def _refuse_existing(client: AudienceClient, name: str) -> None:
    """Say that a name is taken, if that is why Batch refused it: its answer does not tell.

    Raises:
        AiobatchError: There is an audience of this name.
    """
    try:
        await client.view(name)
    except AiobatchError:
        return
    msg = (
        f"audience {name!r}: it exists already, and was left as it is; {command('view', name)} shows it, and "
        f"{command('sync', name, 'SOURCE')} or {command('update', name, '--add', 'FILE')} fills it"
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

    A campaign that targets it will reach nobody. To remove ids from an audience, see update.

    Example: `aiobatch delete vip --yes`

    Args:
        name: Its name.
        yes: Do not ask.
    """
    check_name(name)
    context.confirm(f"Delete audience {name!r} and forget all its ids?", yes=yes)
    return _delete(name, waiting, target, context)


async def _delete(name: str, waiting: WaitOnRequest, target: TargetOptions, context: Context) -> ExitCode:
    """Delete, when the answer was yes."""
    with context.progress() as progress:
        async with open_client(target, progress.on_event) as client:
            token = await client.delete(name)
            report = Report(name=name, operation=Operation.DELETE, tokens=_listed(token))
            report, code = await finish(client, report, waiting, progress, context)
    if report.applied:
        context.info(f"deleted audience {name!r}")
    write(report, context)
    return code


def _listed(token: IndexingToken | None) -> tuple[IndexingToken, ...]:
    """Return the tokens of a write: 1.x gives none, and there it has taken effect."""
    return () if token is None else (token,)
