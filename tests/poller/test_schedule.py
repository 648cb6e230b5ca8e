from __future__ import annotations

import random

import pytest

from aiobatch._poller._schedule import Timing
from aiobatch.options import PollingPolicy

from .simulation import pending_token


@pytest.fixture
def timing() -> Timing:
    """A timing that was asked once for whom times have changed: before, it compares with nothing."""
    timing = Timing(PollingPolicy(), random.Random(1))
    assert timing.hastened() is not None
    return timing


def _learn(timing: Timing, *, applied: bool) -> None:
    """Let 100 tokens, pending at 10 s, be found either way at 12 s."""
    for _ in range(100):
        timing.looked(pending_token(seen=10.0), 12.0, applied=applied)
        if not applied:
            timing.saw_pending(pending_token(seen=10.0), 12.0)


def test_who_is_asked_about_sooner_is_named(timing: Timing) -> None:
    """Where tokens turn out to be applied, those of that age are looked at again, and no others; once."""
    _learn(timing, applied=False)
    assert timing.hastened() is None

    _learn(timing, applied=True)
    is_hastened = timing.hastened()

    assert is_hastened is not None
    assert is_hastened(pending_token(seen=10.0))
    assert not is_hastened(pending_token(seen=100.0))
    assert timing.hastened() is None


def test_tokens_of_unknown_age_are_asked_about_sooner(timing: Timing) -> None:
    """Where first looks begin to find tokens applied, the other first looks are brought forward."""
    first_look = pending_token()
    first_look.known_age = False
    for _ in range(20):
        timing.looked(first_look, 0.1, applied=False)
    assert timing.hastened() is None
    for _ in range(20):
        timing.looked(first_look, 0.1, applied=True)

    is_hastened = timing.hastened()

    assert is_hastened is not None
    assert is_hastened(first_look)
    assert not is_hastened(pending_token())


def test_a_token_is_due_when_nearly_all_of_its_time_has_passed(timing: Timing) -> None:
    """A twentieth of the time since the last look is not worth another one; more is."""
    pending = pending_token(seen=10.0)
    interval = timing.due(pending) - 10.0

    assert timing.is_due(pending, 10.0 + 0.96 * interval)
    assert not timing.is_due(pending, 10.0 + 0.94 * interval)


def test_the_delay_after_a_failure_is_kept(timing: Timing) -> None:
    """However long ago a token was seen, after a failed poll nothing is asked too early."""
    pending = pending_token(seen=10.0)
    timing.failed(pending, 300.0, "HTTP 503")

    assert not timing.is_due(pending, pending.not_before - 0.001)
    assert timing.is_due(pending, pending.not_before)
