"""Targets: the apps and projects whose audiences a state records, and their display names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, Self

import attrs

from ..._secret import Secret
from ...options import App, Project
from ._schema import MEMBERS, members_table
from ._state import AudienceRecord, State

# Digits of a digest in display names: enough to distinguish a company's apps.
_SHOWN_DIGITS: Final = 8


@attrs.frozen
class TargetKey:
    """The identity of an app or project in a state, which stores digests of keys and never a key.

    Attributes:
        kind: `app` or `project`.
        key: The app's API key, or the project's key.
    """

    kind: str
    key: Secret

    @classmethod
    def of(cls, target: App | Project) -> Self:
        """Return the key of an app or project."""
        if isinstance(target, App):
            return cls("app", target.api_key)
        return cls("project", target.project_key)

    @property
    def digest(self) -> str:
        """The digest that identifies the target in a state."""
        return _digest(self._text)

    @property
    def label(self) -> str:
        """The default display name: `app 1a2b3c4d`."""
        return f"{self.kind} {self.digest[:_SHOWN_DIGITS]}"

    @property
    def _text(self) -> str:
        return f"{self.kind} {self.key.reveal()}"

    def audience_key(self, name: str) -> str:
        """Return the short key of one of the target's audiences."""
        return _digest(f"{self._text}\0{name}")


def _digest(text: str) -> str:
    """Return 16 hexadecimal digits that identify a secret text, such as a key, and do not reveal it."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8, person=b"aiobatch").hexdigest()


def get_or_create_audience(state: State, target: TargetKey, name: str) -> AudienceRecord:
    """Return the record of an audience. Create an empty one, and name its target, if there is none.

    Raises:
        StateError: The record could not be written.
    """
    key, table = target.audience_key(name), members_table(target.audience_key(name))
    if target.digest not in _names(state):
        name_targets(state, {target: target.label})
    # The table of an audience of which only the number of members was loaded is a view.
    if not state.has_table(table) and not state.rows("SELECT 1 FROM audiences WHERE key = ?", [key]):
        with state.transaction():
            insert = "INSERT INTO audiences VALUES (?, ?, ?, 0, false, NULL)"
            state.rows(insert, [key, target.digest, name])
            state.rows(MEMBERS, members=table)
    return state.audience_by_key(key)


def name_targets(state: State, names: Mapping[TargetKey, str]) -> None:
    """Record the display names of targets.

    Raises:
        StateError: The names could not be written. Nothing was changed.
    """
    with state.transaction():
        for target, name in names.items():
            state.rows("DELETE FROM targets WHERE scope = ?", [target.digest])
            state.rows("INSERT INTO targets VALUES (?, ?)", [target.digest, name])


def names_of(state: State, digests: Iterable[str]) -> dict[str, str]:
    """Return a unique display name for each of some targets that have runs, by digest."""
    recorded = _names(state)
    times = Counter(recorded.values())
    names = {digest: recorded.get(digest, "") for digest in digests}
    # A name that no other target has, and that no target without a name can have, needs no look at the runs.
    if all(times[name] == 1 and len(name) != _SHOWN_DIGITS for name in names.values()):
        return names
    return target_names(state)


def target_names(state: State) -> dict[str, str]:
    """Return a unique display name for each target that has runs, by digest."""
    rows = state.rows("SELECT DISTINCT scope FROM audiences SEMI JOIN runs USING (key)")
    recorded = _names(state)
    names = {target: recorded.get(target, target[:_SHOWN_DIGITS]) for (target,) in rows}
    times = Counter(names.values())
    return {
        target: name if times[name] == 1 else f"{name} {target[:_SHOWN_DIGITS]}"
        for target, name in names.items()
    }


def shown_name(state: State, digest: str) -> str:
    """Return the recorded display name of a target, or digits of its digest."""
    return _names(state).get(digest, digest[:_SHOWN_DIGITS])


def _names(state: State) -> dict[str, str]:
    return dict(state.rows("SELECT scope, name FROM targets")) if state.has_table("targets") else {}
