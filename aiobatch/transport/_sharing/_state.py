"""The state of a limit that several processes share. Pure: every method takes the time of the store, seconds.

It contains no key and no ID: only times, rates, counts, and a random name of each process.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any, Self

import attrs
import orjson

from .._rate_limit import RateLimit, RateMeter, RateState

_FORMAT = 1
# Share by which slots are further apart than the limit requires, and the share of it that two requests always
# keep: timers and the network vary.
_MARGIN, _MARGIN_KEPT = 0.01, 0.005
# Requests closer than this, seconds, may follow each other after half the spacing: a server that accepts so
# many enforces its limit with some burst.
_CLOSE_SPACING = 0.05
# A slot this near, seconds, has come. One this late, or later than a turn of all processes, is lost.
_NOW, _LATE = 1e-4, 1.0
# Seconds after which another process sends the probe, because the first one may have been killed.
_PROBE_LEASE = 10.0
# Seconds between two looks at the state while another process probes.
_LOOK = 0.25
# Seconds, and turns of all processes, after which a process that sent nothing no longer counts.
_FORGET_SECONDS, _FORGET_TURNS = 30.0, 4
_MAX_USERS = 1000
# Times further ahead than this, seconds, are damage. So are slots further ahead than so many turns.
_MAX_PAUSE, _MAX_AHEAD, _MAX_TURNS = 86400.0, 3600.0, 2 * _MAX_USERS


@attrs.define
class SharedState:
    """The slots, the learned limit, the pause, and the processes that share them.

    Attributes:
        rate: The next slot, and what 429 responses taught.
        meter: Counts the requests of all processes.
        sent_at: When the last request was sent.
        status: The status that caused the pause, 503 or 429. 0 if there is none.
        failures: Consecutive refusals.
        paused_until: When a probe may go.
        probe_until: Until when the process that probes has the right to.
        users: The processes that sent lately: random name -> when.
        boot: What the times count from. Times of another boot mean nothing.
    """

    meter: RateMeter
    boot: str = ""
    rate: RateState = attrs.field(factory=RateState)
    sent_at: float = -math.inf
    status: int = 0
    failures: int = 0
    paused_until: float = -math.inf
    probe_until: float = -math.inf
    users: dict[str, float] = attrs.field(factory=dict)

    @classmethod
    def new(cls, now: float, boot: str = "") -> Self:
        """Return the state before the first request."""
        return cls(meter=RateMeter(now), boot=boot)

    def ask(
        self, now: float, ceiling: float, user: str, slot: float | None, *, more: bool = False
    ) -> tuple[float | None, float]:
        """Ask for permission to send one request, reserving a slot if necessary.

        Args:
            now: The time.
            ceiling: The configured requests per second.
            user: The random name of the process.
            slot: The slot that it has reserved, or None.
            more: Whether another request waits in the process. Its slot is reserved with the permission, so
                that a process whose event loop is late keeps its place among the others.

        Returns:
            The reserved slot, and the seconds until to ask again. 0 seconds: send now.
        """
        self.users[user] = now
        if self.status and (wait := self._wait_for_probe(now)) > 0:
            return slot, wait
        rate = RateLimit(ceiling, self.rate).current
        assert rate is not None  # noqa: S101 - there is a ceiling
        spacing = (1 + _MARGIN) / rate
        self._forget_users(now, spacing)
        # A process that is late keeps its turn: two requests keep their distance in any case.
        if slot is None or slot < now - max(_LATE, spacing * len(self.users)):
            slot = self._reserve(now, spacing)
        kept = (1 + _MARGIN_KEPT) / rate if spacing >= _CLOSE_SPACING else spacing / 2
        if (wait := max(slot, self.sent_at + kept) - now) > _NOW:
            return slot, wait
        self.sent_at = now
        self.meter.add(now)
        if self.status:
            self.probe_until = now + _PROBE_LEASE
        return self._reserve(now, spacing) if more else None, 0.0

    def _reserve(self, now: float, spacing: float) -> float:
        """Return the next slot, and move on to the one after it."""
        slot = max(self.rate.slot, now)
        self.rate.slot = slot + spacing
        return slot

    def _wait_for_probe(self, now: float) -> float:
        """Return the seconds until this process may ask again during a pause."""
        if now < self.paused_until:
            return self.paused_until - now
        return min(self.probe_until - now, _LOOK)

    def _forget_users(self, now: float, spacing: float) -> None:
        """Forget processes that have sent nothing for long."""
        oldest = now - max(_FORGET_SECONDS, _FORGET_TURNS * len(self.users) * spacing)
        if len(self.users) > _MAX_USERS or min(self.users.values()) < oldest:
            last = sorted(self.users.items(), key=lambda item: item[1])[-_MAX_USERS:]
            self.users = {user: when for user, when in last if when >= oldest}

    def pause(self, until: float, status: int, failures: int) -> None:
        """Start a pause, or lengthen it."""
        self.paused_until = max(self.paused_until, until) if self.status else until
        self.status = status
        self.failures = max(self.failures, failures)
        self.probe_until = -math.inf

    def resume(self, now: float) -> None:
        """End the pause after a successful probe, unless another refusal has lengthened it."""
        if now >= self.paused_until:
            self.status = self.failures = 0
            self.probe_until = -math.inf

    def end_probe(self) -> None:
        """Give the next request the right to probe: this one ended without a response."""
        self.probe_until = -math.inf

    def accept(self, now: float, ceiling: float) -> None:
        """Raise a learned limit after a request that was not refused."""
        RateLimit(ceiling, self.rate).accept(now, self.meter.rate(now))

    def refuse(self, now: float, ceiling: float, in_flight: int) -> None:
        """Lower the limit after a 429, once for each pause."""
        if not self.status:
            accepted = self.meter.rate(now, without=in_flight)
            RateLimit(ceiling, self.rate).refuse(now, sent=self.meter.rate(now), accepted=accepted)

    # -- as bytes -----------------------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the state as one line: a checksum and JSON."""
        fields = {
            name: None if value == -math.inf else value
            for name, value in attrs.asdict(self, recurse=False).items()
        }
        rate = attrs.asdict(self.rate) | {"slot": None if self.rate.slot == -math.inf else self.rate.slot}
        text = orjson.dumps(fields | {"format": _FORMAT, "meter": self.meter.dump(), "rate": rate})
        return b"%08x %b\n" % (zlib.crc32(text), text)

    @classmethod
    def decode(cls, line: bytes, now: float, ceiling: float, boot: str = "") -> Self | None:
        """Return the state in *line*, or None if it is damaged, of another format or of another boot."""
        checksum, _, text = line.partition(b"\n")[0].partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            return None
        try:
            state = cls._structure(orjson.loads(text))
            sound = state is not None and state.boot == boot and state.is_plausible(now, ceiling)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return None
        return state if sound else None

    @classmethod
    def _structure(cls, fields: dict[str, Any]) -> Self | None:
        """Return the state of decoded JSON. Raise any of several errors if it has another form."""
        if fields.pop("format") != _FORMAT or fields.keys() != attrs.fields_dict(cls).keys():
            return None
        rate: dict[str, Any] = fields["rate"]
        state = cls(
            **fields
            | {name: _or_never(fields[name]) for name in ("sent_at", "paused_until", "probe_until")}
            | {
                "rate": RateState(**rate | {"slot": _or_never(rate["slot"])}),
                "meter": RateMeter.load(fields["meter"]),
            }
        )
        _check_types(state, ("boot", str), ("status", int), ("failures", int), ("users", dict))
        _check_types(state.rate, ("is_known", bool), ("confirmed", int), ("accepted", int))
        return state

    def is_plausible(self, now: float, ceiling: float) -> bool:
        """Return whether all numbers are possible at *now*. Raise TypeError if one is none."""
        rate, ahead = self.rate, max(_MAX_AHEAD, _MAX_TURNS / ceiling)
        past = (self.sent_at, rate.refused_at, rate.grown, *self.users.values())
        sizes = (rate.floor, rate.peak, rate.refused_rate, rate.confirmed, rate.accepted, self.failures)
        return (
            all(when <= now + 1 for when in past)
            and rate.slot <= now + ahead
            and self.paused_until <= now + _MAX_PAUSE
            and self.probe_until <= now + _PROBE_LEASE + 1
            and all(0 <= size < math.inf for size in sizes)
            and (rate.lowered is None or 0 < rate.lowered < math.inf)
        )


#: Changes a state, and returns a result. Called again if another process was faster.
Change = Callable[[SharedState, float], Any]


@attrs.frozen
class Reply:
    """The result of a change of the state.

    Attributes:
        result: What the change returned.
        state: The state after it.
        now: The store's time at the change, seconds.
        at: The same on the local clock.
    """

    result: Any
    state: SharedState
    now: float
    at: float


class StoreError(Exception):
    """The store of a shared state cannot be used now.

    Attributes:
        reason: A short text without any address or key.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _or_never(when: float | None) -> float:
    """Return a time as it was before `encode`."""
    return -math.inf if when is None else when


def _check_types(owner: object, *fields: tuple[str, type]) -> None:
    """Raise TypeError if a field of *owner* has another type."""
    for name, kind in fields:
        if type(getattr(owner, name)) is not kind:
            raise TypeError(name)
