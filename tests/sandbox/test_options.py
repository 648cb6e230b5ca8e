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
        ({"indexing_delay": (3, 2)}, "the shortest delay 3 is longer"),
        ({"indexing_delay": (1, 2, 3)}, r"\(shortest, longest\)"),
        ({"faults": {"418": 0.1}}, "Fault '418' is unknown. The kinds of faults are 500, "),
        ({"faults": {"503": math.inf}}, "The probability of fault 503"),
        ({"faults": {"503": 0.6, "reset": 0.6}}, "at most 1, not to 1.2"),
        ({"rate": 0}, "rate must be above 0"),
        ({"rate": -1}, "rate in requests per second must be a finite number"),
        ({"slow_answer": math.inf}, "slow_answer in seconds"),
        ({"port": 65_536}, "port must be an integer from 0"),
        ({"port": "8080"}, "port must be an integer from 0"),
        ({"port": True}, "port must be an integer from 0"),
        ({"host": None}, "host must be a string such as '127.0.0.1', not None"),
        ({"host": ""}, "host must be a string such as '127.0.0.1', not empty"),
        ({"missing_audience": 410}, "missing_audience must be 404 or 400"),
        ({"taken_name": "409"}, "taken_name must be 400 or 409"),
        ({"unknown_project": True}, "unknown_project must be 401 or 403"),
        ({"delete_answer": "none"}, "delete_answer must be 'empty' or 'object' or 'nothing'"),
        ({"rate": 10**400}, "rate in requests per second must be a finite number"),
        ({"faults": "503=0.1"}, "faults must map kinds to probabilities, .*is str"),
        ({"faults": {5: 0.1}}, "Fault of type int is unknown. The kinds of faults are 500, "),
        ({"refused_ids": None}, "refused_ids must be an iterable of IDs, not one None"),
        ({"refused_ids": "u1"}, "refused_ids must be an iterable of IDs, not one str"),
    ],
)
def test_invalid_option_is_rejected(values: dict[str, Any], text: str) -> None:
    """The error names the option and the rule."""
    with pytest.raises(InvalidInputError, match=text):
        SandboxOptions(**values)


def test_options_copy_the_faults() -> None:
    """A later change of the caller's mapping has no effect."""
    faults = {"503": 0.5}
    options = SandboxOptions(faults=faults)
    faults["503"] = 5.0
    assert options.faults == {"503": 0.5}


@pytest.mark.parametrize("text", [None, 5, b"503=0.1"])
@pytest.mark.parametrize("parse", [parse_fault, parse_rate, parse_indexing_delay])
def test_parsers_accept_text_only(parse: Callable[[Any], object], text: Any) -> None:
    """The error names the value and its type."""
    with pytest.raises(InvalidInputError, match=r"^An? .* must be a string, not "):
        parse(text)


@pytest.mark.parametrize("options", [{"rate": 5}, "rate=5", SandboxOptions])
def test_sandbox_rejects_other_options(options: Any) -> None:
    """A mapping is not accepted in place of SandboxOptions."""
    with pytest.raises(InvalidInputError, match=r"options must be SandboxOptions\(…\), not "):
        Sandbox(options)


@given(kind=st.sampled_from(sorted(FAULT_KINDS)), probability=st.floats(0, 1))
def test_fault_is_parsed(kind: str, probability: float) -> None:
    """KIND=PROBABILITY gives the kind and the probability."""
    assert parse_fault(f"{kind}={probability}") == (kind, probability)


@pytest.mark.parametrize(
    "text", ["503", "", "=0.1", "teapot=0.1", "503=", "503=x", "503=-1", "503=1.5", "503=nan"]
)
def test_invalid_fault_is_rejected(text: str) -> None:
    """An invalid fault raises an error that names it."""
    with pytest.raises(InvalidInputError, match="fault"):
        parse_fault(text)


@pytest.mark.parametrize(("text", "rate"), [("5/s", 5), ("0.5/s", 0.5), ("7", 7)])
def test_rate_is_parsed(text: str, rate: float) -> None:
    """A rate is in requests per second, with or without /s."""
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/s", "5/m", "0/s", "-5/s", "inf", "fast"])
def test_invalid_rate_is_rejected(text: str) -> None:
    """An invalid rate raises an error that names it."""
    with pytest.raises(InvalidInputError, match="rate"):
        parse_rate(text)


@pytest.mark.parametrize(("text", "delay"), [("2", 2), ("0.5", 0.5), ("2-10", (2, 10)), ("0-0", (0, 0))])
def test_indexing_delay_is_parsed(text: str, delay: float | tuple[float, float]) -> None:
    """A delay is seconds or a range of seconds."""
    assert parse_indexing_delay(text) == delay


@pytest.mark.parametrize("text", ["", "-", "2-", "-2", "10-2", "soon", "1-2-3"])
def test_invalid_indexing_delay_is_rejected(text: str) -> None:
    """An invalid delay raises an error that names it."""
    with pytest.raises(InvalidInputError, match=r"indexing.delay"):
        parse_indexing_delay(text)
