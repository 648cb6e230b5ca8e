"""Delays between the attempts of a request. The randomness is an argument, so that a seed replays them."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import backoff

__all__ = ["jittered_delays"]


def jittered_delays(initial: float, maximum: float, rng: random.Random) -> Iterator[float]:
    """Return endless delays with exponential growth and full jitter.

    Each delay is uniform between 0 and its bound, which spreads callers that failed together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Args:
        initial: Bound of the first delay, seconds.
        maximum: Bound of every delay, seconds.
        rng: The source of randomness.
    """
    bounds = backoff.expo(base=2, factor=initial, max_value=maximum)
    next(bounds)  # the package's generators yield None before the first delay
    return map(functools.partial(rng.uniform, 0), bounds)
