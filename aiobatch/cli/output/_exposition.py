"""The status of places in the text format of Prometheus, for node_exporter's textfile collector."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ...sync import PlaceStatus
from ._tables import clean

__all__ = ["exposition"]

_Value = Callable[[PlaceStatus], float | None]

# Metric, its help, and its value of a place. A place without a value has no sample.
_METRICS: Final[tuple[tuple[str, str, _Value], ...]] = (
    ("members", "Recorded members.", lambda one: one.members if one.known else None),
    (
        "last_success_timestamp_seconds",
        "When the last successful run ended. 0 if there was none.",
        lambda one: _seconds(one.last_success) or 0,
    ),
    (
        "last_attempt_timestamp_seconds",
        "When the last attempt started.",
        lambda one: None if one.last_attempt is None else _seconds(one.last_attempt.started),
    ),
    (
        "last_attempt_exit_code",
        "Exit code of the last attempt, once it has ended.",
        lambda one: None if one.last_attempt is None else one.last_attempt.exit_code,
    ),
    ("last_run", "Number of the latest run.", lambda one: one.last_run),
    ("open_ids", "IDs of a run that has not finished.", lambda one: sum(one.open_ids.values())),
)


def exposition(places: Sequence[PlaceStatus], *, is_readable: bool) -> Iterator[str]:
    """Yield the lines of the text format.

    Args:
        places: The places.
        is_readable: Whether the state can be read.
    """
    for name, text, value in _METRICS:
        samples = [(one, found) for one in places if (found := value(one)) is not None]
        yield from _head(name, text)
        yield from (f"aiobatch_{name}{_labels(one)} {found:.15g}" for one, found in samples)
    yield from _head("state_readable", "Whether the state can be read: 1 or 0.")
    yield f"aiobatch_state_readable {int(is_readable)}"


def _head(name: str, text: str) -> tuple[str, str]:
    return f"# HELP aiobatch_{name} {text}", f"# TYPE aiobatch_{name} gauge"


def _labels(place: PlaceStatus) -> str:
    labels = {"audience": place.audience, "target": place.target or ""}
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return clean(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _seconds(time: dt.datetime | None) -> float | None:
    return None if time is None else time.timestamp()
