"""What people call the apps and projects of a state: as a config names them, or else by kind and digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ._schema import TARGETS
from ._state import AudienceState, State
from ._target_key import DIGITS, Scope


def place(state: State, scope: Scope, name: str) -> AudienceState:
    """Return an audience as the state knows it; its target has a name from here on.

    Args:
        state: An open state.
        scope: The audience's target.
        name: The audience's name.
    """
    if scope.digest not in _given(state):
        name_targets(state, {scope: scope.label})
    return state.audience(scope, name)


def name_targets(state: State, names: Mapping[Scope, str]) -> None:
    """Note what people call targets.

    Args:
        state: An open state.
        names: Target -> its name.

    Raises:
        StateError: It could not be written; nothing was changed.
    """
    with state.transaction():
        state.rows(TARGETS)
        for scope, name in names.items():
            state.rows("DELETE FROM targets WHERE scope = ?", [scope.digest])
            state.rows("INSERT INTO targets VALUES (?, ?)", [scope.digest, name])
    state.has_targets = True


def target_names(state: State) -> dict[str, str]:
    """Return what to call the targets that ever had a run: digest -> a name that no two of them share.

    Args:
        state: An open state.
    """
    scopes = state.rows("SELECT DISTINCT scope FROM audiences SEMI JOIN runs USING (key)")
    given = _given(state)
    names = {scope: given.get(scope, scope[:DIGITS]) for (scope,) in scopes}
    times = Counter(names.values())
    return {scope: name if times[name] == 1 else f"{name} {scope[:DIGITS]}" for scope, name in names.items()}


def _given(state: State) -> dict[str, str]:
    """Return what was noted, by digest."""
    return dict(state.rows("SELECT scope, name FROM targets")) if state.has_targets else {}
