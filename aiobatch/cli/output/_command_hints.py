"""Commands to paste, completed with the state, the keys and the source that this command was given.

The library's errors and warnings carry a `Remedy`. Only the command line knows the state, keys and source.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import attrs

from ..._remedy import Remedy

__all__ = ["command", "command_context", "flatten_options", "with_remedy"]

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


def command(*words: str) -> str:
    """Return a command in backticks, completed so that it means the same state, keys and source.

    Args:
        *words: The command and its arguments. `SOURCE` stands for the source and how it is read, and a last
            `--state` for the state file that is meant.
    """
    known, name = _given.get(), words[0]
    full = [word for one in words for word in (_source(known) if one == _SOURCE else [one])]
    if full[-1] == "--state":
        full += _state(known)
    elif name in _KNOWING | _REPAIRING and "--state" not in full and _state(known):
        full += ["--state", *_state(known)]
    if name in _REPAIRING | _SENDING:
        full += _keys(known, full)
    keys = f" with the keys of {known['keys']}" if known.get("keys") and name not in _KNOWING else ""
    return f"`{shlex.join(('aiobatch', *full))}`{keys}"


def with_remedy(text: str, remedy: Remedy | None) -> str:
    """Return *text* followed by the command, or the options, that *remedy* means."""
    if remedy is None:
        return text
    options = list(_options(remedy.options))
    if remedy.operation is None:
        return f"{text.rstrip('.')}. To allow it once, pass {shlex.join(options)}."
    words = [remedy.operation, *([] if remedy.audience is None else [remedy.audience])]
    if remedy.operation == "settle":
        words = ["wait", *words[1:], "--state"]
    if remedy.needs_source:
        words.append("FILE" if remedy.operation == "adopt" else _SOURCE)
    return f"{text.rstrip('.')}. Run {command(*words, *options)}."


def _options(options: Mapping[str, bool | int | str]) -> Iterator[str]:
    """Yield options as a command line has them."""
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", f"{value}")


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
    from ...sync.sources import has_literal_password  # noqa: PLC0415 - the engine is loaded where it reads a source

    return has_literal_password(source)
