"""The `update` and `replace` commands: add, remove and replace the IDs of an audience."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING

import attrs
from cyclopts import Group, Parameter

from ...errors import InvalidInputError
from ...models import MAX_IDS, IdType, IndexingToken, Operation, check_name
from .._arguments import STDIN
from .._context import Context, InjectedContext
from .._exit_codes import ExitCode
from ..inputs._credentials import open_client
from ..inputs._id_files import IdFile, check_disjoint
from ..options._common import Column, IdTypeName, Source, TargetOptions, WaitAfterwards, Yes
from ..output._progress import Progress, Stage
from ._write_result import Report, end_write, finish, outside_write, write

if TYPE_CHECKING:
    from ...sync.run import OutsideWrite

__all__ = ["replace", "update"]

_TARGET = TargetOptions()
_WAIT = WaitAfterwards()
_FILES = Parameter(name="*", group=Group("IDs", sort_key=3))


@_FILES
@attrs.frozen(kw_only=True)
class UpdateOptions:
    """The IDs of an update.

    Attributes:
        add: Add the IDs of this file. `-` is standard input.
        remove: Remove the IDs of this file. `-` is standard input.
        column: Read IDs from this column. Default: one ID per line.
        id_type: Treat IDs as this type. Default: the type of the API version.
    """

    add: Source | None = None
    remove: Source | None = None
    column: Column = None
    id_type: IdTypeName = None


@_FILES
@attrs.frozen(kw_only=True)
class ReplaceOptions:
    """The IDs of a replace.

    Attributes:
        column: Read IDs from this column. Default: one ID per line.
        id_type: Treat IDs as this type. Default: the type of the API version.
        yes: Do not ask for confirmation.
    """

    column: Column = None
    id_type: IdTypeName = None
    yes: Yes = False


_UPDATE = UpdateOptions()
_REPLACE = ReplaceOptions()


async def update(
    name: str,
    /,
    *,
    files: UpdateOptions = _UPDATE,
    waiting: WaitAfterwards = _WAIT,
    target: TargetOptions = _TARGET,
    context: InjectedContext,
) -> ExitCode:
    """Add IDs to an audience and remove IDs from it.

    Takes any number of IDs, in requests of up to 10,000. Files have one ID per line, or are CSV, JSON lines
    or Parquet, possibly compressed with gzip. They are checked before anything is sent, but standard input
    is checked while it is sent. An ID in both files is an error, which is detected for up to a million IDs.

    Then the command waits until Batch has applied all, and shows the audience. Tokens that are not applied
    are printed for wait.

    Example: `aiobatch update vip --add new.csv --remove gone.csv --column user_id`

    Args:
        name: The audience.
    """
    check_name(name)
    if files.add == files.remove == STDIN:
        msg = "Standard input can be read only once: use - for --add or for --remove, not for both."
        raise InvalidInputError(msg)
    add, remove = (None if path is None else IdFile(path, files.column) for path in (files.add, files.remove))
    sources = [source for source in (add, remove) if source is not None]
    if not sources:
        msg = "Nothing to do. Name a file with --add or --remove."
        raise InvalidInputError(msg)
    with context.progress() as progress:
        async with (
            open_client(target, progress.on_event) as client,
            outside_write(client, name, f"update {name}") as outside,
        ):
            total = await _check_files(sources, progress)
            _check_not_empty(total, sources)
            with progress.stage(f"send to {name!r}", unit="ID", total=total) as stage:
                tokens = await _upload(outside, (add, remove), files.id_type, stage)
            await outside.commit()
            _check_not_empty(stage.done, sources)
            report = Report(name=name, operation=Operation.UPDATE, ids=stage.done, tokens=tokens)
            report, code = await finish(client, report, waiting, progress, context)
            await end_write(outside, report, waiting)
    write(report, context)
    return code


async def _check_files(sources: Sequence[IdFile], progress: Progress) -> int | None:
    """Check files and return the number of their IDs, or None if a file can be read only once."""
    files = [source for source in sources if not await source.is_pipe()]
    if not files:
        return None
    counts = dict.fromkeys(files, 0)
    with progress.stage("check the IDs", unit="ID") as stage:
        for file in files:
            async for block in file.blocks():
                counts[file] += len(block)
                stage.advance(len(block))
    if len(files) < len(sources):
        return None
    if len(files) > 1:
        await check_disjoint(*sorted(files, key=lambda one: counts[one]))
    return stage.done


def _check_not_empty(count: int | None, sources: Sequence[IdFile]) -> None:
    """Raise InvalidInputError if there are no IDs, because an upstream job has probably failed."""
    if count == 0:
        msg = f"No IDs in {' and '.join(source.label for source in sources)}. Nothing was sent."
        raise InvalidInputError(msg)


async def _upload(
    outside: OutsideWrite,
    sources: tuple[IdFile | None, IdFile | None],
    id_type: IdTypeName,
    stage: Stage,
) -> list[IndexingToken]:
    """Send all IDs and return the tokens."""

    async def ids(source: IdFile | None, *, added: bool) -> AsyncIterator[str]:
        if source is not None:
            async for block in source.logged_blocks():
                await outside.note(block, added=added)
                for value in block:
                    yield value

    add, remove = (ids(source, added=source is sources[0]) for source in sources)
    kind = None if id_type is None else IdType(id_type)
    client, name = outside.client, outside.audience
    return await client.upload(name, add=add, remove=remove, id_type=kind, on_progress=stage.update)


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
    """Replace all IDs of an audience by at most 10,000 others.

    This is one request. For larger audiences use sync, which sends only the difference.

    Example: `head -1000 ids.txt | aiobatch replace vip - --yes`

    Args:
        name: The audience.
        file: A file with the new IDs. `-` is standard input.
    """
    check_name(name)
    source = IdFile(file, options.column)
    context.confirm(
        f"Replace all IDs of audience {name!r} by those of {source.label}?", yes=options.yes, source=file
    )
    return _replace(name, source, options, waiting, target, context)


async def _replace(
    name: str,
    source: IdFile,
    options: ReplaceOptions,
    waiting: WaitAfterwards,
    target: TargetOptions,
    context: Context,
) -> ExitCode:
    """Replace the IDs after the confirmation."""
    kind = None if options.id_type is None else IdType(options.id_type)
    with context.progress() as progress:
        async with (
            open_client(target, progress.on_event) as client,
            outside_write(client, name, f"replace {name}") as outside,
        ):
            ids = await _read_few(source)
            await outside.note(ids, added=True)
            with progress.stage(f"send to {name!r}", unit="ID", total=len(ids)) as stage:
                token: IndexingToken = await client.replace(name, ids, id_type=kind)
                stage.update(len(ids))
            await outside.commit(replaces=True)
            report = Report(name=name, operation=Operation.REPLACE, ids=len(ids), tokens=[token])
            report, code = await finish(client, report, waiting, progress, context)
            await end_write(outside, report, waiting)
    write(report, context)
    return code


async def _read_few(source: IdFile) -> list[str]:
    """Return the IDs of a file that fit in one request."""
    ids: list[str] = []
    async for value in source.ids():
        ids.append(value)
        if len(ids) > MAX_IDS:
            msg = f"{source.label}: more than {MAX_IDS:,} IDs, but replace is one request. Use sync instead."
            raise InvalidInputError(msg)
    _check_not_empty(len(ids), [source])
    return ids
