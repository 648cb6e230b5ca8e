"""Runs that crash at a chosen write, as a killed process does: nothing is written or sent afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs

from aiobatch import AudienceClient, Limits, PollingPolicy, RetryPolicy, SyncError
from aiobatch.interfaces import Request, Response
from aiobatch.sandbox import Sandbox
from aiobatch.sync import SyncEngine, SyncOptions, SyncReport
from aiobatch.sync.state._lock import FileLock
from aiobatch.sync.state._state import State
from aiobatch.sync.state._thread import StateThread
from aiobatch.testing import FakeTransport

from ...contract.stage import answer_of
from ..sync_env import PROJECT

P = ParamSpec("P")
R = TypeVar("R")

# With many requests in flight, transitions share transactions, and there are fewer writes to crash at.
_MANY: dict[str, Any] = {
    "retry": RetryPolicy(initial=0.0005, maximum=0.001, attempts=30),
    "polling": PollingPolicy(minimum=0.0005, maximum=0.002, failure_maximum=0.002, poll_cost=0.01),
    "limits": Limits(uploads_in_flight=25, pause_initial=0.0005, pause_maximum=0.001),
}
# Functions that a run calls in the state's thread and that write nothing to the state.
_READS = frozenset({"build", "actions", "_write_status", "acquire"})


class SimulatedCrashError(Exception):
    """The simulated process has crashed."""


@attrs.define
class CrashPoint:
    """Counts writes and crashes at a chosen one.

    Attributes:
        crash_at: The moment to crash at. None for never. Each write has two: before and after it.
        passed: Moments so far.
        crashed: Whether the process has crashed.
    """

    crash_at: int | None = None
    passed: int = 0
    crashed: bool = False

    def pass_moment(self) -> None:
        """Count a moment. Raise SimulatedCrashError at the chosen one and ever after."""
        self.crashed = self.crashed or self.passed == self.crash_at
        self.passed += 1
        self.check()

    def check(self) -> None:
        """Raise SimulatedCrashError if the process has crashed."""
        if self.crashed:
            raise SimulatedCrashError


@attrs.define(eq=False)
class CrashingThread(StateThread):
    """A state's thread that writes nothing after the crash."""

    crash_point: CrashPoint = attrs.field(factory=CrashPoint)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* unless the process crashes. Locks are released, as the kernel would."""
        if isinstance(getattr(function, "__self__", None), FileLock | State):
            return await super().run(function, *args, **kwargs)
        if getattr(function, "__name__", "") in _READS:
            self.crash_point.check()
            return await super().run(function, *args, **kwargs)
        self.crash_point.pass_moment()
        result = await super().run(function, *args, **kwargs)
        self.crash_point.pass_moment()
        return result

    async def run_interruptible(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function* unless the process crashes."""
        self.crash_point.pass_moment()
        result = await super().run_interruptible(function, *args, **kwargs)
        self.crash_point.pass_moment()
        return result


def crashing_transport(sandbox: Sandbox, crash_point: CrashPoint) -> FakeTransport:
    """Return a transport to a sandbox without a socket. It sends and receives nothing after the crash."""

    async def answer(request: Request) -> Response:
        crash_point.check()
        await asyncio.sleep(0)
        response = answer_of(sandbox, request)
        await asyncio.sleep(0)
        crash_point.check()
        return response

    return FakeTransport(answer)


@attrs.define
class CrashingRuns:
    """Runs that share a sandbox and a state, one after the other.

    Attributes:
        sandbox: The server.
        state: The state file.
        options: The options of all runs.
    """

    sandbox: Sandbox
    state: Path
    options: SyncOptions

    async def sync(
        self, source: Iterable[str], *, crash_at: int | None = None, **options: Any
    ) -> SyncReport | Exception | None:
        """Sync once. Return the report or the error, or None if the run crashed.

        Args:
            source: The wanted members.
            crash_at: The moment to crash at. None for never.
            **options: Options that differ from those of all runs.
        """
        chosen = attrs.evolve(self.options, **options)

        async def work(engine: SyncEngine, client: AudienceClient) -> SyncReport | Exception:
            (outcome,) = await engine.sync_many([client], "vip", sorted(source), options=chosen)
            return outcome

        return await self.run(work, crash_at=crash_at)

    async def run(
        self, work: Callable[[SyncEngine, AudienceClient], Awaitable[R]], *, crash_at: int | None = None
    ) -> R | Exception | None:
        """Call any operation of an engine. Return its result or the error, or None if it crashed.

        Args:
            work: Calls the operation.
            crash_at: The moment to crash at. None for never.
        """
        try:
            async with self._opened(CrashPoint(crash_at)) as (engine, client):
                outcome = await work(engine, client)
        except SimulatedCrashError:
            return None
        except SyncError as error:
            return error
        return None if isinstance(outcome, SimulatedCrashError) else outcome

    async def roll_back(self, run: int) -> SyncReport | Exception:
        """Restore the members after a run. Return the report or the error.

        Args:
            run: The run's number.
        """
        transport = crashing_transport(self.sandbox, CrashPoint())
        engine = SyncEngine(state=self.state, options=self.options)
        async with AudienceClient(PROJECT, transport=transport, **_MANY) as client, engine:
            try:
                return await engine.rollback(client, "vip", run)
            except SyncError as error:
                return error

    @asynccontextmanager
    async def _opened(self, crash_point: CrashPoint) -> AsyncIterator[tuple[SyncEngine, AudienceClient]]:
        """Open the state and a client that crash together."""
        thread = await CrashingThread.open(self.state, what="test", memory_limit="200MB")
        thread.crash_point = crash_point
        transport = crashing_transport(self.sandbox, crash_point)
        async with (
            AudienceClient(PROJECT, transport=transport, **_MANY) as client,
            SyncEngine(options=self.options) as engine,
        ):
            engine._thread = thread
            yield engine, client
