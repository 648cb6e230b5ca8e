from __future__ import annotations

import decimal
import fractions
import math
from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest

from aiobatch.errors import InvalidInputError
from aiobatch.options import (
    Limits,
    PollingPolicy,
    RetryPolicy,
    check_timeout,
)


class _NumberLike:
    """An object that converts to a float without being a number."""

    def __float__(self) -> float:
        return 5.0

    def __le__(self, other: object) -> bool:
        return False


NO_NUMBERS: dict[str, object] = {
    "text": "5",
    "empty": "",
    "bytes": b"5",
    "true": True,
    "false": False,
    "list": [5],
    "number-like": _NumberLike(),
    "decimal": decimal.Decimal(5),
    "fraction": fractions.Fraction(5),
    "complex": 1j,
    "class": object,
}
NOT_FINITE: dict[str, object] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "huge": 10**400,
    "-huge": -(10**5000),
}
NO_COUNTS: dict[str, object] = NO_NUMBERS | NOT_FINITE | {"zero": 0, "negative": -1, "one": 1.0, "none": None}
del NO_COUNTS["huge"]  # an integer, if an odd one


def _each(cases: dict[str, object]) -> pytest.MarkDecorator:
    """Parametrize a test by value."""
    return pytest.mark.parametrize("value", cases.values(), ids=cases.keys())


_ABOVE_ZERO = [
    *(
        (RetryPolicy, name)
        for name in ("timeout", "request_timeout", "connect_timeout", "initial", "maximum")
    ),
    *(
        (PollingPolicy, name)
        for name in ("timeout", "poll_cost", "minimum", "maximum", "failure_maximum", "rate")
    ),
    *((Limits, name) for name in ("rate", "pause_initial", "pause_maximum", "retry_after_max")),
]
_WHOLE = [
    (RetryPolicy, "attempts"),
    (RetryPolicy, "budget"),
    (PollingPolicy, "in_flight"),
    *((Limits, name) for name in ("in_flight", "uploads_in_flight", "response_bytes")),
]
_OTHERS: list[tuple[Callable[..., object], str]] = [
    (RetryPolicy, "retry_after_max"),
    (PollingPolicy, "jitter"),
]
_SWITCHES: list[tuple[Callable[..., object], str]] = [
    (RetryPolicy, "fail_when_paused"),
    (Limits, "company_wide"),
]


def _option(option: tuple[Callable[..., object], str], value: object) -> object:
    """Create a policy with one option and return its value."""
    cls, name = option
    return getattr(cls(**{name: value}), name)


def _place(option: tuple[Any, str]) -> str:
    return f"{option[0].__name__}.{option[1]}"


def test_every_option_is_tested() -> None:
    """The lists above contain every option of every policy."""
    fields = {
        (cls, field.name) for cls in (RetryPolicy, PollingPolicy, Limits) for field in attrs.fields(cls)
    }
    # tests/transport/sharing/test_scope.py tests the other one.
    assert {*_ABOVE_ZERO, *_WHOLE, *_OTHERS, *_SWITCHES, (Limits, "shared")} == fields


@pytest.mark.parametrize("policy", [RetryPolicy, PollingPolicy, Limits])
def test_defaults_are_valid_and_documented(policy: type[attrs.AttrsInstance]) -> None:
    """A policy without arguments is valid, frozen, and its docstring names every option."""
    made = policy()
    assert made == policy()
    assert all(f"    {field.name}: " in (policy.__doc__ or "") for field in attrs.fields(policy))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.anything = 1  # type: ignore[attr-defined]  # that it fails is the rule


@pytest.mark.parametrize("option", [*_ABOVE_ZERO, *_OTHERS], ids=_place)
class TestNumbers:
    """Options that are numbers."""

    @_each(NO_NUMBERS)
    def test_type_must_be_a_number(self, option: tuple[Any, str], value: object) -> None:
        """Strings, booleans and objects that resemble a number are rejected."""
        with pytest.raises(InvalidInputError) as caught:
            _option(option, value)
        assert str(caught.value) == f"{_place(option)} must be a number, not {type(value).__name__}."

    @_each(NOT_FINITE)
    def test_number_must_be_finite(self, option: tuple[Any, str], value: object) -> None:
        """NaN, infinities and integers beyond any float are rejected."""
        with pytest.raises(InvalidInputError) as caught:
            _option(option, value)
        assert str(caught.value) == f"{_place(option)} must be a finite number."

    def test_number_must_not_be_negative(self, option: tuple[Any, str]) -> None:
        """No option is negative."""
        with pytest.raises(InvalidInputError, match=rf"^{_place(option)} must .*, not -1\.$"):
            _option(option, -1)

    @pytest.mark.parametrize("value", [1, 0.5])
    def test_valid_values(self, option: tuple[Any, str], value: float) -> None:
        """Integers and floats are numbers."""
        assert _option(option, value) == value


@pytest.mark.parametrize("option", _ABOVE_ZERO, ids=_place)
def test_zero_is_rejected(option: tuple[Any, str]) -> None:
    """Times, costs and rates are above zero."""
    with pytest.raises(InvalidInputError, match=rf"^{_place(option)} must be above 0, not 0\.$"):
        _option(option, 0)


def test_zero_may_switch_off() -> None:
    """Zero switches off `Retry-After` and jitter."""
    assert RetryPolicy(retry_after_max=0).retry_after_max == PollingPolicy(jitter=0).jitter == 0


def test_jitter_is_a_share() -> None:
    """Jitter is a share of the interval, 0 to 1."""
    assert PollingPolicy(jitter=1).jitter == 1
    with pytest.raises(InvalidInputError, match=r"^PollingPolicy\.jitter must be from 0 to 1, not 1\.5\.$"):
        PollingPolicy(jitter=1.5)


@pytest.mark.parametrize("option", [(PollingPolicy, "timeout"), (Limits, "rate")], ids=_place)
def test_none_is_no_limit(option: tuple[Any, str]) -> None:
    """None means no limit where that is possible."""
    assert _option(option, None) is None


@pytest.mark.parametrize("option", [o for o in _ABOVE_ZERO if o[1] in {"minimum", "initial"}], ids=_place)
def test_none_is_rejected_elsewhere(option: tuple[Any, str]) -> None:
    """Other options reject None."""
    with pytest.raises(InvalidInputError, match="must be a number, not NoneType"):
        _option(option, None)


@pytest.mark.parametrize("option", _WHOLE, ids=_place)
@_each(NO_COUNTS)
def test_counts_are_ints_of_at_least_one(option: tuple[Any, str], value: object) -> None:
    """Counts are integers of at least 1."""
    with pytest.raises(InvalidInputError) as caught:
        _option(option, value)
    assert str(caught.value) == f"{_place(option)} must be an int of at least 1."
    assert _option(option, 1) == 1


class TestTimeout:
    """The timeout of one call."""

    @pytest.mark.parametrize("value", [None, 1, 0.001, 1e300])
    def test_valid(self, value: float | None) -> None:
        """A timeout is above zero, or None for no limit."""
        assert check_timeout(value) == value

    @pytest.mark.parametrize("value", [0, -1, -0.0, -1e-9])
    def test_timeout_of_zero_is_rejected(self, value: float) -> None:
        """Zero does not mean no limit."""
        with pytest.raises(
            InvalidInputError, match=r"^timeout must be above 0 seconds, not .*\. None means no limit\.$"
        ):
            check_timeout(value)

    @_each(NO_NUMBERS | NOT_FINITE)
    def test_no_number(self, value: object) -> None:
        """The message contains the argument's name."""
        with pytest.raises(InvalidInputError, match=r"^patience must be a (finite )?number"):
            check_timeout(cast("float", value), "patience")


@pytest.mark.parametrize("value", [None, 0, 1, "yes", []], ids=repr)
def test_switch_must_be_a_boolean(value: Any) -> None:
    """A value that is only truthy is rejected."""
    with pytest.raises(InvalidInputError, match="fail_when_paused must be of type bool"):
        RetryPolicy(fail_when_paused=value)
    assert RetryPolicy(fail_when_paused=True).fail_when_paused
