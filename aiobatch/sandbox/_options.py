"""What a sandbox can be told, and how the command line spells it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from ..errors import InvalidInputError

#: The only REST API key that the sandbox knows: the secret of an imaginary company.
REST_API_KEY: Final = "sandbox-rest-api-key"
#: The API key of the company's first app, in the path of the 1.x APIs.
API_KEY: Final = "sandbox-api-key"
#: The API key of its second app, which has audiences of its own.
API_KEY_ANDROID: Final = "sandbox-api-key-android"
#: The project key of the 2.x API.
PROJECT_KEY: Final = "sandbox-project-key"

#: Every kind of fault, and what a client sees of it.
FAULT_KINDS: Final[Mapping[str, str]] = {
    "500": "SERVER_ERROR, not processed",
    "502": "an empty 502, not processed",
    "503": "MAINTENANCE_ERROR, not processed",
    "504": "an empty 504, not processed",
    "429": "too many requests, with Retry-After, not processed",
    "429-bare": "too many requests, without Retry-After, not processed",
    "html": "a proxy's 502 page, not processed",
    "reset": "the connection is reset, not processed",
    "html200": "processed, and answered by a page of HTML with status 200",
    "truncated": "processed, and the answer breaks off in the middle",
    "lost": "processed, and the connection is dropped before the answer",
    "slow": "processed, and answered late",
}


_LAST_PORT = 65_535


def _kind(value: object) -> str:
    """Name the type of a value for an error."""
    return "None" if value is None else type(value).__name__


def _check_text(text: object, form: str) -> str:
    """Return an argument as it is spelt, which must be a string."""
    if not isinstance(text, str):
        msg = f"{form} is read from a string, not from {_kind(text)}"
        raise InvalidInputError(msg)
    return text


def check_seconds(seconds: object, place: str) -> float:
    """Return how long something is to last."""
    return _finite(seconds, f"{place} in seconds")


def _finite(value: Any, what: str) -> float:
    """Return a number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        msg = f"{what} must be a finite number of at least 0"
        raise InvalidInputError(msg)
    return value


def check_fault_kind(kind: str) -> str:
    """Return the kind of a fault if there is such a kind."""
    if not isinstance(kind, str) or kind not in FAULT_KINDS:
        shown = repr(kind) if isinstance(kind, str) else f"of type {type(kind).__name__}"
        msg = f"there is no fault {shown}; the kinds are {', '.join(FAULT_KINDS)}"
        raise InvalidInputError(msg)
    return kind


def _copy(faults: Mapping[str, float]) -> Mapping[str, float]:
    """Part from the caller's mapping."""
    if not isinstance(faults, Mapping):
        msg = f"faults must be a mapping of kind to probability, such as {{'503': 0.1}}, not {_kind(faults)}"
        raise InvalidInputError(msg)
    return dict(faults)


def _check_delay(_: object, __: object, value: float | tuple[float, float]) -> None:
    """Take a fixed delay, or a range that is not upside down."""
    bounds = value if isinstance(value, tuple) else (value, value)
    if len(bounds) != 2:  # noqa: PLR2004 - a range has two ends
        msg = "indexing_delay as a tuple must be (shortest, longest)"
        raise InvalidInputError(msg)
    shortest, longest = (_finite(bound, "indexing_delay in seconds") for bound in bounds)
    if shortest > longest:
        msg = f"indexing_delay must not end before it starts: {shortest} > {longest}"
        raise InvalidInputError(msg)


def _check_faults(_: object, __: object, value: Mapping[str, float]) -> None:
    """Take known kinds whose probabilities leave room for each other."""
    for kind, probability in value.items():
        _finite(probability, f"the probability of fault {check_fault_kind(kind)}")
    if (total := sum(value.values())) > 1:
        msg = f"the probabilities of all faults together must not exceed 1, and these make {total:g}"
        raise InvalidInputError(msg)


def _check_rate(_: object, __: object, value: float | None) -> None:
    """Take a positive rate or none."""
    if value is not None and _finite(value, "rate in requests per second") == 0:
        msg = "rate must be above 0 requests per second; leave it out for no limit"
        raise InvalidInputError(msg)


def check_ids(ids: Iterable[str], place: str) -> list[str]:
    """Return the ids that stand in *place* as a list; a bare string is a mistake."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        msg = f"{place} must be an iterable of ids, not one {_kind(ids)}"
        raise InvalidInputError(msg)
    return list(ids)


def _to_ids(ids: Iterable[str]) -> frozenset[str]:
    """Part from the caller's ids; a bare string is a mistake."""
    return frozenset(check_ids(ids, "refused_ids"))


def _check_slow_answer(_: object, __: object, value: float) -> None:
    """Take seconds."""
    _finite(value, "slow_answer in seconds")


def _check_port(_: object, __: object, value: int) -> None:
    """Take a port that there can be."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_PORT:
        msg = f"port must be from 0 (any free one) to {_LAST_PORT}, as an int"
        raise InvalidInputError(msg)


def _check_host(_: object, __: object, value: str) -> None:
    """Take a text."""
    if not isinstance(value, str):
        msg = f"host must be a string, such as '127.0.0.1', not {_kind(value)}"
        raise InvalidInputError(msg)


@attrs.frozen(kw_only=True)
class SandboxOptions:
    """How a sandbox behaves.

    Args:
        indexing_delay: Seconds from a write until it is applied: fixed, or a range to draw from.
        faults: The probability of each kind of fault (see `FAULT_KINDS`), drawn per request.
        rate: Requests per second that are let through, in bursts of as many; `None` for no limit.
        slow_answer: Seconds by which the fault `slow` delays an answer.
        refused_ids: Ids that a write is refused for as malformed, as Batch may do for reasons of its own.
        seed: Of everything that is drawn, so that a run can be repeated.
        host: The address to listen on.
        port: The port to listen on; 0 takes a free one.

    Raises:
        InvalidInputError: If a value is of no use; nothing was started.
    """

    indexing_delay: float | tuple[float, float] = attrs.field(default=(0.2, 0.6), validator=_check_delay)
    faults: Mapping[str, float] = attrs.field(factory=dict, converter=_copy, validator=_check_faults)
    rate: float | None = attrs.field(default=None, validator=_check_rate)
    slow_answer: float = attrs.field(default=1.0, validator=_check_slow_answer)
    refused_ids: frozenset[str] = attrs.field(default=frozenset(), converter=_to_ids, repr=False)
    seed: int = 0
    host: str = attrs.field(default="127.0.0.1", validator=_check_host)
    port: int = attrs.field(default=0, validator=_check_port)


def _number(text: str, what: str) -> float:
    """Read a finite number of at least 0 from a part of an argument."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return _finite(value, what)


def parse_fault(text: str) -> tuple[str, float]:
    """Read a fault and its probability.

    Args:
        text: `KIND=PROBABILITY`, for instance `503=0.1`.

    Returns:
        The kind and the probability, from 0 to 1.

    Raises:
        InvalidInputError: If the text is not of that form, or the kind is unknown.
    """
    kind, equals, probability = _check_text(text, "a fault").partition("=")
    if not equals:
        msg = f"a fault is written KIND=PROBABILITY, for instance 503=0.1, not {text!r}"
        raise InvalidInputError(msg)
    value = _number(probability, f"the probability of fault {check_fault_kind(kind)}")
    if value > 1:
        msg = f"the probability of fault {kind} must be from 0 to 1, not {probability}"
        raise InvalidInputError(msg)
    return kind, value


def parse_rate(text: str) -> float:
    """Read a rate.

    Args:
        text: `5/s`, or a bare number of requests per second.

    Returns:
        Requests per second, above 0.

    Raises:
        InvalidInputError: If the text is not of that form.
    """
    rate = _number(
        _check_text(text, "a rate").removesuffix("/s"), "a rate, written 5/s (requests per second),"
    )
    _check_rate(None, None, rate)
    return rate


def parse_indexing_delay(text: str) -> float | tuple[float, float]:
    """Read an indexing delay.

    Args:
        text: `2` for always 2 seconds, `2-10` for anything in between.

    Returns:
        Seconds, or the shortest and the longest.

    Raises:
        InvalidInputError: If the text is not of that form.
    """
    shortest, dash, longest = _check_text(text, "an indexing delay").partition("-")
    what = "an indexing delay, written 2 or 2-10 (seconds),"
    delay = (_number(shortest, what), _number(longest, what)) if dash else _number(shortest, what)
    _check_delay(None, None, delay)
    return delay
