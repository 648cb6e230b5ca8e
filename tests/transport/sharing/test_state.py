"""The shared state as bytes: it survives unchanged, and damage of any kind is noticed."""

from __future__ import annotations

import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiobatch.transport._sharing._state import SharedState

NOW, RATE = 1000.0, 5.0


def used_state() -> SharedState:
    """Return a state after a refusal, a pause and some requests."""
    state = SharedState.new(NOW - 10, "boot")
    for second in range(8):
        assert state.ask(NOW - 9 + second, RATE, f"user{second}", None) == (None, 0.0)
    state.refuse(NOW - 1, RATE, 1)
    state.pause(NOW + 5, 429, 1)
    return state


def test_state_survives_the_bytes() -> None:
    """Each field is the same after a round trip, of a new state too."""
    for state in (used_state(), SharedState.new(NOW, "boot")):
        copy = SharedState.decode(state.encode(), NOW, RATE, "boot")
        assert copy is not None
        assert copy.encode() == state.encode()
        assert copy.rate == state.rate


def test_bytes_contain_no_more_than_times_and_random_names() -> None:
    """The keys of the JSON are known, and none of them is a key or an ID."""
    fields = orjson.loads(used_state().encode().partition(b" ")[2])
    times = {"meter", "sent_at", "paused_until", "probe_until", "users"}
    assert set(fields) == times | {"boot", "rate", "status", "failures", "format"}


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_changed_byte_is_noticed(position: int, value: int) -> None:
    """Any other byte at any position gives no state or the same one."""
    line = bytearray(used_state().encode())
    line[position % len(line)] = value
    state = SharedState.decode(bytes(line), NOW, RATE, "boot")
    assert state is None or state.encode() == used_state().encode()


@given(st.binary(max_size=200))
def test_any_bytes_are_no_state(data: bytes) -> None:
    """Foreign bytes give no state and no error, even with a right checksum."""
    assert SharedState.decode(data, NOW, RATE) is None
    assert SharedState.decode(b"%08x %b" % (zlib.crc32(data), data), NOW, RATE) is None


@pytest.mark.parametrize("cut", range(0, 440, 37))
def test_incomplete_line_is_no_state(cut: int) -> None:
    """A process that was killed while it wrote leaves no state."""
    assert SharedState.decode(used_state().encode()[:cut], NOW, RATE, "boot") is None


BAD: list[tuple[str, Any]] = [
    ("format", 2),
    ("boot", "another"),
    ("boot", 7),
    ("status", "503"),
    ("failures", -1),
    ("failures", True),
    ("sent_at", "now"),
    ("sent_at", NOW + 100),
    ("paused_until", NOW + 1e6),
    ("paused_until", [1]),
    ("probe_until", NOW + 1e6),
    ("users", ["user"]),
    ("users", {"user": NOW + 1e6}),
    ("users", {"user": None}),
    ("meter", [1, 2, 3]),
    ("meter", [1, 2, 3, 4, 5, 6, 7, -8]),
    ("meter", [1, 2, 3, 4, 5, 6, 7, 1.5]),
    ("meter", None),
    ("rate", None),
    ("rate", {"slot": 1.0, "other": 2}),
    ("rate.slot", NOW + 1e7),
    ("rate.slot", "soon"),
    ("rate.lowered", 0),
    ("rate.lowered", -1.0),
    ("rate.peak", -1.0),
    ("rate.is_known", 1),
    ("rate.accepted", 1.5),
    ("rate.refused_at", NOW + 1e6),
    ("extra", 1),
]


@pytest.mark.parametrize(("place", "value"), BAD, ids=str)
def test_impossible_value_is_damage(place: str, value: object) -> None:
    """A line with a right checksum and a wrong value is no state, so that no process waits for years."""
    fields = orjson.loads(used_state().encode().partition(b" ")[2])
    *outer, name = place.split(".")
    table = fields[outer[0]] if outer else fields
    table[name] = value
    text = orjson.dumps(fields)
    assert SharedState.decode(b"%08x %b\n" % (zlib.crc32(text), text), NOW, RATE, "boot") is None


def test_processes_that_stopped_are_forgotten() -> None:
    """Only processes that sent lately count, and their number is bounded."""
    state = SharedState.new(NOW)
    for number in range(1100):
        state.ask(NOW, RATE, f"user{number}", None)
    assert len(state.users) <= 1000
    later = NOW + 10_000
    state.ask(later, RATE, "last", None)
    assert set(state.users) == {"last"}


def test_pause_is_lengthened_and_not_shortened() -> None:
    """Of two refusals the later end counts, and a success before that end does not resume."""
    state = SharedState.new(NOW)
    state.pause(NOW + 30, 503, 1)
    state.pause(NOW + 5, 429, 2)
    assert (state.paused_until, state.status, state.failures) == (NOW + 30, 429, 2)
    state.resume(NOW + 10)
    assert state.status == 429
    state.resume(NOW + 30)
    assert (state.status, state.failures) == (0, 0)


def test_one_incident_lowers_the_limit_once() -> None:
    """A second 429 during a pause lowers nothing."""
    state = used_state()
    lowered = state.rate.lowered
    state.refuse(NOW, RATE, 1)
    assert state.rate.lowered == lowered
