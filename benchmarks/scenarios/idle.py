"""The scenario of open waits that have nothing to do."""

from __future__ import annotations

import attrs

from ..contenders import idle_waits
from ..measure.processes import run_in_subprocess
from ..results.rows import Row, Target, make_rows


@attrs.frozen(kw_only=True)
class IdleWaits:
    """Open waits while no poll is due.

    Attributes:
        waits: The numbers of waits.
        seconds: The duration of each measurement.
    """

    rounds: int = 5
    waits: tuple[int, ...] = (10_000, 100_000)
    seconds: float = 5.0

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure CPU and memory."""
        return [row for waits in self.waits for row in self._measure(name, rounds, waits)]

    def _measure(self, name: str, rounds: int, waits: int) -> list[Row]:
        measured = [
            run_in_subprocess(idle_waits.hold, waits=waits, seconds=self.seconds) for _ in range(rounds)
        ]
        rows = [
            ("share", f"{waits:,} open waits, nothing due: share of a core, %", Target(sign="<=", bound=1)),
            ("bytes", f"{waits:,} open waits: bytes of a wait", Target(sign="<=", bound=3_000)),
        ]
        return make_rows(name, measured, rows)
