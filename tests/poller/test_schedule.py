from __future__ import annotations

import math
import random

import pytest

from aiobatch._poller._schedule import PollSchedule
from aiobatch.errors import ServerError
from aiobatch.options import PollingPolicy

from .simulation import pending_token


@pytest.fixture
def schedule() -> PollSchedule:
    """A schedule that has its intervals to compare with."""
    schedule = PollSchedule(PollingPolicy(), random.Random(1))
    assert schedule.due_earlier() is not None
    return schedule


def _learn(schedule: PollSchedule, *, applied: bool) -> None:
    """Record that 100 tokens, pending at 10 s, were applied or pending at 12 s."""
    for _ in range(100):
        schedule.record_state(pending_token(seen=10.0), 12.0, applied=applied)
        if not applied:
            schedule.record_pending(pending_token(seen=10.0), 12.0)


def test_tokens_due_earlier_are_selected_once(schedule: PollSchedule) -> None:
    """If tokens of an age are applied, the others of that age are due earlier. It is reported once."""
    _learn(schedule, applied=False)
    assert schedule.due_earlier() is None

    _learn(schedule, applied=True)
    is_due_earlier = schedule.due_earlier()

    assert is_due_earlier is not None
    assert is_due_earlier(pending_token(seen=10.0))
    assert not is_due_earlier(pending_token(seen=100.0))
    assert schedule.due_earlier() is None


def test_first_polls_that_find_applied_make_the_others_due_earlier(schedule: PollSchedule) -> None:
    """If first polls start to find applied tokens, other first polls are due earlier."""
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


def test_token_is_due_when_95_percent_of_its_interval_has_passed(schedule: PollSchedule) -> None:
    """A token is polled a twentieth of its interval early, but not more."""
    pending = pending_token(seen=10.0)
    interval = schedule.due(pending) - 10.0

    assert schedule.is_due(pending, 10.0 + 0.96 * interval)
    assert not schedule.is_due(pending, 10.0 + 0.94 * interval)


def test_delay_after_a_failure_is_kept(schedule: PollSchedule) -> None:
    """After a failed poll the next one is never early."""
    pending = pending_token(seen=10.0)
    schedule.record_failure(pending, 300.0, ServerError("down", status=503, method="GET", path="/"))

    assert not schedule.is_due(pending, pending.not_before - 0.001)
    assert schedule.is_due(pending, pending.not_before)


def test_expected_lag_grows_and_is_infinite_after_the_longest_interval(schedule: PollSchedule) -> None:
    """A token that was not observed for longer than the policy allows must be observed now."""
    sample = [pending_token(seen=1.0), pending_token(seen=2.0)]

    assert 0 < schedule.expected_lag(sample, 3.0) < schedule.expected_lag(sample, 5.0) < math.inf
    assert schedule.expected_lag(sample, 16.5) == math.inf
