"""Options of a task, by the names that they have in `aiobatch.toml`."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from aiobatch import InvalidInputError
from aiobatch.sync import GuardPolicy, Overrides, Source, SyncOptions

# Arguments of the operators, and what the operators decide.
_ARGUMENTS: Final = frozenset({"mode", "create", "timeout", "overrides"})
_OF_OPERATOR: Final = frozenset({"wait"})
_LOCATION: Final = frozenset({"path", "query", "location"})


def _names(owner: type[attrs.AttrsInstance]) -> frozenset[str]:
    return frozenset(field.name for field in attrs.fields(owner))


_READING: Final = _names(Source) - _LOCATION
_GUARD: Final = _names(GuardPolicy)
_RUN: Final = _names(SyncOptions) - _ARGUMENTS - _OF_OPERATOR - {"guard"}


@attrs.frozen(kw_only=True)
class TaskOptions:
    """The options of a task.

    Attributes:
        run: Those of the run.
        reading: Those of the source, as arguments of `Source.parse`.
    """

    run: SyncOptions
    reading: Mapping[str, Any]


def parse_options(
    options: Mapping[str, Any] | None, overrides: Mapping[str, Any] | None, **arguments: Any
) -> TaskOptions:
    """Return the options of a task.

    Args:
        options: Option -> value, of the run, the guard and the source, without nesting.
        overrides: Field of `Overrides` -> value. Text, as from a template, becomes a number or a boolean.
        **arguments: Arguments of the operator that are options too.

    Raises:
        InvalidInputError: An option is unknown or invalid.
    """
    given = dict(_check_mapping(options, "options"))
    guard = _parse_guard(given)
    for name in given:
        _check_known(name)
    reading = {name: given.pop(name) for name in list(given) if name in _READING}
    if isinstance(given.get("rejects"), str):
        given["rejects"] = Path(given["rejects"])
    run = SyncOptions(**given, guard=guard, overrides=_parse_overrides(overrides), **arguments)
    return TaskOptions(run=run, reading=reading)


def _check_mapping(value: object, name: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        msg = f"{name} must be a mapping of option to value, not {type(value).__name__}."
        raise InvalidInputError(msg)
    return value or {}


def _parse_guard(given: dict[str, Any]) -> GuardPolicy:
    """Return the guard, and remove its options from *given*."""
    guard = given.pop("guard", None)
    if isinstance(guard, GuardPolicy):
        guard = attrs.asdict(guard)
    fields = dict(_check_mapping(guard, "options['guard']"))
    for name in fields:
        _check_known(name, among=_GUARD)
    fields |= {name: given.pop(name) for name in list(given) if name in _GUARD}
    return GuardPolicy(**fields)


def _parse_overrides(overrides: Mapping[str, Any] | None) -> Overrides:
    fields = {name: _to_value(value) for name, value in _check_mapping(overrides, "overrides").items()}
    for name in fields:
        _check_known(name, among=_names(Overrides))
    return Overrides(**{name: value for name, value in fields.items() if value is not None})


def _check_known(name: str, among: frozenset[str] = _RUN | _READING | _GUARD) -> None:
    """Raise InvalidInputError if an option is unknown."""
    if name in among:
        return
    if name in _ARGUMENTS:
        msg = f"{name} is an argument of the operator. Remove it from the options."
    elif name in _OF_OPERATOR:
        msg = f"{name} cannot be set: the operator waits, or defers the wait with deferrable=True."
    else:
        close = difflib.get_close_matches(str(name), among, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Known are {', '.join(sorted(among))}."
        msg = f"Unknown option {name!r}. {hint}"
    raise InvalidInputError(msg)


def _to_value(value: Any) -> Any:
    """Return the value of a rendered template. Empty text is None."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in ("", "None", "null"):
        return None
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
    except (SyntaxError, ValueError):
        return value
