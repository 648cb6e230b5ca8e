"""A clock for the sandbox that a test controls."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.define
class SandboxClock:
    """A clock that can jump and stop. While it is stopped, the sandbox applies nothing.

    Attributes:
        clock: the clock that it follows otherwise, in seconds.
    """

    clock: Callable[[], float] = time.monotonic
    _halted: float | None = attrs.field(default=None, init=False)
    _ahead: float = attrs.field(default=0.0, init=False)

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._ahead + (self.clock() if self._halted is None else self._halted)

    def leap(self, seconds: float) -> None:
        """Jump forward by *seconds*."""
        self._ahead += seconds

    def halt(self) -> None:
        """Stop the clock, so that nothing more is applied."""
        self._halted = self.clock()

    def go_on(self) -> None:
        """Start the clock again, so that everything that is due is applied."""
        self._halted = None
