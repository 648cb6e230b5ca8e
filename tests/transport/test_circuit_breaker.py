from __future__ import annotations

import random

import pytest

from aiobatch.options import Limits
from aiobatch.transport._circuit_breaker import CircuitBreaker


def _breaker(**limits: float) -> CircuitBreaker:
    return CircuitBreaker(Limits(pause_initial=1.0, pause_maximum=6.0, **limits), 64, random.Random(1))  # type: ignore[arg-type]  # floats fit


def test_pauses_double_up_to_the_maximum() -> None:
    """Each failed probe doubles the next pause, with jitter below the bound."""
    breaker = _breaker()
    for bound in (1.0, 2.0, 4.0, 6.0, 6.0):
        breaker.on_failure(10.0, 503, None)
        assert 0.75 * bound <= breaker.paused_until - 10.0 <= bound
    assert (breaker.failures, breaker.generation) == (5, 1)


@pytest.mark.parametrize(("requested", "pause"), [(0.0, 0.05), (3.0, 3.0), (119.0, 119.0), (86_400.0, 120.0)])
def test_retry_after_is_obeyed_within_bounds(requested: float, pause: float) -> None:
    """The probe comes after 120 s at most and 50 ms at least."""
    breaker = _breaker()
    breaker.on_failure(0.0, 429, requested)
    assert breaker.paused_until == pause


def test_success_ends_the_pause_and_reopens_the_window() -> None:
    """Two requests go after the probe, then one more for each success, up to the limit."""
    breaker = _breaker()
    breaker.on_failure(0.0, 503, None)
    breaker.on_failure(1.0, 503, None)
    assert breaker.seconds_paused(3.0) == 3.0
    assert breaker.on_success(4.0) == 4.0
    assert (breaker.window, breaker.failures, breaker.paused_since) == (2, 0, None)
    for _ in range(100):
        assert breaker.on_success(5.0) is None
    assert breaker.window == 64
    breaker.on_failure(10.0, 503, None)
    assert breaker.seconds_paused(11.0) == 5.0


def test_probe_without_a_response_keeps_the_status() -> None:
    """The pause is still due to the status that started it."""
    breaker = _breaker()
    breaker.on_failure(0.0, 429, None)
    breaker.on_failure(0.0, 0, None)
    assert breaker.status == 429


def test_polls_probe_earlier_after_503() -> None:
    """They probe after half of the first pause, then after a quarter of the outage so far."""
    breaker = _breaker()
    breaker.on_failure(10.0, 503, None)
    assert 0.375 <= breaker.poll_at - 10.0 <= 0.5
    breaker.on_failure(14.0, 503, None)
    assert 0.75 <= breaker.poll_at - 14.0 <= 1.0
    assert breaker.poll_at < breaker.paused_until


def test_early_probe_lengthens_the_pause_for_polls_alone() -> None:
    """Other requests keep their time and their failures."""
    breaker = _breaker()
    assert breaker.on_failure(10.0, 503, None)
    until, early = breaker.paused_until, breaker.poll_at
    breaker.is_early = True
    assert not breaker.on_failure(early, 503, None)
    assert (breaker.paused_until, breaker.failures) == (until, 1)
    assert early < breaker.poll_at <= until
    breaker.is_early = True
    assert breaker.on_failure(breaker.poll_at, 503, 5.0)
    assert breaker.failures == 2


@pytest.mark.parametrize(("status", "retry_after"), [(429, None), (503, 3.0)])
def test_polls_probe_no_earlier_if_the_server_asks_to_wait(status: int, retry_after: float | None) -> None:
    """A 429 and `Retry-After` hold for polls too."""
    breaker = _breaker()
    breaker.on_failure(10.0, status, retry_after)
    assert breaker.poll_at == breaker.paused_until
    breaker.follow(10.0, 12.0, 503, 1)
    assert breaker.poll_at == 12.0
