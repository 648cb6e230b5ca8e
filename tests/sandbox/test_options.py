from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.errors import InvalidInputError
from aiobatch.sandbox import (
    FAULT_KINDS,
    Sandbox,
    SandboxOptions,
    parse_fault,
    parse_indexing_delay,
    parse_rate,
)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"indexing_delay": -1}, "indexing_delay in seconds must be a finite number"),
        ({"indexing_delay": math.nan}, "indexing_delay in seconds must be a finite number"),
        ({"indexing_delay": "2"}, "indexing_delay in seconds must be a finite number"),
        ({"indexing_delay": True}, "indexing_delay in seconds must be a finite number"),
        ({"indexing_delay": (3, 2)}, "must not end before it starts"),
        ({"indexing_delay": (1, 2, 3)}, r"\(shortest, longest\)"),
        ({"faults": {"418": 0.1}}, "there is no fault '418'; the kinds are 500, "),
        ({"faults": {"503": math.inf}}, "the probability of fault 503"),
        ({"faults": {"503": 0.6, "reset": 0.6}}, "together must not exceed 1, and these make 1.2"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": -1}, "rate in requests per second must be a finite number"),
        ({"slow_answer": math.inf}, "slow_answer in seconds"),
        ({"port": 65_536}, "port must be from 0"),
        ({"port": "8080"}, "port must be from 0"),
        ({"port": True}, "port must be from 0"),
        ({"host": None}, "host must be a string, such as '127.0.0.1', not None"),
        ({"rate": 10**400}, "rate in requests per second must be a finite number"),
        ({"faults": "503=0.1"}, "faults must be a mapping of kind to probability, .*not str"),
        ({"faults": {5: 0.1}}, "there is no fault of type int; the kinds are 500, "),
        ({"refused_ids": None}, "refused_ids must be an iterable of ids, not one None"),
        ({"refused_ids": "u1"}, "refused_ids must be an iterable of ids, not one str"),
    ],
)
def test_an_option_of_no_use_is_refused(values: dict[str, Any], text: str) -> None:
    """An error names the option and what it must be."""
    with pytest.raises(InvalidInputError, match=text):
        SandboxOptions(**values)


def test_options_are_a_copy() -> None:
    """Changing the mapping that was handed in changes nothing."""
    faults = {"503": 0.5}
    options = SandboxOptions(faults=faults)
    faults["503"] = 5.0
    assert options.faults == {"503": 0.5}


@pytest.mark.parametrize("text", [None, 5, b"503=0.1"])
@pytest.mark.parametrize("parse", [parse_fault, parse_rate, parse_indexing_delay])
def test_what_is_no_text_is_not_read(parse: Callable[[Any], object], text: Any) -> None:
    """An error names what is read, and from what."""
    with pytest.raises(InvalidInputError, match=r"^an? .* is read from a string, not from "):
        parse(text)


@pytest.mark.parametrize("options", [{"rate": 5}, "rate=5", SandboxOptions])
def test_a_sandbox_takes_its_options_as_such(options: Any) -> None:
    """A mapping of them is none."""
    with pytest.raises(InvalidInputError, match=r"options must be SandboxOptions\(…\), not "):
        Sandbox(options)


@given(kind=st.sampled_from(sorted(FAULT_KINDS)), probability=st.floats(0, 1))
def test_any_fault_can_be_written(kind: str, probability: float) -> None:
    """What is written KIND=PROBABILITY is read as it was meant."""
    assert parse_fault(f"{kind}={probability}") == (kind, probability)


@pytest.mark.parametrize(
    "text", ["503", "", "=0.1", "teapot=0.1", "503=", "503=x", "503=-1", "503=1.5", "503=nan"]
)
def test_a_fault_that_makes_no_sense_is_refused(text: str) -> None:
    """The command line gets a clear error."""
    with pytest.raises(InvalidInputError, match="fault"):
        parse_fault(text)


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5), ("0.5/s", 0.5), ("7", 7)])
def test_a_rate_is_read(text: str, rate: float) -> None:
    """A rate is in requests per second, with or without saying so."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "5/m", "0/s", "-5/s", "inf", "fast"])
def test_a_rate_that_makes_no_sense_is_refused(text: str) -> None:
    """The command line gets a clear error."""
    with pytest.raises(InvalidInputError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "delay"), [("2", 2), ("0.5", 0.5), ("2-10", (2, 10)), ("0-0", (0, 0))])
def test_an_indexing_delay_is_read(text: str, delay: float | tuple[float, float]) -> None:
    """A delay is seconds, or a range of them."""
    assert parse_indexing_delay(text) == delay


@pytest.mark.parametrize("text", ["", "-", "2-", "-2", "10-2", "soon", "1-2-3"])
def test_an_indexing_delay_that_makes_no_sense_is_refused(text: str) -> None:
    """The command line gets a clear error."""
    with pytest.raises(InvalidInputError, match=r"indexing.delay"):
        parse_indexing_delay(text)
