"""Scenarios of the poller: many tokens, one token of many waiters, an outage."""

from __future__ import annotations

import attrs

from . import _ours, _rivals
from ._apart import Measures, run_apart, running_server
from ._control import Order
from ._table import Rival, Row, Target, make_row

_NAIVE = "a loop each, every 1 s"


@attrs.frozen(kw_only=True)
class Tokens:
    """Waits for tokens, beside one polling loop for each wait.

    Attributes:
        version: The API's.
        order: What the server does; the seed is the round's.
        waiters: Waits for each token.
        rows: What to show: a measure, its name, and what it has to reach.
    """

    rounds: int = 3
    version: str = "2.11"
    order: Order
    waiters: int = 1
    rows: tuple[tuple[str, str, Target | None], ...]

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure what the rows show; a rival that has lost all its waits has no lag."""
        ours: list[Measures] = []
        naive: list[Measures] = []
        with running_server() as url:
            for seed in range(rounds):
                order = attrs.asdict(attrs.evolve(self.order, seed=seed))
                common = {"url": url, "order": order, "version": self.version, "waiters": self.waiters}
                ours.append(run_apart(_ours.await_tokens, **common))
                naive.append(run_apart(_rivals.await_tokens, **common))
        return [
            make_row(name, what, _all(ours, key), _rival(naive, key), target)
            for key, what, target in self.rows
        ]


def _rival(rounds: list[Measures], key: str) -> Rival:
    """Name the rival's values."""
    return Rival(name=_NAIVE, values=_all(rounds, key))


def _all(rounds: list[Measures], key: str) -> list[float]:
    """Return one measure of every round; nothing unless every round has it."""
    values = [measures[key] for measures in rounds if key in measures]
    return values if len(values) == len(rounds) else []


def many_tokens(version: str, requests: float, lag: float) -> Tokens:
    """Return 2,000 tokens that are applied after 2 to 10 s.

    Args:
        version: The API's.
        requests: Requests a token at most.
        lag: Seconds of mean lag at most.
    """
    return Tokens(
        version=version,
        order=Order(tokens=2_000, indexing=(2, 10), latency=0.02),
        rows=(
            ("requests_a_token", "requests a token", Target(sign="<=", bound=requests)),
            ("lag_mean", "lag, mean, seconds", Target(sign="<=", bound=lag)),
            ("lag_p99", "lag, p99, seconds", None),
            ("late_p99", "event loop's lateness, p99, ms", Target(sign="<=", bound=10)),
            ("late_idle", "event loop's lateness before the run, p99, ms", None),
            ("late_max", "event loop's lateness, most, ms", None),
            ("cpu", "the client's CPU, seconds", None),
            ("peak", "requests/s, busiest 100 ms", None),
            ("lost", "waits lost", Target(sign="<=", bound=0)),
        ),
    )


def one_token() -> Tokens:
    """Return 200 waiters of one token."""
    return Tokens(
        order=Order(tokens=1, indexing=(6, 6), latency=0.02),
        waiters=200,
        rows=(
            ("requests", "requests", Target(sign="<=", bound=10)),
            ("lag_mean", "lag, mean, seconds", None),
            ("lost", "waits lost", Target(sign="<=", bound=0)),
        ),
    )


def outage() -> Tokens:
    """Return 200 tokens, and 2 s in the middle in which everything is answered by 503."""
    return Tokens(
        order=Order(tokens=200, indexing=(2, 10), latency=0.02, outage=(3, 5)),
        rows=(
            ("lost", "waits lost", Target(sign="<=", bound=0)),
            ("requests", "requests", None),
            ("lag_mean", "lag of the others, mean, seconds", None),
        ),
    )
