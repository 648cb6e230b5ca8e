from __future__ import annotations

import random

import pytest

from aiobatch.options import Limits
from aiobatch.transport._circuit_breaker import Brownout


def _brownout(**limits: float) -> Brownout:
    return Brownout(Limits(pause_initial=1.0, pause_maximum=6.0, **limits), 64, random.Random(1))  # type: ignore[arg-type]  # floats fit


def test_pauses_double_up_to_the_maximum() -> None:
    """Each failed probe makes the next pause longer, with jitter below the bound."""
    brownout = _brownout()
    for bound in (1.0, 2.0, 4.0, 6.0, 6.0):
        brownout.fail(10.0, 503, None)
        assert 0.75 * bound <= brownout.until - 10.0 <= bound
    assert (brownout.failures, brownout.epoch) == (5, 1)


@pytest.mark.parametrize(("wish", "pause"), [(0.0, 0.05), (3.0, 3.0), (119.0, 119.0), (86_400.0, 120.0)])
def test_retry_after_is_obeyed_within_reason(wish: float, pause: float) -> None:
    """A day's wish is probed after two minutes, and no wish makes a busy loop."""
    brownout = _brownout()
    brownout.fail(0.0, 429, wish)
    assert brownout.until == pause


def test_a_success_ends_the_pause_and_reopens_the_window() -> None:
    """Two go after the probe, then one more for each success, up to the limit."""
    brownout = _brownout()
    brownout.fail(0.0, 503, None)
    brownout.fail(1.0, 503, None)
    assert brownout.seconds_paused(3.0) == 3.0
    assert brownout.succeed(4.0) == 4.0
    assert (brownout.window, brownout.failures, brownout.since) == (2, 0, None)
    for _ in range(100):
        assert brownout.succeed(5.0) is None
    assert brownout.window == 64
    brownout.fail(10.0, 503, None)
    assert brownout.seconds_paused(11.0) == 5.0


def test_a_broken_probe_keeps_the_reason() -> None:
    """When a probe brings no answer, the pause is still due to the status that began it."""
    brownout = _brownout()
    brownout.fail(0.0, 429, None)
    brownout.fail(0.0, 0, None)
    assert brownout.status == 429
