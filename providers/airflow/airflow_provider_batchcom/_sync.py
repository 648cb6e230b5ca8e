"""One sync of a task: up to the wait for tokens, and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import attrs

from aiobatch import AudienceClient, AudienceNotFoundError, IndexingToken, Project
from aiobatch.sync import (
    BULK_RETRY,
    DriftError,
    Mode,
    NotAppliedError,
    Run,
    RunOutcome,
    Source,
    StateError,
    SyncEngine,
    SyncOptions,
    open_tokens,
)

from .hooks.batchcom import BatchcomHook

# The newest tokens are APPLIED last, and the trigger's arguments are a row in a database.
MAX_TOKENS: Final = 500
# The least time to settle what the triggerer has waited for, in seconds.
_TO_SETTLE: Final = 30.0
_PAUSE: Final = 1.0

Report = dict[str, Any]
_T = TypeVar("_T")


@attrs.frozen
class Wait:
    """Tokens to wait for without a worker.

    Attributes:
        tokens: The tokens as texts.
        report: The report of the run that sent them. None if they are of an earlier run, or of a create.
    """

    tokens: list[str]
    report: Report | None = None


@attrs.define(eq=False, kw_only=True)
class TaskSync:
    """The sync of one audience in a task.

    Attributes:
        hook: The connection.
        audience: The audience's name.
        state: The state's path or URL.
        source: Called for the source, each time that it is read.
        options: The options of the run.
    """

    hook: BatchcomHook
    audience: str
    state: str
    source: Callable[[], Source]
    options: SyncOptions
    _loop: asyncio.AbstractEventLoop | None = attrs.field(init=False, default=None)
    _stop: asyncio.Event | None = attrs.field(init=False, default=None)

    def run(self, work: Callable[[AudienceClient], Awaitable[_T]]) -> _T:
        """Call *work* with an open client in a new event loop, and return its result."""
        # The connection is read here: Airflow's API for it blocks.
        client = self.hook.get_client(retry=BULK_RETRY)
        return asyncio.run(self._run(client, work))

    def stop(self) -> None:
        """End a run early, from a signal handler. What was sent is journaled."""
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _run(self, client: AudienceClient, work: Callable[[AudienceClient], Awaitable[_T]]) -> _T:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with client:
                return await work(client)
        finally:
            self._loop = None

    def _engine(self) -> SyncEngine:
        return SyncEngine(state=self.state, options=self.options, stop=self._stop)

    # -- work -----------------------------------------------------------------------------------------

    async def sync(self, client: AudienceClient) -> Report:
        """Sync, and wait in this process."""
        return await self._sync(client, self.options)

    async def plan(self, client: AudienceClient) -> Report:
        """Plan, and send nothing. The report has the guard's decision."""
        async with self._engine() as engine:
            plan = await engine.plan(client, self.audience, self.source())
        assert plan.report is not None  # noqa: S101 - a plan that was just made has one
        decision = plan.decision
        guard = {
            "allowed": decision.allowed,
            "reasons": list(decision.reasons),
            "overrides": dict(decision.options),
        }
        return {**plan.report.to_dict(), "guard": guard}

    async def begin(self, client: AudienceClient) -> Wait | Report:
        """Wait for what an earlier task left, or for the create, or else send."""
        if tokens := await self._open_tokens(client):
            return Wait(tokens)
        if (token := await self._create(client)) is not None:
            return Wait([str(token)])
        return await self.send(client)

    async def send(self, client: AudienceClient) -> Wait | Report:
        """Send the difference, and return the tokens to wait for, or the report if there are none."""
        report = await self._sync(client, attrs.evolve(self.options, wait=False))
        tokens = await self._open_tokens(client)
        return Wait(tokens, report) if tokens else report

    async def finish(self, client: AudienceClient, report: Report, deadline: float) -> Report:
        """Settle the run of *report*, and return the report of its end.

        Args:
            client: An open client.
            report: The report of the run before the wait.
            deadline: When the task gives up, in seconds since the epoch.
        """
        left = max(deadline - time.time(), _TO_SETTLE)
        async with self._engine() as engine:
            await engine.settle(client, self.audience, options=attrs.evolve(self.options, timeout=left))
            run = await engine.show(report["run"])
            if run.outcome is not RunOutcome.DONE:
                msg = f"run {run.run} ended as {run.outcome}. {run.error or 'Not all of it is APPLIED.'}"
                raise NotAppliedError(msg, audience=self.audience, run=run.run)
            return await self._checked(client, engine, _merge(report, run))

    # -- parts ----------------------------------------------------------------------------------------

    async def _open_tokens(self, client: AudienceClient) -> list[str]:
        """Return the newest tokens of the open run, as texts."""
        try:
            return _newest(await open_tokens(self.state, client, self.audience))
        except StateError as error:
            if error.reason == "missing":
                return []  # the first run
            raise

    async def _sync(self, client: AudienceClient, options: SyncOptions) -> Report:
        async with self._engine() as engine:
            if options.mode is Mode.ADOPT:
                return (await engine.adopt(client, self.audience, self.source(), options=options)).to_dict()
            return (await engine.sync(client, self.audience, self.source(), options=options)).to_dict()

    async def _create(self, client: AudienceClient) -> IndexingToken | None:
        """Create the audience if needed, once the guard allows the plan. Return the token to wait for."""
        if not self.options.create or not isinstance(client.target, Project):
            return None  # a create of 1.x has no token
        try:
            await client.view(self.audience)
        except AudienceNotFoundError:
            async with self._engine() as engine:
                plan = await engine.plan(client, self.audience, self.source())
            plan.enforce()
            return await client.create(
                self.audience, description=self.options.description, id_type=self.options.id_type
            )
        return None

    async def _checked(self, client: AudienceClient, engine: SyncEngine, report: Report) -> Report:
        """Compare Batch's count with the recorded one, as a run that waits does at its end."""
        deadline = time.monotonic() + self.options.drift_patience
        while True:
            seen = await engine.verify(client, self.audience)
            if abs(seen.drift) <= self.options.drift or time.monotonic() >= deadline:
                break
            await asyncio.sleep(_PAUSE)
        report = {**report, "counted": seen.counted}
        if abs(seen.drift) > self.options.drift:
            text = f"Batch counts {seen.counted:,} members, and the state records {seen.members:,}."
            if self.options.strict:
                raise DriftError(text, audience=self.audience, run=report["run"])
            report["warnings"] = [*report["warnings"], text]
        return report


def _newest(tokens: list[IndexingToken]) -> list[str]:
    return [str(token) for token in tokens[-MAX_TOKENS:]]


def _merge(report: Report, run: Run) -> Report:
    """Return a report with what the end of its run adds."""
    ended = {
        "outcome": str(run.outcome),
        "seconds": run.seconds if run.seconds is not None else report["seconds"],
        "members_after": run.members_after,
        "calls": run.calls,
        "retries": run.retries,
        "applied": run.applied,
        "refused": run.refused,
    }
    return {**report, **ended}
