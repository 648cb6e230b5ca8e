"""The profile scenario: the CPU time of one view by layer."""

from __future__ import annotations

from typing import Final

import attrs

from ..measure import view_profile
from ..measure.processes import run_in_subprocess, running_server
from ..results.rows import Row, make_row

_PARTS: Final = {
    "whole": "a view in total",
    "kernel": "the kernel: sockets",
    "edge": "aiohttp and the event loop, with aiobatch's adapter",
    "build": "building the request",
    "read": "reading the response",
    "pacing": "pacing",
    "retrying": "retrying",
    "handing": "view_many's workers",
    "plain": "for comparison: aiohttp and the event loop, with session.request",
    "poller": "for comparison: a token's wait in the poller, without its request",
    "row": "for comparison: reading a row of a list sweep",
}


@attrs.frozen(kw_only=True)
class Profile:
    """One view by layers.

    Attributes:
        views: The number of measured views.
        concurrency: The number of views at once.
    """

    rounds: int = 3
    views: int = 2_000
    concurrency: int = 50

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure microseconds of CPU."""
        with running_server() as url:
            measured = [
                run_in_subprocess(view_profile.view, url=url, views=self.views, concurrency=self.concurrency)
                for _ in range(rounds)
            ]
        return [
            make_row(name, f"{what}, µs of CPU", [measures[part] for measures in measured])
            for part, what in _PARTS.items()
        ]
