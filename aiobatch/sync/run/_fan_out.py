"""One source, read once, for the audiences of one name in one or several targets."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self, TypeVar

import attrs

from ..._client import AudienceClient
from ...dialects import dialect_for
from ...errors import InvalidInputError
from ...lint import string_limit
from ...options import App
from .._errors import InterruptedRunError, StalePlanError, StateError
from .._lint import AttributeLint, SourceLint, lint_staged, lint_staged_attributes
from .._options import Lint, Mode
from .._plan import Plan
from .._report import SyncReport
from ..sources._id_rules import IdRules
from ..sources._rejects import refuse_overlap
from ..sources._source import Source
from ..sources._stage import StageCounts, StagedSource, StageOptions, has_details, stage
from ..state._duckdb_errors import duckdb_errors
from ..state._history import RunOutcome
from ..state._state import AudienceRecord, State
from ..state._targets import TargetKey
from ..state._thread import StateThread
from ..state.partitions._comparison import SKIPPING_MODES
from ..state.partitions._digests import equals_members
from ..state.partitions._keys import salt_of
from ._audience_run import AudienceRun
from ._context import RunContext

R = TypeVar("R")


class _StoppedError(Exception):
    """The run was cancelled. Whatever the source waits for, its reading ends."""


_numbers = itertools.count(1)


async def fan_out(
    contexts: Sequence[RunContext], source: Source, *, plans: Sequence[Plan] = ()
) -> list[SyncReport | Exception]:
    """Bring the audience of one name, in several targets, in line with a source that is read once.

    Args:
        contexts: One for each target. They share their state, options and `stop`.
        source: The source.
        plans: The plan of each context, which must not be stale. Empty: whatever differs is sent.

    Returns:
        For each context its report or its error. One that fails does not stop the others.
    """
    async with _FanOut.open(contexts, source, plans) as runs:
        return await runs.send()


async def plan_each(contexts: Sequence[RunContext], source: Source) -> list[Plan | Exception]:
    """Work out what `fan_out` would do with the same arguments.

    Returns:
        For each context its plan or its error. One that fails does not stop the others.
    """
    async with _FanOut.open(contexts, source) as runs:
        return await runs.plan()


def check_source(source: Source, client: AudienceClient) -> None:
    """Raise InvalidInputError if the source has columns that the API's version does not accept.

    Args:
        source: The source. It need not be read yet.
        client: A client of the audience's target.

    Raises:
        InvalidInputError: The source has attributes or tags that cannot be sent.
    """
    rules, version = dialect_for(client.target).rules, client.target.version
    if source.tags_column is not None and not rules.tags:
        msg = f"source: API {version} does not accept tags, 1.1 does. Remove the tags column."
        raise InvalidInputError(msg)
    if source.attributes and not rules.attributes:
        msg = (
            f"source: API {version} does not accept attributes, 1.1 and 2.x do. Remove the attribute columns."
        )
        raise InvalidInputError(msg)


async def stage_for(contexts: Sequence[RunContext], source: Source) -> StagedSource:
    """Read a source to its end, once for all *contexts*.

    Args:
        contexts: Contexts of one audience's name and one state, with the same options.
        source: The source.

    Returns:
        The staged source. `unstage` drops its table.

    Raises:
        SourceError: The source cannot be read, or not to its end.
        StagingError: This machine cannot stage it.
        InterruptedRunError: The run was asked to stop.
        InvalidInputError: The targets take IDs of different types, or the reject file is in use.
    """
    first, table = contexts[0], f"staged_{next(_numbers)}"
    rules, limit = rules_for(contexts, source)
    loop, stopped = asyncio.get_running_loop(), threading.Event()

    def publish(rows: int) -> None:
        for context in contexts:
            context.reporter.rows_read(rows)

    def on_progress(rows: int) -> None:
        if stopped.is_set():
            raise _StoppedError
        loop.call_soon_threadsafe(publish, rows)

    def read(state: State) -> tuple[StageCounts, SourceLint, AttributeLint]:
        counts = _stage(state, source, rules, contexts, on_progress)
        # Each source has a table of its own, so that several can be staged at the same time.
        state.rows("ALTER TABLE temp.staged RENAME TO {table}", table=table)
        if first.options.lint is not Lint.WARN:
            return counts, SourceLint(), AttributeLint()
        return counts, *_lint(state, f"temp.{table}", rules, limit if has_details(source) else None)

    publish(0)  # a short source is read before the first progress
    counts, lint, attribute_lint = await first.unless_stopped(first.state.call_stoppable(read, stopped.set))
    label = source.label if counts.version is None else f"{source.label} (version {counts.version})"
    return StagedSource(
        table=f"temp.{table}", label=label, counts=counts, lint=lint, attribute_lint=attribute_lint
    )


def rules_for(contexts: Sequence[RunContext], source: Source) -> tuple[IdRules, int | None]:
    """Return the rules of the IDs, and the most characters of an attribute. None: there are none.

    Args:
        contexts: As for `stage_for`.
        source: The source. It need not be read yet.

    Raises:
        InvalidInputError: The targets take IDs of different types.
    """
    options, types = contexts[0].options, {context.client.default_id_type for context in contexts}
    if options.id_type is None and len(types) > 1:
        msg = f"The targets take different IDs ({', '.join(sorted(types))}). Set id_type."
        raise InvalidInputError(msg)
    rules = attrs.evolve(options.rules(contexts[0].client.default_id_type), id_column=source.id_column)
    # A mode that only removes sends no attributes, so that they are no reason to leave out its IDs.
    is_mobile = any(isinstance(context.client.target, App) for context in contexts)
    limit = None if options.mode is Mode.REMOVE else string_limit(mobile=is_mobile)
    return attrs.evolve(rules, string_limit=limit if rules.lints else None), limit


def _stage(
    state: State,
    source: Source,
    rules: IdRules,
    contexts: Sequence[RunContext],
    on_progress: Callable[[int], None],
) -> StageCounts:
    options = contexts[0].options
    if options.rejects is not None:
        refuse_overlap(options.rejects, source.location, state.path)
    return stage(
        state.connection,
        source,
        rules,
        rejects=options.rejects,
        on_progress=on_progress,
        options=StageOptions(
            salt=salt_of(state),
            max_spill=options.max_spill,
            idle_timeout=options.timeout,
            is_unique=functools.partial(equals_members, state, _skipping_keys(contexts)),
        ),
    )


def _skipping_keys(contexts: Sequence[RunContext]) -> list[str]:
    """Return the keys of the audiences for which nothing is sent if the source equals their members."""
    if contexts[0].options.mode not in SKIPPING_MODES:
        return []
    return [TargetKey.of(one.client.target).audience_key(one.audience) for one in contexts]


def _lint(state: State, table: str, rules: IdRules, limit: int | None) -> tuple[SourceLint, AttributeLint]:
    with duckdb_errors(state.path):
        lint = lint_staged(state.connection, table, id_column=rules.id_column, is_trimmed=rules.trim)
        if limit is None:
            return lint, AttributeLint()
        return lint, lint_staged_attributes(state.connection, table, limit=limit)


async def unstage(thread: StateThread, staged: StagedSource) -> None:
    """Drop the table of a staged source.

    Args:
        thread: The open state.
        staged: What `stage_for` returned.
    """
    with contextlib.suppress(StateError):  # a broken state has failed the run already
        await thread.run(thread.state.rows, "DROP TABLE IF EXISTS {table}", table=staged.table)


@contextlib.asynccontextmanager
async def staging(contexts: Sequence[RunContext], source: Source) -> AsyncIterator[StagedSource]:
    """Read a source as `stage_for` does, and drop its table at the end.

    Args:
        contexts: As for `stage_for`.
        source: The source.
    """
    staged = await stage_for(contexts, source)
    try:
        yield staged
    finally:
        await unstage(contexts[0].state, staged)


@attrs.define(eq=False)
class _FanOut:
    """Runs of one source, at the same time. A run that fails leaves, and the others continue."""

    runs: Sequence[AudienceRun]
    source: Source
    stack: AsyncExitStack
    plans: Mapping[AudienceRun, Plan]
    _errors: dict[AudienceRun, Exception] = attrs.field(init=False, factory=dict)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls, contexts: Sequence[RunContext], source: Source, plans: Sequence[Plan] = ()
    ) -> AsyncIterator[Self]:
        """Yield the runs of *contexts*, and end them."""
        runs = [AudienceRun(context) for context in contexts]
        async with AsyncExitStack() as stack:
            yield cls(runs, source, stack, dict(zip(runs, plans, strict=False)))

    async def send(self) -> list[SyncReport | Exception]:
        """Take all runs to their ends."""
        await self._with_source(self._begin, sends=True)
        reports = await self._each(AudienceRun.send, self._left)
        return [reports.get(run) or self._errors[run] for run in self.runs]

    async def plan(self) -> list[Plan | Exception]:
        """Plan all runs."""
        plans = await self._with_source(self._plan, sends=False)
        return [plans.get(run) or self._errors[run] for run in self.runs]

    async def _with_source(
        self, step: Callable[[AudienceRun, StagedSource], Awaitable[R]], *, sends: bool
    ) -> dict[AudienceRun, R]:
        """Prepare the runs, read the source, and do a step with every run that is left."""
        await self._each(lambda run: self._prepare(run, send=sends), self.runs)
        if not self._left:
            return {}
        try:
            staged = await stage_for([run.context for run in self._left], self.source)
        except Exception as error:  # noqa: BLE001 - not swallowed: it is the outcome of all of them
            for run in self._left:
                self._fail(run, error)
            return {}
        try:
            return await self._each(lambda run: step(run, staged), self._left)
        finally:
            await unstage(self.runs[0].context.state, staged)

    @property
    def _left(self) -> list[AudienceRun]:
        return [run for run in self.runs if run not in self._errors]

    async def _prepare(self, run: AudienceRun, *, send: bool) -> None:
        check_source(self.source, run.context.client)
        await self.stack.enter_async_context(run)
        if plan := self.plans.get(run):
            await run.load_state()
            _check_unchanged(plan, run.record, run.context.state.state.state_id)
        await run.prepare(send=send)

    async def _plan(self, run: AudienceRun, staged: StagedSource) -> Plan:
        """Plan, and return the plan with what is needed to apply it later."""
        try:
            plan = await run.plan(staged)
        finally:
            await run.discard_plan()
        context = run.context
        return attrs.evolve(
            plan,
            report=context.reporter.report(RunOutcome.PLANNED),
            source=self.source,
            options=context.options,
            state=str(context.state.state.ledger.location),
        )

    async def _begin(self, run: AudienceRun, staged: StagedSource) -> None:
        """Plan, compare with an earlier plan, enforce the guard, and journal the plan."""
        plan = await run.plan(staged)
        try:
            if run in self.plans:
                self.plans[run].refuse_stale(plan)
            await run.begin(plan)
        finally:
            await run.discard_plan()

    async def _each(
        self, step: Callable[[AudienceRun], Awaitable[R]], runs: Sequence[AudienceRun]
    ) -> dict[AudienceRun, R]:
        """Do a step with every run, at the same time."""
        results: dict[AudienceRun, R] = {}

        async def do(run: AudienceRun) -> None:
            try:
                with run.context.reporter.counting_retries():
                    results[run] = await step(run)
            except Exception as error:  # noqa: BLE001 - not swallowed: it is this run's outcome
                self._fail(run, error)

        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(do(run))
        for run in runs:
            if run not in results and run not in self._errors:
                # Its task was cancelled by other code than this group. The others are not affected.
                msg = "the run was cancelled. The next run resumes it."
                self._fail(run, InterruptedRunError(msg, audience=run.context.audience))
        return results

    def _fail(self, run: AudienceRun, error: Exception) -> None:
        run.attach_report(error)
        self._errors[run] = error


def _check_unchanged(plan: Plan, record: AudienceRecord, state_id: str) -> None:
    """Raise StalePlanError for a plan of another target or an earlier state, before anything is read."""
    if record.key != plan.key:
        raise StalePlanError(audience=plan.audience, moved=["it is a plan for another app or project"])
    if record.open_run is not None:
        moved = [f"run {record.open_run} has begun since and is not settled"]
        raise StalePlanError(audience=plan.audience, moved=moved)
    plan.refuse_moved(state_id, record.generation)
