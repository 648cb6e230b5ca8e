"""Commands to paste: completed with the state, the keys and the source of the current command.

Errors and warnings of the library carry a `Remedy`. Only the command line knows the rest.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final

import attrs

from ...errors import InvalidInputError, Remedy
from .._arguments import STDIN

__all__ = ["command", "command_context", "context_option", "flatten_options", "with_remedy"]

_SOURCE: Final = "SOURCE"
_DELTA_MODES: Final = frozenset({"add", "remove"})
_LOCAL: Final = frozenset({"status", "runs", "show"})  # commands that need the state and no keys
_STATEFUL: Final = _LOCAL | {"sync", "plan", "resync", "adopt", "rollback", "forget", "verify", "settle"}
# Options that define how a source is read.
_READING: Final = (
    "query",
    "id_column",
    "attributes",
    "tags_column",
    "format",
    "delimiter",
    "id_type",
    "lint",
)

_context: ContextVar[Mapping[str, Any]] = ContextVar("context", default={})  # noqa: B039  # never changed in place


@contextlib.contextmanager
def command_context(**options: Any) -> Iterator[None]:
    """Complete commands with *options* while the context lasts, in addition to those of an outer context.

    Args:
        **options: Arguments and options by name. If a config supplies the place, `config` is its path,
            `config_target` the app or project in it, and `has_source` whether it has the source.
    """
    before = _context.set({**_context.get(), **options})
    try:
        yield
    finally:
        _context.reset(before)


def context_option(name: str, default: Any = None) -> Any:
    """Return an option of the current command, or *default* if it has none of this name."""
    return _context.get().get(name, default)


def flatten_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments and options by name, including those in groups."""
    found: dict[str, Any] = {}
    for name, value in arguments.items():
        if attrs.has(type(value)):
            found |= flatten_options(attrs.asdict(value, recurse=False))
        else:
            found[name] = value
    return found


def command(*words: str) -> str:
    """Return a command in backticks that uses the same state, keys and source as the current command.

    Args:
        *words: The command and its arguments. `SOURCE` stands for the source and the options that read it.
    """
    context, name = _context.get(), words[0]
    full = [word for one in words for word in (_source(context) if one == _SOURCE else [one])]
    if name in _STATEFUL:
        full += [*_config(context, name), *_state(context)]
    elif name == "apply":  # a plan has its state
        full += _config(context, name)
    if name not in _LOCAL:
        for option, value in (("--env-file", context.get("env_file")), ("--api", context.get("api"))):
            full += [option, f"{value}"] if value else []
    return f"`{shlex.join(('aiobatch', *full))}`"


def with_remedy(text: str, remedy: Remedy | None) -> str:
    """Return *text* followed by the command or the options of *remedy*."""
    if remedy is None:
        return text
    options = list(_options(remedy.options))
    if remedy.operation is None:
        return f"{text.rstrip('.')}. To allow it once, pass {shlex.join(options)}."
    words = [remedy.operation, *([] if remedy.audience is None else [remedy.audience])]
    if remedy.needs_source:
        # What an audience holds already is rarely the source of the run that found it.
        words.append("FILE" if remedy.operation == "adopt" else _SOURCE)
    return f"{text.rstrip('.')}. Run {command(*words, *options)}."


def _options(options: Mapping[str, bool | int | str]) -> Iterator[str]:
    """Yield options as words of a command line."""
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", f"{value}")


def _config(context: Mapping[str, Any], name: str) -> list[str]:
    """Return the options of the config, and of the app or project in it."""
    config, target = context.get("config"), context.get("config_target")
    if config is None:
        return []
    return ["--config", str(config), *(["--target", target] if target and name not in _LOCAL else [])]


def _state(context: Mapping[str, Any]) -> list[str]:
    """Return the option of the state file unless it is the default."""
    state = context.get("state")
    if state is None:
        return []
    from ...sync import default_state_path  # noqa: PLC0415 - only commands with a state load the engine

    with contextlib.suppress(InvalidInputError):  # a user without a home has no default
        if str(state) == str(default_state_path()):
            return []
    return ["--state", str(state)]


def _source(context: Mapping[str, Any]) -> list[str]:
    """Return the source and its options, or a placeholder if the source is unknown, a pipe or secret.

    A source to add or to remove is not the list of members. A resync with it would make it that.
    """
    source = context.get("source")
    if not source and context.get("has_source") and context.get("mode") not in _DELTA_MODES:
        return []  # the config has it
    if source in {None, "", STDIN} or context.get("mode") in _DELTA_MODES or _has_password(source):
        return [_SOURCE]
    options = {f"--{name.replace('_', '-')}": context.get(name) for name in _READING}
    flags = [f"--no-{name}" for name in ("trim", "header") if context.get(name) is False]
    return [
        source,
        *(word for name, value in options.items() if value for word in (name, f"{value}")),
        *flags,
    ]


def _has_password(source: str) -> bool:
    """Return whether an address contains a password."""
    if "://" not in source:
        return False
    from ...sync.sources import has_literal_password  # noqa: PLC0415 - only commands with a source load the engine

    return has_literal_password(source)
