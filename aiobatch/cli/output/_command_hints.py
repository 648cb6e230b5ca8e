"""Commands that texts name: completed with the state, the keys and the source that this command was given.

A text of the library names a command in backticks, as `aiobatch resync vip SOURCE`: which state, keys and
source are meant, only the command line knows. What it shows can be pasted into a shell.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["command_context", "expand_commands", "flatten_options"]

_COMMAND: Final = re.compile(r"`aiobatch ([^`…]+)`")
_SOURCE: Final = "SOURCE"
_STDIN: Final = "/dev/stdin"  # it cannot be read again
_KNOWING: Final = frozenset({"status", "runs", "show"})
_REPAIRING: Final = frozenset({"sync", "plan", "resync", "adopt", "rollback", "forget", "verify"})
_SENDING: Final = frozenset({"view", "list", "create", "delete", "update", "replace", "wait", "apply"})
# What a source needs to be read as it was.
_READING: Final = ("query", "id_column", "attributes", "tags_column", "format", "id_type")

_given: ContextVar[Mapping[str, Any]] = ContextVar("given", default={})  # noqa: B039  # nobody changes it


@contextlib.contextmanager
def command_context(**options: Any) -> Iterator[None]:
    """Let commands be completed with *options* for a while, beside those that were given before.

    Args:
        **options: Arguments and options of a command by their names, and `keys`, what to call keys that only
            a config names.
    """
    before = _given.set({**_given.get(), **options})
    try:
        yield
    finally:
        _given.reset(before)


def flatten_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments and options by their names, those of groups among them."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if attrs.has(type(value)):
            found |= flatten_options(attrs.asdict(value, recurse=False))
        else:
            found[name] = value
    return found


def expand_commands(text: str) -> str:
    """Complete the commands that *text* names, so that they mean the same state, keys and source."""
    return _COMMAND.sub(_completed, text)


def _completed(match: re.Match[str]) -> str:
    """Write a command in full."""
    try:
        words = shlex.split(match[1])
    except ValueError:  # no command of ours
        return match[0]
    known, command = _given.get(), words[0]
    words = [word for one in words for word in (_source(known) if one == _SOURCE else [one])]
    if words[-1] == "--state":
        words += _state(known)
    elif command in _KNOWING | _REPAIRING and "--state" not in words and _state(known):
        words += ["--state", *_state(known)]
    if command in _REPAIRING | _SENDING:
        words += _keys(known, words)
    keys = f" with the keys of {known['keys']}" if known.get("keys") and command not in _KNOWING else ""
    return f"`{shlex.join(('aiobatch', *words))}`{keys}"


def _state(known: Mapping[str, Any]) -> list[str]:
    """Return the state file, unless it is the one that is taken by default."""
    state = known.get("state")
    if state is None:
        return []
    from ...sync import default_state_path  # noqa: PLC0415 - only who names a state needs the engine

    return [] if Path(state) == default_state_path() else [str(state)]


def _keys(known: Mapping[str, Any], words: list[str]) -> list[str]:
    """Return the options that say whose audiences are meant."""
    options = {"--env-file": known.get("env_file"), "--api": known.get("api")}
    return [
        word for name, value in options.items() if value and name not in words for word in (name, f"{value}")
    ]


def _source(known: Mapping[str, Any]) -> list[str]:
    """Return the source and how it is read; its placeholder where it is unknown, gone or secret."""
    source = known.get("source")
    if source in {None, "", _STDIN} or _is_secret(source):
        return [_SOURCE]
    options = {f"--{name.replace('_', '-')}": known.get(name) for name in _READING}
    trim = ["--no-trim"] if known.get("trim") is False else []
    return [source, *(word for name, value in options.items() if value for word in (name, f"{value}")), *trim]


def _is_secret(source: str) -> bool:
    """Tell whether a source's own words hold a password."""
    if "://" not in source:
        return False
    from ...sync.sources._dsn import has_literal_password  # noqa: PLC0415 - the engine is loaded where it reads a source

    return has_literal_password(source)
