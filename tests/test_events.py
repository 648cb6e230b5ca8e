from __future__ import annotations

import inspect
import logging
import re
from pathlib import Path

import attrs
import pytest

from aiobatch import events
from aiobatch.events import Event, EventHook, RequestSent, Stats

_EVENTS = [value for value in vars(events).values() if inspect.isclass(value) and issubclass(value, Event)]


def test_all_contains_every_event() -> None:
    """`__all__` is sorted and contains every event, the counters and the hook's type."""
    assert events.__all__ == sorted([*(cls.__name__ for cls in _EVENTS), "EventHook", "Stats"])


@pytest.mark.parametrize("cls", [*_EVENTS, Stats], ids=lambda cls: cls.__name__)
def test_events_are_frozen_and_documented(cls: type) -> None:
    """An event's docstring contains every field, and none can be changed."""
    fields = attrs.fields_dict(cls)
    assert all(f"    {name}: " in (cls.__doc__ or "") for name in fields)
    event = cls(**dict.fromkeys(fields, "x"))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.anything = 1


@pytest.mark.parametrize("cls", [*_EVENTS, Stats], ids=lambda cls: cls.__name__)
def test_measures_have_units(cls: type) -> None:
    """The docstring has the unit of each field that is a float or counts bytes."""
    docs = dict(re.findall(r"^ {8}(\w+): (.+)$", cls.__doc__ or "", re.MULTILINE))
    for field in attrs.fields(cls):
        if field.type == "float" or "bytes" in field.name:
            assert re.search(r"[Ss]econds|per second|bytes", docs[field.name]), field.name


def test_the_reference_describes_every_event() -> None:
    """The page has each name of `aiobatch.events`, with its fields from the docstring."""
    page = (Path(__file__).parents[1] / "docs/reference/api/events.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. (?:autoclass|py:data):: (\w+)$", page, re.MULTILINE)
    assert set(events.__all__) - set(described) == set()


@pytest.mark.parametrize("cls", _EVENTS, ids=lambda cls: cls.__name__)
def test_fields_can_be_attributes_of_a_log_record(cls: type) -> None:
    """No field has the name of one of a log record's own attributes, which `extra` must not contain."""
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "", (), None)
    own = vars(record).keys() | {"message", "asctime", "taskName"}
    assert own & attrs.fields_dict(cls).keys() == set()


@pytest.mark.parametrize("cls", [cls for cls in _EVENTS if cls is not Event], ids=lambda cls: cls.__name__)
def test_events_are_in_the_past_tense(cls: type) -> None:
    """The name of an event is in the past tense."""
    assert cls.__name__.endswith(("ed", "Sent"))


def test_events_compare_by_value() -> None:
    """Two events with the same fields are equal."""

    def event(path: str) -> RequestSent:
        return RequestSent(
            operation="view",
            method="GET",
            host="api.batch.com",
            path=path,
            audience="vip",
            body_bytes=0,
            request_id=1,
            attempt=1,
        )

    assert event("/a") == event("/a")
    assert event("/a") != event("/b")


def test_hook_may_be_any_callable() -> None:
    """Any callable with one argument is a hook, such as a list's `append`."""
    seen: list[Event] = []
    hook: EventHook = seen.append
    hook(Event())
    assert seen == [Event()]
