"""Places: each audience in each of its targets, with its last success and its last attempt."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from ..options import App, Project
from ._attempts import Attempt
from .config._config import Config
from .state._history import RunOutcome
from .state._status import AudienceStatus, Status
from .state._targets import TargetKey

# Two targets of one name have digits of their digests as well.
_DIGITS: Final = re.compile(r" [0-9a-f]{8}")


@attrs.frozen(kw_only=True)
class PlaceStatus:
    """The status of a place: an audience in an app or project.

    Attributes:
        audience: The audience's name.
        target: The app's or project's name in the config, or its kind and digits. None if it is unknown.
        key: The audience's key in the state. None if the state does not have it.
        members: Number of recorded members. None if the state does not have the audience.
        known: Whether its members are known.
        last_success: When its last successful run ended, in UTC. None if there was none.
        last_run: Its latest run. None if there is none.
        outcome: How its latest run ended. None if it has not ended, or was killed.
        open_run: The run that is not settled. None if all are.
        open_ids: Number of IDs of that run by the state of their chunk.
        last_attempt: Its last attempt. None if none is recorded.
        live: Whether a run of it is in progress, or a run of another audience has the state file open.
    """

    audience: str
    target: str | None
    key: str | None = None
    members: int | None = None
    known: bool = False
    last_success: dt.datetime | None = None
    last_run: int | None = None
    outcome: RunOutcome | None = None
    open_run: int | None = None
    open_ids: dict[str, int] = attrs.field(factory=dict)
    last_attempt: Attempt | None = None
    live: bool = False

    @property
    def label(self) -> str:
        """The name of the place in messages."""
        return self.audience if self.target is None else f"{self.audience} → {self.target}"

    @property
    def last_outcome(self) -> RunOutcome | None:
        """The outcome of the latest run, or of an attempt since then. None if it has not ended."""
        attempt = self.last_attempt
        if attempt is None:
            return self.outcome
        if attempt.run is not None and self.key is not None:
            return self.outcome  # the run may have been settled since
        if self.last_success is not None and attempt.started < self.last_success:
            return self.outcome  # an attempt of a program is a run alone
        return attempt.outcome

    def own_attempts(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Return the attempts at this place, in the same order.

        Args:
            attempts: The attempts beside the state.
        """
        return [one for one in attempts if _is_of(one, self, self.target, self.key)]

    def overdue(self, now: dt.datetime, limit: float) -> str | None:
        """Return why the place needs attention. None if its last success is recent.

        Args:
            now: The time.
            limit: Seconds since the last success at most. A success that far in the future counts as old,
                because a clock that was wrong must not silence the alarm.
        """
        if self.last_success is None:
            return "never loaded"
        age = (now - self.last_success).total_seconds()
        if abs(age) <= limit:
            return None
        ahead = " (in the future)" if age < 0 else ""
        return f"last success {self.last_success:%Y-%m-%d %H:%M:%S} UTC{ahead}"


def recorded_places(status: Status | None, attempts: Sequence[Attempt]) -> list[PlaceStatus]:
    """Return the places that a state or an attempt names, by audience.

    Args:
        status: The status of the state. None if it cannot be read.
        attempts: The attempts beside the state, in the order of their starts.
    """
    audiences = () if status is None else status.audiences
    places = {one.key: _place(one, one.audience, one.target) for one in audiences}
    for attempt in attempts:
        if attempt.audience is None:
            continue
        key = attempt.key or _key_of(attempt, audiences) or f"{attempt.audience} {attempt.target}"
        place = places.get(key) or PlaceStatus(audience=attempt.audience, target=attempt.target)
        places[key] = attrs.evolve(place, last_attempt=attempt)
    found = [attrs.evolve(one, live=_is_live(status, key)) for key, one in places.items()]
    return sorted(found, key=lambda one: (one.audience, one.target or ""))


def configured_places(
    config: Config, status: Status | None, attempts: Sequence[Attempt], default: App | Project | None
) -> list[PlaceStatus]:
    """Return every place of a config, in its order.

    Args:
        config: The config. Keys of its targets may be missing.
        status: The status of the state. None if it cannot be read.
        attempts: The attempts beside the state, in the order of their starts.
        default: The target of a config that names none. None if its keys are unknown.
    """
    return list(_configured(config, status, attempts, default))


def _configured(
    config: Config, status: Status | None, attempts: Sequence[Attempt], default: App | Project | None
) -> Iterator[PlaceStatus]:
    audiences = () if status is None else status.audiences
    path = str(config.path.absolute())
    of_config = [one for one in attempts if one.audience is None and one.config == path]
    for audience in config.audiences:
        for label in audience.targets or (None,):
            target = default if label is None else None
            if label is not None and label in config.targets:
                target = config.targets[label].target
            key = None if target is None else TargetKey.of(target).audience_key(audience.name)
            found = _find(audiences, audience.name, label, key)
            place = _place(found, audience.name, label)
            mine = [one for one in attempts if _is_of(one, place, label, key or place.key)]
            last = max([*mine, *of_config], key=lambda one: one.started, default=None)
            yield attrs.evolve(place, last_attempt=last, live=_is_live(status, key or place.key))


def _is_live(status: Status | None, key: str | None) -> bool:
    return status is not None and status.is_live(key)


def _find(
    audiences: Sequence[AudienceStatus], name: str, label: str | None, key: str | None
) -> AudienceStatus | None:
    """Return the audience of a place, by its key or else by the names of its target."""
    if key is not None:
        return next((one for one in audiences if one.key == key), None)
    same = [one for one in audiences if one.audience == name and _is_named(one.target, label)]
    # Two targets of one name: the older one was replaced, for example by another project.
    return max(same, key=lambda one: one.last_run, default=None)


def _is_named(target: str, label: str | None) -> bool:
    return label is None or target == label or _DIGITS.fullmatch(target.removeprefix(label)) is not None


def _is_of(attempt: Attempt, place: PlaceStatus, label: str | None, key: str | None) -> bool:
    if attempt.audience != place.audience:
        return False
    if attempt.key is not None and key is not None:
        return attempt.key == key
    return attempt.target in {label, place.target}


def _key_of(attempt: Attempt, audiences: Sequence[AudienceStatus]) -> str | None:
    """Return the key of the one audience that an attempt without a key can be about."""
    keys = [
        one.key
        for one in audiences
        if one.audience == attempt.audience and attempt.target in {None, one.target}
    ]
    return keys[0] if len(keys) == 1 else None


def _place(found: AudienceStatus | None, name: str, label: str | None) -> PlaceStatus:
    if found is None:
        return PlaceStatus(audience=name, target=label)
    return PlaceStatus(**attrs.asdict(found, recurse=False) | {"target": label or found.target})
