"""Syncs from DataFrames of Spark. It needs the extra `spark`, on the driver and on each executor.

Tasks check the IDs and compare them with the recorded members. The driver alone calls Batch.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import attrs

from ._client import AudienceClient
from .errors import InvalidInputError, SyncError
from .sync._engine_base import EngineBase, check_client_and_name
from .sync._errors import SourceError, StateError
from .sync._options import DEFAULTS, Lint, Mode, SyncOptions
from .sync._plan import Plan
from .sync._report import OnProgress, SyncReport
from .sync.cluster._columns import pick_columns
from .sync.cluster._computed import Comparison
from .sync.cluster._diff_part import DiffPart, PartSummary
from .sync.cluster._read_parts import MembersPart, SourcePart
from .sync.cluster._rows import ROWS
from .sync.run._audience_run import AudienceRun
from .sync.run._fan_out import check_source, rules_for
from .sync.sources._location import IterableSource
from .sync.sources._source import Source
from .sync.sources._stage import StagedSource
from .sync.state._history import RunOutcome
from .sync.state.ledger._ledger import StateUrl
from .sync.state.partitions._keys import salt_of

__all__ = ["plan_audience", "sync_audience"]

_LABEL: Final = "<dataframe>"
_MODES: Final = (Mode.MIRROR, Mode.ADD, Mode.REMOVE)
# Rows that a task passes to Spark at once.
_BATCH: Final = 50_000
# Marks the part of an error's text that has no ID. Spark's own text may have some.
_SAFE: Final = re.compile(r"\[aiobatch\](.*?)\[/aiobatch\]", re.DOTALL)
# Seconds between two tries to cancel a job, which may not have started at the first.
_CANCEL_INTERVAL: Final = 0.5


async def sync_audience(  # noqa: PLR0913 - three for what to sync, the others for how, by keyword
    client: AudienceClient,
    name: str,
    df: Any,
    *,
    state: str | StateUrl,
    options: SyncOptions = DEFAULTS,
    buckets: int | None = None,
    id_column: str | None = None,
    attributes: Iterable[str] | Mapping[str, str] = (),
    tags_column: str | None = None,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
) -> SyncReport:
    """Bring one audience in line with a DataFrame. Executors compare, and the driver sends what differs.

    Args:
        client: An open client of the audience's target. `BULK_RETRY` is a good policy for it.
        name: The audience's name.
        df: A DataFrame of Spark. Each computation of it must yield the same rows.
        state: The URL of the state, such as `s3://bucket/prefix`. All executors must reach it.
        options: The options of the run, of mode MIRROR, ADD or REMOVE. Each task may use the memory limit.
        buckets: Tasks of the comparison. Default: Spark decides.
        id_column: The column of IDs. Default: `id`, `user_id` or `custom_id`.
        attributes: Columns that become attributes, or a mapping of column to attribute's name.
        tags_column: The column of tags.
        on_progress: Called on the event loop after each change, with a `SyncProgress`.
        stop: Set it to end early. Chunks in flight are finished, within the grace period.

    Returns:
        The report of the run.

    Raises:
        InvalidInputError: An argument is invalid, or a column is missing. No job of Spark was started.
        SourceError: Spark cannot compute the difference. Nothing was sent.
        SyncError: As for `aiobatch.sync.sync_audience`.
        AiobatchError: As for `aiobatch.sync.sync_audience`.
    """
    source = _source(id_column, attributes, tags_column)
    async with _SparkEngine(state=state, options=options, on_progress=on_progress, stop=stop) as engine:
        return await engine.sync(client, name, _Frame(df, source, buckets))


async def plan_audience(  # noqa: PLR0913 - as for sync_audience
    client: AudienceClient,
    name: str,
    df: Any,
    *,
    state: str | StateUrl,
    options: SyncOptions = DEFAULTS,
    buckets: int | None = None,
    id_column: str | None = None,
    attributes: Iterable[str] | Mapping[str, str] = (),
    tags_column: str | None = None,
) -> Plan:
    """Work out what `sync_audience` would do with the same arguments. Nothing is sent.

    Args:
        client: As for `sync_audience`.
        name: As for `sync_audience`.
        df: As for `sync_audience`.
        state: As for `sync_audience`.
        options: As for `sync_audience`.
        buckets: As for `sync_audience`.
        id_column: As for `sync_audience`.
        attributes: As for `sync_audience`.
        tags_column: As for `sync_audience`.

    Returns:
        The plan, with the guard's decision.

    Raises:
        OpenRunError: An earlier run must be settled first.
        SyncError: As for `sync_audience`.
        AiobatchError: As for `sync_audience`.
    """
    source = _source(id_column, attributes, tags_column)
    async with _SparkEngine(state=state, options=options) as engine:
        return await engine.plan(client, name, _Frame(df, source, buckets))


def _source(
    id_column: str | None, attributes: Iterable[str] | Mapping[str, str], tags_column: str | None
) -> Source:
    """Return the columns as a source. Each task reads another part of it."""
    location = IterableSource(items=())
    return Source(
        location=location,
        id_column=id_column,
        attributes=attributes,
        tags_column=tags_column,
    )


@attrs.frozen
class _Frame:
    """A DataFrame, with the names of its columns."""

    frame: Any
    source: Source
    buckets: int | None

    def check(self) -> None:
        """Raise InvalidInputError if it is no DataFrame of Spark, or a stream."""
        if not hasattr(type(self.frame), "mapInArrow"):
            msg = f"df must be a DataFrame of Spark, not {type(self.frame).__name__}."
            raise InvalidInputError(msg)
        if self.buckets is not None and (type(self.buckets) is not int or self.buckets < 1):
            msg = "buckets must be a whole number of at least 1, or None."
            raise InvalidInputError(msg)
        if self.frame.isStreaming:
            msg = "df is a stream, which has no end. Use foreachBatch with the mode add."
            raise InvalidInputError(msg)

    def compare(self, columns: Sequence[str], files: Sequence[tuple[str, int]], parts: _Parts) -> list[str]:
        """Run the job of Spark, and return the summaries of its tasks.

        Args:
            columns: The columns to read.
            files: The files of the members, with their numbers.
            parts: What the tasks do.
        """
        # mapInArrow does not accept each name that a column can have, such as one with a dot.
        chosen = [f"`{name.replace('`', '``')}` AS c{place}" for place, name in enumerate(columns)]
        rows = self.frame.selectExpr(*chosen).mapInArrow(_staging(parts.source, columns), ROWS)
        if files:
            listed = self.frame.sparkSession.createDataFrame(list(files), "path string, number int")
            rows = rows.unionAll(listed.mapInArrow(_reading(parts.members), ROWS))
        # All rows of an ID are in one task, and all notes as well, since they have none.
        by_id = rows.repartition("id") if self.buckets is None else rows.repartition(self.buckets, "id")
        found = by_id.mapInArrow(_comparing(parts.diff), "summary string").collect()
        return [row[0] for row in found]


@attrs.frozen
class _Parts:
    """What the tasks of a job do."""

    source: SourcePart
    members: MembersPart
    diff: DiffPart


class _SparkEngine(EngineBase):
    """An engine whose source is compared by Spark."""

    async def sync(self, client: AudienceClient, name: str, frame: _Frame) -> SyncReport:
        """Bring an audience in line with a DataFrame."""
        columns = await self._check(client, name, frame)
        mode = self.options.mode
        async with (
            self._attempt("sync", [client], name, mode, frame.source) as outcomes,
            self._run("sync", client, name, None) as run,
        ):
            await run.prepare()
            async with self._compared(run, frame, columns) as staged:
                await run.begin(await run.plan(staged))
            outcomes.append(report := await run.send())
        return report

    async def plan(self, client: AudienceClient, name: str, frame: _Frame) -> Plan:
        """Plan a sync."""
        columns = await self._check(client, name, frame)
        async with self._run("plan", client, name, None) as run:
            await run.prepare(send=False)
            async with self._compared(run, frame, columns) as staged:
                plan = await run.plan(staged)
            report = run.context.reporter.report(RunOutcome.PLANNED)
            return attrs.evolve(plan, report=report, options=self.options, state=str(self.state))

    async def _check(self, client: AudienceClient, name: str, frame: _Frame) -> list[str]:
        """Return the columns to read. Raise InvalidInputError before the state is opened."""
        check_client_and_name(client, name)
        check_source(frame.source, client)
        if not isinstance(self.state, StateUrl):
            msg = "state must be a URL that all executors reach, such as 's3://bucket/prefix'."
            raise InvalidInputError(msg)
        if self.options.mode not in _MODES or self.options.rejects is not None:
            msg = f"Spark supports the modes {', '.join(_MODES)}, and no file of rejected rows."
            raise InvalidInputError(msg)

        def check() -> list[str]:
            frame.check()
            rules = self.options.rules(client.default_id_type)
            return pick_columns(frame.source, rules.id_type, list(frame.frame.columns), _LABEL)

        return await asyncio.to_thread(check)

    @asynccontextmanager
    async def _compared(
        self, run: AudienceRun, frame: _Frame, columns: Sequence[str]
    ) -> AsyncIterator[StagedSource]:
        """Compare in Spark, load what differs into the open state, and drop it at the end."""
        context, thread = run.context, run.context.state
        comparison = Comparison(label=_LABEL, url=str(self.state), record=run.record)
        parts = self._parts(run, frame.source, columns[0], comparison)
        limit = parts.diff.limit or 0
        try:
            context.reporter.rows_read(0)
            files = await asyncio.to_thread(comparison.member_files)
            found = await context.unless_stopped(
                _in_spark(frame.frame.sparkSession, functools.partial(frame.compare, columns, files, parts))
            )
            summaries = [PartSummary.from_json(one, limit=limit) for one in found]
            yield await context.unless_stopped(thread.call_interruptible(comparison.load, summaries))
        finally:
            with suppress(StateError):  # `state gc` deletes what is left
                await thread.call(comparison.discard)

    def _parts(self, run: AudienceRun, source: Source, id_column: str, comparison: Comparison) -> _Parts:
        options, state = run.context.options, run.context.state.state
        rules, limit = rules_for([run.context], source)
        memory, has_details = options.memory_limit, bool(source.attributes or source.tags_column)
        return _Parts(
            SourcePart(
                source=attrs.evolve(source, id_column=id_column),
                rules=rules,
                salt=salt_of(state),
                memory_limit=memory,
                max_spill=options.max_spill,
            ),
            MembersPart(url=comparison.url, memory_limit=memory),
            DiffPart(
                state_id=state.state_id,
                url=comparison.url,
                folder=comparison.folder,
                mode=options.mode,
                memory_limit=memory,
                rules=rules if options.lint is Lint.WARN else None,
                limit=limit if has_details else None,
            ),
        )


async def _in_spark(session: Any, job: Callable[[], list[str]]) -> list[str]:
    """Run a job of Spark in a thread. Cancellation cancels the job, and waits until it has ended.

    Args:
        session: The session of the job.
        job: Runs it.

    Raises:
        SourceError: The job failed.
    """
    tag = f"aiobatch-{uuid.uuid4().hex}"
    # Of Spark Connect, the session has the tags. That of a local driver knows those of its own thread only.
    context = getattr(session, "sparkContext", None)
    add, remove, cancel = (
        (session.addTag, session.removeTag, session.interruptTag)
        if context is None
        else (context.addJobTag, context.removeJobTag, context.cancelJobsWithTag)
    )

    def run() -> list[str]:
        add(tag)
        try:
            return job()
        except Exception as error:  # noqa: BLE001 - Spark's errors have no class in common
            raise _explained(error) from None
        finally:
            remove(tag)

    running, is_cancelled = asyncio.ensure_future(asyncio.to_thread(run)), False
    interrupting: list[asyncio.Future[Any]] = []
    while not running.done():
        try:
            await asyncio.wait([running], timeout=_CANCEL_INTERVAL if is_cancelled else None)
        except asyncio.CancelledError:
            is_cancelled = True
        if is_cancelled and not running.done():
            interrupting.append(asyncio.ensure_future(asyncio.to_thread(cancel, tag)))
    await asyncio.gather(*interrupting, return_exceptions=True)
    if is_cancelled:
        running.exception()  # mark it as retrieved: the caller gets CancelledError
        raise asyncio.CancelledError
    return running.result()


def _explained(error: Exception) -> SourceError:
    """Return the error of a job without Spark's own text, which may contain an ID."""
    safe = _SAFE.search(str(error))
    reason = safe[1].rstrip(".") if safe else "the job failed. Look for the reason in the log of Spark"
    if isinstance(error, ImportError):
        reason = "it needs the extra `spark`: pip install 'aiobatch-client[spark]'"
    return SourceError(f"Spark could not compare it: {reason} [{type(error).__name__}]", location=_LABEL)


# -- in the tasks --------------------------------------------------------------------------------------


def _staging(part: SourcePart, columns: Sequence[str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def run(batches: Iterator[Any]) -> Iterator[Any]:
        from pyspark import TaskContext

        with _task_errors():
            rows = _reader(batch.rename_columns(list(columns)) for batch in batches)
            if rows is not None:
                # The number of a partition is its place in the frame. So the last row of an ID counts.
                with part.rows(rows, TaskContext.get().partitionId()) as staged:
                    yield from staged.to_arrow_reader(_BATCH)

    return run


def _reading(part: MembersPart) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def run(batches: Iterator[Any]) -> Iterator[Any]:
        with _task_errors():
            for batch in batches:
                for file in batch.to_pylist():
                    with part.rows(file["path"], file["number"]) as members:
                        yield from members.to_arrow_reader(_BATCH)

    return run


def _comparing(part: DiffPart) -> Callable[[Iterator[Any]], Iterator[Any]]:
    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        with _task_errors():
            rows = _reader(batches)
            if rows is not None:
                yield pa.RecordBatch.from_pydict({"summary": [part.summary(rows).to_json()]})

    return run


def _reader(batches: Iterator[Any]) -> Any:
    """Return batches as one stream. None if there are none."""
    import pyarrow as pa

    first = next(batches, None)
    if first is None:
        return None
    return pa.RecordBatchReader.from_batches(first.schema, itertools.chain([first], batches))


@contextmanager
def _task_errors() -> Iterator[None]:
    """Mark the texts of aiobatch's errors, which have no IDs."""
    try:
        yield
    except SyncError as error:
        msg = f"[aiobatch]{error.text}[/aiobatch]"
        raise RuntimeError(msg) from None
