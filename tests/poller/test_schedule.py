from __future__ import annotations

import random

import pytest

from aiobatch._poller._schedule import PollSchedule
from aiobatch.options import PollingPolicy

from .simulation import pending_token


@pytest.fixture
def schedule() -> PollSchedule:
    """A schedule that was asked once for whom times have changed: before, it compares with nothing."""
    schedule = PollSchedule(PollingPolicy(), random.Random(1))
    assert schedule.due_earlier() is not None
    return schedule


def _learn(schedule: PollSchedule, *, applied: bool) -> None:
    """Let 100 tokens, pending at 10 s, be found either way at 12 s."""
    for _ in range(100):
        schedule.record_state(pending_token(seen=10.0), 12.0, applied=applied)
        if not applied:
            schedule.record_pending(pending_token(seen=10.0), 12.0)


def test_who_is_asked_about_sooner_is_named(schedule: PollSchedule) -> None:
    """Where tokens turn out to be applied, those of that age are looked at again, and no others; once."""
    _learn(schedule, applied=False)
    assert schedule.due_earlier() is None

    _learn(schedule, applied=True)
    is_due_earlier = schedule.due_earlier()

    assert is_due_earlier is not None
    assert is_due_earlier(pending_token(seen=10.0))
    assert not is_due_earlier(pending_token(seen=100.0))
    assert schedule.due_earlier() is None


def test_tokens_of_unknown_age_are_asked_about_sooner(schedule: PollSchedule) -> None:
    """Where first looks begin to find tokens applied, the other first looks are brought forward."""
    first_poll = pending_token()
    first_poll.is_age_known = False
    for _ in range(20):
        schedule.record_state(first_poll, 0.1, applied=False)
    assert schedule.due_earlier() is None
    for _ in range(20):
        schedule.record_state(first_poll, 0.1, applied=True)

    is_due_earlier = schedule.due_earlier()

    assert is_due_earlier is not None
    assert is_due_earlier(first_poll)
    assert not is_due_earlier(pending_token())


def test_a_token_is_due_when_nearly_all_of_its_time_has_passed(schedule: PollSchedule) -> None:
    """A twentieth of the time since the last look is not worth another one; more is."""
    pending = pending_token(seen=10.0)
    interval = schedule.due(pending) - 10.0

    assert schedule.is_due(pending, 10.0 + 0.96 * interval)
    assert not schedule.is_due(pending, 10.0 + 0.94 * interval)


def test_the_delay_after_a_failure_is_kept(schedule: PollSchedule) -> None:
    """However long ago a token was seen, after a failed poll nothing is asked too early."""
    pending = pending_token(seen=10.0)
    schedule.record_failure(pending, 300.0, "HTTP 503")

    assert not schedule.is_due(pending, pending.not_before - 0.001)
    assert schedule.is_due(pending, pending.not_before)
