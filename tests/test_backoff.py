from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch._backoff import jittered_delays

_POSITIVE = st.floats(1e-6, 1e6)


class TestJitteredDelays:
    """Delays between the attempts of a request."""

    @given(_POSITIVE, _POSITIVE, st.integers())
    def test_delays_stay_below_their_bounds(self, initial: float, maximum: float, seed: int) -> None:
        """Each delay is between 0 and its bound, which doubles from *initial* up to *maximum*."""
        delays = itertools.islice(jittered_delays(initial, maximum, random.Random(seed)), 60)
        for power, delay in enumerate(delays):
            assert 0 <= delay <= min(initial * 2.0**power, maximum)

    def test_jitter_is_full(self) -> None:
        """Delays are spread over the whole of their bounds."""
        delays = list(itertools.islice(jittered_delays(8, 8, random.Random(7)), 2000))
        assert min(delays) < 0.1
        assert max(delays) > 7.9
        assert sum(delays) / len(delays) == pytest.approx(4, rel=0.05)

    def test_seed_replays_the_delays(self) -> None:
        """One seed gives one sequence."""
        runs = [list(itertools.islice(jittered_delays(1, 20, random.Random(3)), 20)) for _ in range(2)]
        assert runs[0] == runs[1]

    def test_delays_never_end(self) -> None:
        """After ten thousand attempts there is still a next delay."""
        assert 0 <= next(itertools.islice(jittered_delays(0.5, 20, random.Random(1)), 10_000, None)) <= 20
