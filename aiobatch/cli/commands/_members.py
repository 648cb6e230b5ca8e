"""Add, remove and replace the ids of an audience."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

import attrs
from cyclopts import Group, Parameter

from ..._client import AudienceClient
from ...errors import InvalidInputError
from ...models import MAX_IDS, IdType, IndexingToken, Operation, check_name
from .._arguments import STDIN
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from .._signals import in_thread
from ..inputs._credentials import open_client
from ..inputs._id_files import IdFile, check_disjoint
from ..options._common import Column, IdTypeName, Source, TargetOptions, WaitAfterwards, Yes
from ..output._progress import Progress, Stage
from ._write_result import Report, finish, write

__all__ = ["replace", "update"]

_TARGET = TargetOptions()
_WAIT = WaitAfterwards()
_FILES = Parameter(name="*", group=Group("Ids", sort_key=3))


@_FILES
@attrs.frozen(kw_only=True)
class UpdateFiles:
    """Which ids, and what they are.

    Attributes:
        add: Add the IDs of this file. `-` is standard input.
        remove: Remove the IDs of this file. `-` is standard input.
        column: Read IDs from this column of CSV files. Default: one ID a line.
        id_type: Treat IDs as this type. Default: the type of the API version.
    """

    add: Source | None = None
    remove: Source | None = None
    column: Column = None
    id_type: IdTypeName | None = None


@_FILES
@attrs.frozen(kw_only=True)
class ReplaceOptions:
    """What the ids are.

    Attributes:
        column: Read IDs from this column of a CSV file. Default: one ID a line.
        id_type: Treat IDs as this type. Default: the type of the API version.
        yes: Do not ask.
    """

    column: Column = None
    id_type: IdTypeName | None = None
    yes: Yes = False


_UPDATE = UpdateFiles()
_REPLACE = ReplaceOptions()


async def update(
    name: str,
    /,
    *,
    files: UpdateFiles = _UPDATE,
    waiting: WaitAfterwards = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> ExitCode:
    """Add ids to an audience and remove ids from it: any number, in requests of up to 10,000.

    Files are checked before anything is sent, standard input as it is read; an id that is to be added and
    removed is an error, told of files of up to a million ids. Then it waits until Batch has applied all, and
    shows the audience; what is not applied in the end is printed as tokens, for wait.

    Example: `aiobatch update vip --add new.csv --remove gone.csv --column user_id`

    Args:
        name: The audience.
    """
    check_name(name)
    add, remove = _source(files.add, files.column), _source(files.remove, files.column)
    if add is None and remove is None:
        msg = "nothing to do: name a file with --add or --remove"
        raise InvalidInputError(msg)
    if files.add == files.remove == STDIN:
        msg = "standard input can be read once: only one of --add and --remove may be -"
        raise InvalidInputError(msg)
    with context.progress() as progress:
        async with open_client(target, progress.on_event) as client:
            sources = [source for source in (add, remove) if source is not None]
            total = await _check(sources, progress)
            _check_any(total, sources)
            with progress.stage(f"send to {name!r}", unit="id", total=total) as stage:
                tokens = await _upload(client, name, (add, remove), files.id_type, stage)
            _check_any(stage.done, sources)
            report = Report(name=name, operation=Operation.UPDATE, ids=stage.done, tokens=tokens)
            report, code = await finish(client, report, waiting, progress, context)
    write(report, context)
    return code


def _source(path: str | None, column: str | None) -> IdFile | None:
    """Return the file of an option."""
    return None if path is None else IdFile(path, column)


async def _upload(
    client: AudienceClient,
    name: str,
    sources: tuple[IdFile | None, IdFile | None],
    id_type: IdTypeName | None,
    stage: Stage,
) -> list[IndexingToken]:
    """Send all ids."""
    add, remove = map(_ids, sources)
    kind = None if id_type is None else IdType(id_type)
    return await client.upload(name, add=add, remove=remove, id_type=kind, on_progress=stage.reach)


async def _ids(source: IdFile | None) -> AsyncIterator[str]:
    """Yield the ids of a file that may not be given."""
    if source is not None:
        async for value in source.ids():
            yield value


async def _check(sources: list[IdFile], progress: Progress) -> int | None:
    """Read files through; return how many ids they have, None where that is not known."""
    if all(source.path == STDIN for source in sources):
        return None
    counts: dict[IdFile, int | None] = {}
    with progress.stage("check the ids", unit="id") as stage:
        for source in sources:
            counts[source] = await source.check()
            stage.advance(counts[source] or 0)
    if None in counts.values():
        return None
    if len(sources) > 1:
        small, large = sorted(sources, key=lambda one: counts[one] or 0)
        await in_thread(lambda: check_disjoint(small, large))
    return stage.done


def _check_any(count: int | None, sources: list[IdFile]) -> None:
    """Refuse files without ids: an empty one is a mistake further up."""
    if count == 0:
        msg = f"no ids in {' and '.join(source.label for source in sources)}; nothing was sent"
        raise InvalidInputError(msg)


def replace(
    name: str,
    file: Source,
    /,
    *,
    options: ReplaceOptions = _REPLACE,
    waiting: WaitAfterwards = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> Awaitable[ExitCode]:
    """Replace all ids of an audience by at most 10,000 others, in one request.

    For larger audiences, and to change only what differs, see update.

    Example: `head -1000 ids.txt | aiobatch replace vip - --yes`

    Args:
        name: The audience.
        file: A file with the new ids; `-` is standard input.
    """
    check_name(name)
    context.confirm(
        f"Remove every id of audience {name!r} and put those of {file} in their place?",
        yes=options.yes,
        source=file,
    )
    return _replace(name, IdFile(file, options.column), options, waiting, target, context)


async def _replace(
    name: str,
    source: IdFile,
    options: ReplaceOptions,
    waiting: WaitAfterwards,
    target: TargetOptions,
    context: Context,
) -> ExitCode:
    """Replace, when the answer was yes."""
    kind = None if options.id_type is None else IdType(options.id_type)
    with context.progress() as progress:
        async with open_client(target, progress.on_event) as client:
            ids = await _read_few(source)
            with progress.stage(f"send to {name!r}", unit="id", total=len(ids)) as stage:
                token: IndexingToken = await client.replace(name, ids, id_type=kind)
                stage.reach(len(ids))
            report = Report(name=name, operation=Operation.REPLACE, ids=len(ids), tokens=[token])
            report, code = await finish(client, report, waiting, progress, context)
    write(report, context)
    return code


async def _read_few(source: IdFile) -> list[str]:
    """Read as many ids as fit one request."""
    ids: list[str] = []
    async for value in source.ids():
        ids.append(value)
        if len(ids) > MAX_IDS:
            msg = f"{source.label}: more than {MAX_IDS:,} ids, and replace is one request; use update"
            raise InvalidInputError(msg)
    _check_any(len(ids), [source])
    return ids
