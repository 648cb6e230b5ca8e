"""The scenario that profiles: where the CPU of one view goes."""

from __future__ import annotations

from typing import Final

import attrs

from ..measure import view_profile as _profile
from ..measure.processes import run_apart, running_server
from ..results.rows import Row, make_row

_PARTS: Final = {
    "whole": "a view, in all",
    "kernel": "the kernel: sockets",
    "edge": "aiohttp and the event loop, with our edge",
    "build": "making the request",
    "read": "reading the answer",
    "pacing": "pacing",
    "retrying": "retrying",
    "handing": "view_many handing out",
    "plain": "beside this: aiohttp and the event loop, by session.request",
    "poller": "beside this: a token's wait in the poller, without its request",
    "row": "beside this: reading a row of a list sweep",
}


@attrs.frozen(kw_only=True)
class Profile:
    """One view, taken apart.

    Attributes:
        views: How many are counted.
        concurrency: Views at once.
    """

    rounds: int = 3
    views: int = 2_000
    concurrency: int = 50

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure microseconds of CPU."""
        with running_server() as url:
            measured = [
                run_apart(_profile.view, url=url, views=self.views, concurrency=self.concurrency)
                for _ in range(rounds)
            ]
        return [
            make_row(name, f"{what}, µs of CPU", [measures[part] for measures in measured])
            for part, what in _PARTS.items()
        ]
