"""The peers' polling algorithms in virtual time, re-implemented from their code. Each wait is a loop.

Read in azure-core 1.41 (`AsyncLROPoller`), google-api-core 2.44 (`AsyncRetry`), algoliasearch 4.48
(`wait_for_task`), meilisearch-python-sdk 8.0 (`async_wait_for_task`), openai 3.54 (`poll`) and botocore 1.43
(`Waiter`). All poll at once. None knows the budget, so their requests queue for it.
"""

from __future__ import annotations

import functools
import heapq
import random
from collections.abc import Callable, Mapping, Sequence

from ..measure.processes import Measures
from .model import BudgetQueue, Load, Token, measure

# (polls so far, seconds since the start, the limit, random source) -> seconds to the next poll, None to stop.
Algorithm = Callable[[int, float, float, random.Random], float | None]


def _azure(_polls: int, _elapsed: float, _timeout: float, _rng: random.Random, *, interval: float) -> float:
    """Poll at an interval without limit."""
    return interval


def _google(polls: int, elapsed: float, timeout: float, rng: random.Random) -> float | None:
    """Draw from 0 to a bound that doubles from 1 to 60 s. Stop before a delay that exceeds the limit."""
    delay = rng.uniform(0, min(2.0 ** min(polls - 1, 6), 60.0))
    return delay if elapsed + delay <= timeout else None


def _algolia(polls: int, _elapsed: float, _timeout: float, _rng: random.Random) -> float | None:
    """Wait 0.2 s longer each time, up to 5 s, in whole seconds, a hundred times."""
    return float(int(min(0.2 * polls, 5))) if polls < 100 else None


def _meilisearch(_polls: int, elapsed: float, timeout: float, _rng: random.Random) -> float | None:
    """Poll every 50 ms."""
    return 0.05 if elapsed <= timeout else None


def _openai(_polls: int, _elapsed: float, _timeout: float, _rng: random.Random) -> float:
    """Poll every second without limit, if the server gives no hint."""
    return 1.0


def _aiobotocore(polls: int, _elapsed: float, _timeout: float, _rng: random.Random) -> float | None:
    """Poll every 15 s, forty times, as its most common waiter does."""
    return 15.0 if polls < 40 else None


PEERS: Mapping[str, Algorithm] = {
    "azure-core, 1 s": functools.partial(_azure, interval=1.0),
    "azure-core, 30 s": functools.partial(_azure, interval=30.0),
    "google-api-core": _google,
    "algoliasearch": _algolia,
    "meilisearch": _meilisearch,
    "openai": _openai,
    "aiobotocore": _aiobotocore,
}


def run_peer(algorithm: Algorithm, load: Load, tokens: Sequence[Token], seed: int) -> Measures:
    """Wait for all tokens with a loop for each."""
    line, rng = BudgetQueue(load), random.Random(f"client {seed}")
    told: list[float | None] = [None] * len(tokens)
    polls = [0] * len(tokens)
    wanted = [(token.born, number) for number, token in enumerate(tokens)]
    heapq.heapify(wanted)
    while wanted:
        now, number = heapq.heappop(wanted)
        token, answered = tokens[number], line.answered(now)
        polls[number] += 1
        if token.applied <= answered:
            told[number] = answered
            continue
        delay = algorithm(polls[number], answered - token.born, load.timeout, rng)
        if delay is not None:
            heapq.heappush(wanted, (answered + delay, number))
    return measure(tokens, told, line.sent)
