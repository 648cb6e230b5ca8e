"""Runs that die at a chosen moment, as a killed process does: nothing is written or sent afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import attrs

from aiobatch import AudienceClient, Limits, PollingPolicy, RetryPolicy, SyncError
from aiobatch._http import Request, Response
from aiobatch.sandbox import Sandbox
from aiobatch.sync import State, StateThread, SyncOptions, SyncReport, fan_out, rollback_audience
from aiobatch.sync.state._lock import FileLock
from aiobatch.testing import FakeTransport

from ...contract.stage import answer_of
from ..sync_env import PROJECT

P = ParamSpec("P")
R = TypeVar("R")

# Many at once, so that their steps share transactions, and there are fewer moments to die at.
_MANY: dict[str, Any] = {
    "retry": RetryPolicy(initial=0.0005, maximum=0.001, attempts=30),
    "polling": PollingPolicy(minimum=0.0005, maximum=0.002, failure_maximum=0.002, poll_cost=0.01),
    "limits": Limits(uploads_in_flight=25, pause_initial=0.0005, pause_maximum=0.001),
}
# What a run does in the state's thread that changes nothing there.
_READS = frozenset({"build", "actions", "_write", "acquire"})


class KilledError(Exception):
    """The process is no more."""


@attrs.define
class Life:
    """Counts what is written, and ends at a chosen moment.

    Attributes:
        moments: Moments to live: there are two for each write, one before and one after it; None for ever.
        passed: Moments so far.
        dead: Whether it has ended.
    """

    moments: int | None = None
    passed: int = 0
    dead: bool = False

    def pass_moment(self) -> None:
        """Come to a moment; raise from the last one on."""
        self.dead = self.dead or self.passed == self.moments
        self.passed += 1
        self.check()

    def check(self) -> None:
        """Raise if it has ended."""
        if self.dead:
            raise KilledError


@attrs.define(eq=False)
class MortalThread(StateThread):
    """A state's thread that writes nothing once the process is dead."""

    life: Life = attrs.field(factory=Life)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function*, unless the process dies before; the kernel releases the locks of the dead."""
        if isinstance(getattr(function, "__self__", None), FileLock | State):
            return await super().run(function, *args, **kwargs)
        if getattr(function, "__name__", "") in _READS:
            self.life.check()
            return await super().run(function, *args, **kwargs)
        self.life.pass_moment()
        result = await super().run(function, *args, **kwargs)
        self.life.pass_moment()
        return result

    async def run_interruptible(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *function*, unless the process dies before."""
        self.life.pass_moment()
        result = await super().run_interruptible(function, *args, **kwargs)
        self.life.pass_moment()
        return result


def in_process(sandbox: Sandbox, life: Life) -> FakeTransport:
    """Return a transport to a sandbox that does not listen; the dead send nothing and hear nothing."""

    async def answer(request: Request) -> Response:
        life.check()
        await asyncio.sleep(0)
        response = answer_of(sandbox, request)
        await asyncio.sleep(0)
        life.check()
        return response

    return FakeTransport(answer)


@attrs.define
class Mortals:
    """Runs that share a sandbox and a state, one after the other.

    Attributes:
        sandbox: What they send to.
        state: The state file.
        options: How they sync.
    """

    sandbox: Sandbox
    state: Path
    options: SyncOptions

    async def sync(
        self, source: Iterable[str], *, moments: int | None = None, **options: Any
    ) -> SyncReport | Exception | None:
        """Sync; return the report or the error of a run that ended, None for one that was killed.

        Args:
            source: What is wanted.
            moments: Moments to live; None for ever.
            **options: What is other than in the options of all.
        """
        life = Life(moments)
        chosen = attrs.evolve(self.options, **options)
        try:
            async with self._opened(life) as (thread, client):
                (outcome,) = await fan_out(thread, [client], "vip", sorted(source), options=chosen)
        except KilledError:
            return None
        return None if isinstance(outcome, KilledError) else outcome

    async def roll_back(self, run: int) -> SyncReport | Exception:
        """Bring back the members after a run; return the report or the error.

        Args:
            run: The run's number.
        """
        transport = in_process(self.sandbox, Life())
        async with AudienceClient(PROJECT, transport=transport, **_MANY) as client:
            try:
                return await rollback_audience(client, "vip", run, state=self.state, options=self.options)
            except SyncError as error:
                return error

    @asynccontextmanager
    async def _opened(self, life: Life) -> AsyncIterator[tuple[MortalThread, AudienceClient]]:
        """Open the state and a client that die together."""
        thread = await MortalThread.open(self.state, what="test", memory_limit="200MB")
        thread.life = life
        transport = in_process(self.sandbox, life)
        try:
            async with AudienceClient(PROJECT, transport=transport, **_MANY) as client:
                yield thread, client
        finally:
            await thread.aclose()
