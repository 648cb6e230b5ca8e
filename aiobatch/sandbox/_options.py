"""The sandbox's options, and the parsers of their command-line form."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import attrs

from ..errors import InvalidInputError

#: The only REST API key that the sandbox accepts.
REST_API_KEY: Final = "sandbox-rest-api-key"
#: The API key of the first app, in the path of 1.x.
API_KEY: Final = "sandbox-api-key"
#: The API key of the second app, which has audiences of its own.
API_KEY_ANDROID: Final = "sandbox-api-key-android"
#: The project key of 2.x.
PROJECT_KEY: Final = "sandbox-project-key"

#: Each kind of fault with its effect.
FAULT_KINDS: Final[Mapping[str, str]] = {
    "500": "SERVER_ERROR, the request is not processed",
    "502": "an empty 502, the request is not processed",
    "503": "MAINTENANCE_ERROR, the request is not processed",
    "504": "an empty 504, the request is not processed",
    "429": "too many requests with Retry-After, the request is not processed",
    "429-bare": "too many requests without Retry-After, the request is not processed",
    "html": "a proxy's HTML page with status 502, the request is not processed",
    "reset": "the connection is reset, the request is not processed",
    "html200": "the request is processed, the response is an HTML page with status 200",
    "truncated": "the request is processed, the response ends in the middle",
    "lost": "the request is processed, the connection is closed before the response",
    "slow": "the request is processed, the response is late",
}

_LAST_PORT = 65_535


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _check_text(text: object, form: str) -> str:
    if not isinstance(text, str):
        msg = f"{form} must be a string, not {_kind(text)}."
        raise InvalidInputError(msg)
    return text


def check_seconds(seconds: object, place: str) -> float:
    """Return a duration in seconds."""
    return _finite(seconds, f"{place} in seconds")


def _finite(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        msg = f"{what} must be a finite number of at least 0."
        raise InvalidInputError(msg)
    return value


def check_fault_kind(kind: str) -> str:
    """Return *kind* if it is a kind of fault."""
    if not isinstance(kind, str) or kind not in FAULT_KINDS:
        shown = repr(kind) if isinstance(kind, str) else f"of type {type(kind).__name__}"
        msg = f"Fault {shown} is unknown. The kinds of faults are {', '.join(FAULT_KINDS)}."
        raise InvalidInputError(msg)
    return kind


def _copy(faults: Mapping[str, float]) -> Mapping[str, float]:
    if not isinstance(faults, Mapping):
        msg = f"faults must map kinds to probabilities, such as {{'503': 0.1}}. It is {_kind(faults)}."
        raise InvalidInputError(msg)
    return dict(faults)


def _check_delay(_: object, __: object, value: float | tuple[float, float]) -> None:
    bounds = value if isinstance(value, tuple) else (value, value)
    if len(bounds) != 2:  # noqa: PLR2004 - a range has two ends
        msg = "indexing_delay as a tuple must be (shortest, longest)."
        raise InvalidInputError(msg)
    shortest, longest = (_finite(bound, "indexing_delay in seconds") for bound in bounds)
    if shortest > longest:
        msg = f"indexing_delay: the shortest delay {shortest} is longer than the longest, {longest}."
        raise InvalidInputError(msg)


def _check_faults(_: object, __: object, value: Mapping[str, float]) -> None:
    for kind, probability in value.items():
        _finite(probability, f"The probability of fault {check_fault_kind(kind)}")
    if (total := sum(value.values())) > 1:
        msg = f"The probabilities of all faults must add up to at most 1, not to {total:g}."
        raise InvalidInputError(msg)


def _check_rate(_: object, __: object, value: float | None) -> None:
    if value is not None and _finite(value, "rate in requests per second") == 0:
        msg = "rate must be above 0 requests per second. Leave it out for no limit."
        raise InvalidInputError(msg)


def check_ids(ids: Iterable[str], place: str) -> list[str]:
    """Return the IDs of the argument *place* as a list. A single string is rejected."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
        msg = f"{place} must be an iterable of IDs, not one {_kind(ids)}."
        raise InvalidInputError(msg)
    return list(ids)


def _to_ids(ids: Iterable[str]) -> frozenset[str]:
    return frozenset(check_ids(ids, "refused_ids"))


def _check_slow_answer(_: object, __: object, value: float) -> None:
    _finite(value, "slow_answer in seconds")


def _check_port(_: object, __: object, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LAST_PORT:
        msg = f"port must be an integer from 0 (any free port) to {_LAST_PORT}."
        raise InvalidInputError(msg)


def _check_host(_: object, __: object, value: str) -> None:
    if not isinstance(value, str) or not value:
        shown = "empty" if value == "" else _kind(value)
        msg = f"host must be a string such as '127.0.0.1', not {shown}."
        raise InvalidInputError(msg)


def _check_word(_: object, field: attrs.Attribute[Any], value: object) -> None:
    """Check the choice of an answer that Batch does not document."""
    words = get_args(_ANSWERS[field.name])
    if isinstance(value, bool) or value not in words:
        msg = f"{field.name} must be {' or '.join(map(repr, words))}."
        raise InvalidInputError(msg)


#: The statuses and bodies of answers that Batch does not document, by option. The first word is the default.
MissingAudience = Literal[404, 400]
TakenName = Literal[400, 409]
UnknownProject = Literal[401, 403]
DeleteAnswer = Literal["empty", "object", "nothing"]
_ANSWERS: Final[Mapping[str, Any]] = {
    "missing_audience": MissingAudience,
    "taken_name": TakenName,
    "unknown_project": UnknownProject,
    "delete_answer": DeleteAnswer,
}


@attrs.frozen(kw_only=True)
class SandboxOptions:
    """The behaviour of a sandbox.

    Args:
        indexing_delay: Seconds from a write until it is applied: fixed, or (shortest, longest).
        faults: The probability of each kind of fault (see `FAULT_KINDS`) for each request, from 0 to 1.
        rate: Requests per second that are admitted, in bursts of as many. `None` for no limit.
        slow_answer: Seconds by which the fault `slow` delays an answer.
        missing_audience: The status of an answer about an audience that does not exist: 404 or 400.
        taken_name: The status of a create whose name is taken: 400 or 409.
        unknown_project: The status of 2.x for an unknown project: 401 or 403.
        delete_answer: The body of a delete in 1.x: an `empty` object, an `object` with fields, or `nothing`.
        refused_ids: IDs for which a write is refused as malformed, as Batch may do for undocumented reasons.
        seed: The seed of all random choices, so that a run can be repeated.
        host: The address to listen on. `0.0.0.0` for all of the machine's, as in a container.
        port: The port to listen on. 0 picks a free one.

    Raises:
        InvalidInputError: A value is invalid. Nothing was started.
    """

    indexing_delay: float | tuple[float, float] = attrs.field(default=(0.2, 0.6), validator=_check_delay)
    faults: Mapping[str, float] = attrs.field(factory=dict, converter=_copy, validator=_check_faults)
    rate: float | None = attrs.field(default=None, validator=_check_rate)
    slow_answer: float = attrs.field(default=1.0, validator=_check_slow_answer)
    missing_audience: MissingAudience = attrs.field(default=404, validator=_check_word)
    taken_name: TakenName = attrs.field(default=400, validator=_check_word)
    unknown_project: UnknownProject = attrs.field(default=401, validator=_check_word)
    delete_answer: DeleteAnswer = attrs.field(default="empty", validator=_check_word)
    refused_ids: frozenset[str] = attrs.field(default=frozenset(), converter=_to_ids, repr=False)
    seed: int = 0
    host: str = attrs.field(default="127.0.0.1", validator=_check_host)
    port: int = attrs.field(default=0, validator=_check_port)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return _finite(value, what)


def parse_fault(text: str) -> tuple[str, float]:
    """Parse a fault and its probability.

    Args:
        text: `KIND=PROBABILITY`, such as `503=0.1`.

    Returns:
        The kind and the probability, from 0 to 1.

    Raises:
        InvalidInputError: The text does not have that form, or the kind is unknown.
    """
    kind, equals, probability = _check_text(text, "A fault").partition("=")
    if not equals:
        msg = f"A fault must have the form KIND=PROBABILITY, such as 503=0.1, not {text!r}."
        raise InvalidInputError(msg)
    value = _number(probability, f"The probability of fault {check_fault_kind(kind)}")
    if value > 1:
        msg = f"The probability of fault {kind} must be from 0 to 1, not {probability}."
        raise InvalidInputError(msg)
    return kind, value


def parse_rate(text: str) -> float:
    """Parse a rate.

    Args:
        text: `5/s`, or a bare number of requests per second.

    Returns:
        Requests per second, above 0.

    Raises:
        InvalidInputError: The text does not have that form.
    """
    rate = _number(_check_text(text, "A rate").removesuffix("/s"), "A rate such as 5/s (requests per second)")
    _check_rate(None, None, rate)
    return rate


def parse_indexing_delay(text: str) -> float | tuple[float, float]:
    """Parse an indexing delay.

    Args:
        text: `2` for 2 seconds, `2-10` for a random delay from 2 to 10 seconds.

    Returns:
        The seconds, or the shortest and the longest.

    Raises:
        InvalidInputError: The text does not have that form.
    """
    shortest, dash, longest = _check_text(text, "An indexing delay").partition("-")
    what = "An indexing delay such as 2 or 2-10 (seconds)"
    delay = (_number(shortest, what), _number(longest, what)) if dash else _number(shortest, what)
    _check_delay(None, None, delay)
    return delay
