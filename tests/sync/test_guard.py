from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError, SyncError
from aiobatch.sync._errors import GuardError
from aiobatch.sync._guard import GuardDecision, GuardPolicy, Overrides, enforce, evaluate

COUNTS = st.integers(0, 10**9)


def test_empty_source_is_refused() -> None:
    """The refusal contains the option that allows it."""
    decision = evaluate(GuardPolicy(), Overrides(), staged=0, removals=0, members=5)
    assert decision == GuardDecision(
        reasons=("the source is empty",), options={"allow_empty": True}, members=5
    )


def test_allow_empty_allows_no_removals() -> None:
    """`allow_empty` allows an empty source, but not the removals that it causes."""
    allowed = Overrides(allow_empty=True)
    assert evaluate(GuardPolicy(), allowed, staged=0, removals=50, members=50).allowed
    decision = evaluate(GuardPolicy(), allowed, staged=0, removals=500, members=500)
    assert decision.options == {"allow_removals": 500}


def test_plan_without_a_source_is_not_empty() -> None:
    """A rollback is decided by its removals alone."""
    assert evaluate(GuardPolicy(), Overrides(), staged=None, removals=1, members=1000).allowed


@pytest.mark.parametrize(("removals", "allowed"), [(300, True), (301, False)])
def test_more_than_the_percentage_is_refused(removals: int, allowed: bool) -> None:
    """30 per cent may be removed, one member more may not."""
    decision = evaluate(GuardPolicy(), Overrides(), staged=1, removals=removals, members=1000)
    assert decision.allowed is allowed


def test_refusal_text_contains_the_numbers() -> None:
    """The text of a refusal holds the removals, the members and the limit."""
    decision = evaluate(GuardPolicy(), Overrides(), staged=1, removals=120_000, members=200_000)
    assert str(decision) == "refused: 120,000 removals are 60.0 % of 200,000 members, above the limit of 30 %"
    assert str(GuardDecision()) == "allowed"


@pytest.mark.parametrize(("members", "allowed"), [(99, True), (100, False)])
def test_small_audiences_are_exempt_from_the_percentage(members: int, allowed: bool) -> None:
    """All of fewer than 100 members may be removed. A configured number still limits them."""
    assert evaluate(GuardPolicy(), Overrides(), staged=1, removals=99, members=members).allowed is allowed
    assert not evaluate(
        GuardPolicy(max_removals=10), Overrides(), staged=1, removals=11, members=members
    ).allowed


def test_configured_number_limits_removals() -> None:
    """More removals than the configured number are refused, whatever their share is."""
    policy = GuardPolicy(max_removals=1000, max_removals_percent=None)
    assert evaluate(policy, Overrides(), staged=1, removals=1000, members=1000).allowed
    decision = evaluate(policy, Overrides(), staged=1, removals=1001, members=10**6)
    assert decision.reasons == ("1,001 removals are more than the limit of 1,000",)


def test_override_allows_up_to_its_number() -> None:
    """An override allows its number of removals and no more."""
    allowed = Overrides(allow_removals=120_000)
    assert evaluate(GuardPolicy(max_removals=1), allowed, staged=1, removals=120_000, members=120_000).allowed
    decision = evaluate(GuardPolicy(), allowed, staged=1, removals=120_001, members=10**9)
    assert decision.reasons == ("120,001 removals are more than the 120,000 that this run allows",)
    assert decision.options == {"allow_removals": 120001}


@given(staged=COUNTS, removals=COUNTS, members=COUNTS)
def test_the_named_options_always_allow_the_plan(staged: int, removals: int, members: int) -> None:
    """A refused plan is allowed with the options that the refusal names."""
    options: Mapping[str, Any] = evaluate(
        GuardPolicy(max_removals=1000), Overrides(), staged=staged, removals=removals, members=members
    ).options
    overrides = Overrides(**options)
    assert evaluate(
        GuardPolicy(max_removals=1000), overrides, staged=staged, removals=removals, members=members
    ).allowed


@pytest.mark.parametrize("value", [-1, 101, float("nan")])
def test_percentage_must_be_0_to_100(value: float) -> None:
    """Other values are refused."""
    with pytest.raises(InvalidInputError, match="max_removals_percent"):
        GuardPolicy(max_removals_percent=value)


@pytest.mark.parametrize("value", [-1, 1.5, True])
def test_number_of_removals_must_be_a_whole_number(value: int) -> None:
    """It must be at least 0."""
    with pytest.raises(InvalidInputError, match="max_removals"):
        GuardPolicy(max_removals=value)
    with pytest.raises(InvalidInputError, match="allow_removals"):
        Overrides(allow_removals=value)


def test_enforce_raises_a_refusal() -> None:
    """The error contains the numbers and options, and it pickles. An allowed plan passes."""
    enforce(GuardDecision(), audience="vip")
    decision = evaluate(GuardPolicy(), Overrides(), staged=0, removals=500, members=500)
    with pytest.raises(
        GuardError, match=r"'vip': the guard refused.*Overrides\(allow_empty=True, allow_removals=500\)"
    ) as info:
        enforce(decision, audience="vip")
    assert (info.value.removals, info.value.members) == (500, 500)
    copy = pickle.loads(pickle.dumps(info.value))  # noqa: S301  # our own
    assert isinstance(copy, SyncError)
    assert vars(copy) == vars(info.value)
