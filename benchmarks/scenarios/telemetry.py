"""The scenario of hooks for telemetry."""

from __future__ import annotations

from typing import Final

import attrs

from ..measure.processes import Measures, run_by_name_in_subprocess, running_server
from ..results.rows import Baseline, Row, Target, column, make_row

_PLAIN: Final = "no hook"
_HOOKS: Final = ("Prometheus", "OpenTelemetry, metrics", "OpenTelemetry, traces and metrics")
_TARGET: Final = Target(sign="<=", bound=1.05, of="ratio")


@attrs.frozen(kw_only=True)
class Telemetry:
    """Views with each hook, in alternation with views without a hook, in one process.

    Attributes:
        views: The number of views with each hook.
        blocks: The number of alternations.
        concurrency: The number of views at once.
        latency: Seconds before each response, as over a network.
    """

    rounds: int = 7
    views: int = 4_000
    blocks: int = 16
    concurrency: int = 50
    latency: float = 0.05

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds and the client's CPU, with responses over a network and at once."""
        distant, near = [], []
        with running_server() as url:
            for _ in range(rounds):
                distant.append(self._measure(url, self.latency))
                near.append(self._measure(url, 0))
        later = f"{self.views:,} views, answered after {1e3 * self.latency:g} ms"
        return [
            self._row(name, measured, hook, key, what, target)
            for measured, key, what, target in (
                (distant, "seconds", f"{later}, seconds", _TARGET),
                (near, "seconds", f"{self.views:,} views, answered at once, seconds", _TARGET),
                (near, "cpu", "the client's CPU, μs of a view", None),
            )
            for hook in _HOOKS
        ]

    def _measure(self, url: str, latency: float) -> Measures:
        return run_by_name_in_subprocess(
            "benchmarks.contenders.hooked_client",  # it needs extras that other scenarios do not
            "view_many",
            url=url,
            views=self.views,
            blocks=self.blocks,
            concurrency=self.concurrency,
            latency=latency,
        )

    def _row(
        self, name: str, measured: list[Measures], hook: str, key: str, what: str, target: Target | None
    ) -> Row:
        """Return the row of one hook beside no hook."""
        scale = 1e6 / self.views if key == "cpu" else 1.0
        values, plain = (
            [scale * value for value in column(measured, f"{one}: {key}")] for one in (hook, _PLAIN)
        )
        baseline = Baseline(name=_PLAIN, values=plain)
        return make_row(name, f"{what}: {hook}", values, baseline, target)
