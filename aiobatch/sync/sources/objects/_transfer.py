"""Input and output of a store in the reading thread, until the run is stopped or nothing arrives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import attrs

from ....errors import SyncError
from ..._errors import SourceError
from .._object_stores import problem_of
from .._relation import ReadContext

_T = TypeVar("_T")
# Seconds between two looks at whether the run was stopped.
_TICK: Final = 0.1


@attrs.define(kw_only=True)
class Transfer:
    """Runs coroutines of a store, and converts their errors.

    Attributes:
        context: Stops the work, and limits the wait for the next bytes.
        scheme: The scheme of the store.
        shown: The name in errors of what is read now.
        last: When bytes arrived last.
    """

    context: ReadContext
    scheme: str
    shown: str
    last: float = attrs.field(factory=time.monotonic)

    @property
    def timeout(self) -> float:
        """The longest wait for the next bytes, in seconds."""
        return self.context.source.source_timeout

    def arrived(self) -> None:
        """Note that bytes arrived."""
        self.last = time.monotonic()
        self.context.interruptible.arrived()

    def run(self, work: Coroutine[Any, Any, _T], shown: str) -> _T:
        """Return the result of *work*. It is cancelled if the run is stopped.

        Args:
            work: The coroutine.
            shown: The name of what it reads, for errors.

        Raises:
            SourceError: It failed, or the store sent nothing for too long.
        """
        with asyncio.Runner() as runner:
            return self.run_in(runner, work, shown)

    def run_in(self, runner: asyncio.Runner, work: Coroutine[Any, Any, _T], shown: str) -> _T:
        """Return the same. What *work* opens stays open until the end of *runner*."""
        self.shown = shown
        self.arrived()
        try:
            return runner.run(self._watched(work))
        except Exception as exc:
            # A disk that is full is no fault of the store. It reports a missing object as Python does.
            own = type(exc).__module__.startswith("obstore") or isinstance(
                exc, FileNotFoundError | ValueError
            )
            if not own or isinstance(exc, SyncError):
                raise
            msg = problem_of(exc, self.scheme)
            raise SourceError(msg, location=self.shown) from None

    async def _watched(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait({task}, timeout=_TICK))[0]:
                self.context.interruptible.check()
                if time.monotonic() - self.last > self.timeout:
                    msg = f"nothing arrived for {self.timeout:g} seconds. Check the network, or wait longer"
                    raise SourceError(msg, location=self.shown)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})
