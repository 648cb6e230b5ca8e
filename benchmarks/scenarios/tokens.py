"""Waits side by side, of ours, of loops by hand and of the peers: many tokens, one token, an outage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import attrs

from ..contenders import ENTRANTS, OURS_1X, OURS_2X, Entrant
from ..measure.processes import Measures, running_server
from ..measure.server_control import Order
from ..results.board import Board, judge, make_line
from ..results.rows import Target

COLUMNS: Final[Mapping[str, str]] = {
    "requests_a_token": "requests a token",
    "lag_mean": "lag, mean, s",
    "lag_p99": "lag, p99, s",
    "late_p99": "loop late, p99, ms",
    "late_max": "loop late, most, ms",
    "cpu": "CPU, s",
    "lost": "waits lost",
    "peak": "requests/s, busiest 100 ms",
    "late_idle": "loop late before, p99, ms",
}


@attrs.frozen(kw_only=True)
class SideBySide:
    """Waits of everybody, one after the other, before the same server.

    Attributes:
        what: What they wait for.
        order: What the server does; the seed is the round's.
        waiters: Waits for each token.
        entrants: Who waits. Ours does so in every round, since it is judged; the others in the first one.
        targets: What is to be reached: by entrant, by measure.
    """

    rounds: int = 3
    what: str
    order: Order
    waiters: int = 1
    entrants: tuple[Entrant, ...] = ENTRANTS
    targets: Mapping[str, Mapping[str, Target]]

    def run(self, name: str, rounds: int) -> list[Board]:
        """Measure all that are installed."""
        left_out = [
            f"{entrant.name}: skipped, not installed: pip install '{entrant.requirement}'"
            for entrant in self.entrants
            if not entrant.is_installed()
        ]
        measured: dict[str, list[Measures]] = {
            entrant.name: [] for entrant in self.entrants if entrant.is_installed()
        }
        with running_server() as url:
            for seed in range(rounds):
                for entrant in self.entrants:
                    if entrant.name in measured and (entrant.is_ours or not seed):
                        print(f"  {entrant.name}", file=sys.stderr)
                        measured[entrant.name] += self._measure(entrant, url, seed, left_out)
        return [self._board(name, measured, left_out)]

    def _measure(self, entrant: Entrant, url: str, seed: int, left_out: list[str]) -> list[Measures]:
        """Let one wait; a peer that cannot be run leaves the others their table."""
        order = attrs.asdict(attrs.evolve(self.order, seed=seed))
        try:
            return [entrant.run(url=url, order=order, waiters=self.waiters)]
        except subprocess.CalledProcessError:
            if entrant.is_ours:
                raise
            left_out.append(f"{entrant.name}: failed; standard error has its traceback")
            return []

    def _board(self, name: str, measured: Mapping[str, list[Measures]], left_out: list[str]) -> Board:
        lines = [make_line(who, rounds, tuple(COLUMNS)) for who, rounds in measured.items() if rounds]
        judged = [
            row for line in lines for row in judge(name, line, COLUMNS, self.targets.get(line.name, {}))
        ]
        return Board(
            scenario=name,
            what=self.what,
            columns=tuple(COLUMNS.values()),
            lines=tuple(lines),
            left_out=tuple(left_out),
            judged=tuple(judged),
        )


def tokens(targets_2x: Mapping[str, float], targets_1x: Mapping[str, float]) -> SideBySide:
    """Return 2,000 tokens that are applied after 2 to 10 s.

    Args:
        targets_2x: The most that each measure of ours may be, over 2.x.
        targets_1x: The same, over 1.x.
    """
    return SideBySide(
        what="2,000 tokens, applied after 2 to 10 s, 20 ms of latency",
        order=Order(tokens=2_000, indexing=(2, 10), latency=0.02),
        targets={OURS_2X: _at_most(targets_2x), OURS_1X: _at_most(targets_1x)},
    )


def one_token(requests: float) -> SideBySide:
    """Return 200 waiters of one token.

    Args:
        requests: The most requests that ours may make for it.
    """
    targets = _at_most({"requests_a_token": requests})
    return SideBySide(
        what="200 waiters of one token, applied after 6 s, 20 ms of latency",
        order=Order(tokens=1, indexing=(6, 6), latency=0.02),
        waiters=200,
        targets={OURS_2X: targets, OURS_1X: targets},
    )


def outage() -> SideBySide:
    """Return 200 tokens, and 2 s in the middle in which everything is answered by 503."""
    return SideBySide(
        what="200 tokens, applied after 2 to 10 s, through 2 s of 503, 20 ms of latency",
        order=Order(tokens=200, indexing=(2, 10), latency=0.02, outage=(3, 5)),
        targets={OURS_2X: _at_most({}), OURS_1X: _at_most({})},
    )


def ours_alone(scenario: SideBySide, name: str) -> SideBySide:
    """Return the same with nobody beside it, for a quick look.

    Args:
        scenario: With everybody.
        name: Who stays.
    """
    return attrs.evolve(
        scenario, entrants=tuple(entrant for entrant in scenario.entrants if entrant.name == name)
    )


def _at_most(bounds: Mapping[str, float]) -> dict[str, Target]:
    """Bound measures from above; no wait may ever be lost."""
    return {key: Target(sign="<=", bound=bound) for key, bound in {**bounds, "lost": 0.0}.items()}
