"""Delays between the attempts of a request.

Pure: randomness comes in as an argument, so that the delays can be replayed from its seed.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import backoff

__all__ = ["jittered_delays"]


def jittered_delays(initial: float, maximum: float, rng: random.Random) -> Iterator[float]:
    """Return delays with exponential growth and full jitter, without end.

    Full jitter (each delay uniform between 0 and its bound) spreads callers that failed together:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/.

    Args:
        initial: Bound of the first delay, seconds.
        maximum: Bound that no delay passes, seconds.
        rng: The source of randomness.
    """
    bounds = backoff.expo(base=2, factor=initial, max_value=maximum)
    next(bounds)  # the package's generators yield once before the first delay
    return map(functools.partial(rng.uniform, 0), bounds)
