"""The time by which a sandbox indexes, in the hands of a test."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs


@attrs.define
class ServersTime:
    """Seconds that pass as they do elsewhere; while they are halted nothing is applied.

    Attributes:
        clock: Tells the seconds elsewhere.
    """

    clock: Callable[[], float] = time.monotonic
    _halted: float | None = attrs.field(default=None, init=False)
    _ahead: float = attrs.field(default=0.0, init=False)

    def __call__(self) -> float:
        """Return seconds."""
        return self._ahead + (self.clock() if self._halted is None else self._halted)

    def leap(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self._ahead += seconds

    def halt(self) -> None:
        """Let nothing be applied from now on."""
        self._halted = self.clock()

    def go_on(self) -> None:
        """Let everything be applied that is due by now, and go on."""
        self._halted = None
