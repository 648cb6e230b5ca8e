"""One source, read once, for the audiences of one name in one target or in many."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import attrs

from ..._client import AudienceClient
from ...errors import InvalidInputError
from .._errors import StateError
from .._options import DEFAULTS, SyncOptions
from .._report import OnProgress, SyncReport
from ..sources._source import Source, SourceLike
from ..state._diff import clear_plan
from ..state._thread import StateThread
from ._audience_run import AudienceRun
from ._stage_source import Staged, check_source, stage_source, unstage
from ._stop import unless_stopped

R = TypeVar("R")


async def fan_out(  # noqa: PLR0913 - what sync_audience takes
    thread: StateThread,
    clients: Sequence[AudienceClient],
    name: str,
    source: SourceLike,
    *,
    options: SyncOptions = DEFAULTS,
    on_progress: OnProgress | None = None,
    stop: asyncio.Event | None = None,
    dry_run: bool = False,
) -> list[SyncReport | Exception]:
    """Bring the audience of one name, in several targets, in line with a source that is read once.

    Each of *clients* is of one target, *thread* is the open state, and the rest is as for `sync_audience`. A
    *dry_run* sends nothing and reports the plans; one that the guard refuses is a `GuardError`.

    Returns:
        For each client its report, or what went wrong; one that fails does not stop the others.
    """
    stop = stop or asyncio.Event()
    parsed = Source.of(source)
    runs = [
        AudienceRun(
            client=client,
            name=name,
            thread=thread,
            options=options,
            on_progress=_of_target(number, on_progress),
            stop=stop,
        )
        for number, client in enumerate(clients)
    ]
    async with AsyncExitStack() as stack:
        return await _Fan(thread, runs, parsed, stack, sends=not dry_run).spread()


def _of_target(number: int, on_progress: OnProgress | None) -> OnProgress | None:
    """Let progress say which of several clients it is about."""
    if on_progress is None or number == 0:
        return on_progress
    return lambda progress: on_progress(attrs.evolve(progress, target=number))


async def stage_for(runs: Sequence[AudienceRun], source: Source) -> Staged:
    """Read a source to its end, once for all *runs*.

    Args:
        runs: Runs of one audience's name and one state; their options are the same.
        source: The source.

    Raises:
        SourceError: It cannot be read, or not to its end.
        StagingError: This machine cannot take it in.
        InterruptedRunError: Asked to stop.
        InvalidInputError: The runs' targets take ids of different types.
    """
    first = runs[0]
    options, types = first.options, {run.client.default_id_type for run in runs}
    if options.id_type is None and len(types) > 1:
        msg = f"the targets take different ids ({', '.join(sorted(types))}); say which with id_type"
        raise InvalidInputError(msg)

    def on_progress(rows: int) -> None:
        for run in runs:
            run.tell_read(rows)

    on_progress(0)  # a short source is read at a stroke
    rules = options.rules(first.client.default_id_type)
    reading = stage_source(first.thread, source, rules, rejects=options.rejects, on_progress=on_progress)
    return await unless_stopped(first.stop, first.name, reading)


class _Fan:
    """Runs of one source, side by side; each goes on as long as nothing goes wrong with it."""

    def __init__(
        self,
        thread: StateThread,
        runs: Sequence[AudienceRun],
        source: Source,
        stack: AsyncExitStack,
        *,
        sends: bool,
    ) -> None:
        self._thread = thread
        self._runs = runs
        self._source = source
        self._stack = stack
        self._sends = sends
        self._errors: dict[AudienceRun, Exception] = {}

    async def spread(self) -> list[SyncReport | Exception]:
        """Take all runs to their ends."""
        await self._each(self._prepare, self._runs)
        if not self._left:
            return self._outcomes({})
        try:
            staged = await stage_for(self._left, self._source)
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the outcome of all of them
            for run in self._left:
                self._fail(run, error)
            return self._outcomes({})
        try:
            reports = await self._each(lambda run: self._begin(run, staged), self._left)
        finally:
            await unstage(self._thread, staged)
        if self._sends:
            reports = await self._each(AudienceRun.send, self._left)
        return self._outcomes(reports)

    @property
    def _left(self) -> list[AudienceRun]:
        return [run for run in self._runs if run not in self._errors]

    async def _prepare(self, run: AudienceRun) -> None:
        check_source(self._source, run.client)
        await self._stack.enter_async_context(run)
        await run.prepare(send=self._sends)

    async def _begin(self, run: AudienceRun, staged: Staged) -> SyncReport:
        """Plan, let the guard judge and, where anything is to be sent, journal it."""
        plan = await run.plan(staged)
        try:
            if self._sends:
                await run.begin(plan)
            else:
                plan.enforce()
        finally:
            with contextlib.suppress(StateError):  # a state that broke has said so to the run
                await self._thread.run(clear_plan, self._thread.state, plan.key)
        return run.report_plan()

    async def _each(
        self, step: Callable[[AudienceRun], Awaitable[R]], runs: Iterable[AudienceRun]
    ) -> dict[AudienceRun, R]:
        """Do a step with every run, side by side."""
        results: dict[AudienceRun, R] = {}

        async def do(run: AudienceRun) -> None:
            try:
                with run.counting():
                    results[run] = await step(run)
            except Exception as error:  # noqa: BLE001 - not swallowed: it is this run's outcome
                self._fail(run, error)

        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(do(run))
        return results

    def _fail(self, run: AudienceRun, error: Exception) -> None:
        run.blame(error)
        self._errors[run] = error

    def _outcomes(self, reports: dict[AudienceRun, SyncReport]) -> list[SyncReport | Exception]:
        return [reports.get(run) or self._errors[run] for run in self._runs]
