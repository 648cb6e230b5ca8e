"""Lines on stderr: text for people, or JSON objects with a context."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal

import attrs
import orjson
from rich.console import Console

from ._tables import clean, is_screen

__all__ = [
    "Level",
    "is_json_lines",
    "json_line",
    "log_context",
    "mask_passwords",
    "print_error",
    "print_message",
    "update_log_context",
    "use_json_lines",
]

Level = Literal["info", "warning", "error"]

# A command in backticks, or a word.
_WORD = re.compile(r"\S*`[^`]*`\S*|\S+")
# The user and the password of an address, or a password among its parameters.
_PASSWORD = re.compile(r"(?<=://)[^\s'\"]*@|(?<=password=)[^\s'\"&]*")


@attrs.define(kw_only=True)
class _LogContext:
    """What lines are about, as far as it is known.

    Attributes:
        audience: The audience's name.
        target: The app's or project's name in the config.
        phase: The phase of its run.
        run: The run's number in the history.
    """

    audience: str | None = None
    target: str | None = None
    phase: str | None = None
    run: int | None = None


_json: ContextVar[bool] = ContextVar("json", default=False)
_log_context: ContextVar[_LogContext | None] = ContextVar("log_context", default=None)


def is_json_lines() -> bool:
    """Return whether lines are JSON objects."""
    return _json.get()


@contextlib.contextmanager
def use_json_lines(wanted: bool) -> Iterator[None]:  # noqa: FBT001  # the function's name explains it
    """Write lines as JSON objects, or as text, while the context lasts."""
    before = _json.set(wanted)
    try:
        yield
    finally:
        _json.reset(before)


@contextlib.contextmanager
def log_context(**known: Any) -> Iterator[None]:
    """Set fields of the lines of this task, and of tasks that it starts, while the context lasts.

    Args:
        **known: Fields of `_LogContext`.
    """
    before = _log_context.set(attrs.evolve(_log_context.get() or _LogContext(), **known))
    try:
        yield
    finally:
        _log_context.reset(before)


def update_log_context(**known: Any) -> None:
    """Set fields of the innermost `log_context`, if there is one.

    Args:
        **known: Fields of `_LogContext`.
    """
    now = _log_context.get()
    if now is not None:
        for name, value in known.items():
            setattr(now, name, value)


def mask_passwords(text: str) -> str:
    """Return *text* with `***` for passwords in addresses."""
    return _PASSWORD.sub(lambda match: "***@" if match[0].endswith("@") else "***", text)


def print_error(text: str, error: BaseException | None = None) -> None:
    """Print an error. A line of text begins with the program's name.

    Args:
        text: The reason and the fix.
        error: The error. Its `audience` and `run` become fields of the line.
    """
    known = {name: getattr(error, name, None) for name in ("audience", "run")}
    with log_context(**{name: value for name, value in known.items() if value is not None}):
        print_message(text, "error", prefix="aiobatch: ")


def print_message(text: str, level: Level = "info", *, prefix: str = "") -> None:
    """Print a message.

    Args:
        text: The message.
        level: Its severity, a field of a JSON line.
        prefix: The start of a line of text. A JSON line has none.
    """
    text = clean(text)
    line = json_line(level, "aiobatch.cli", text) if is_json_lines() else f"{prefix}{text}"
    if is_screen(sys.stderr) and not is_json_lines():
        line = _wrapped(line, _width())
    if sys.stderr is not None:
        with contextlib.suppress(OSError):  # a closed or full stderr is no reason to end the command
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


def _width() -> int:
    """Return the width of the terminal."""
    return Console(stderr=True).width


def _wrapped(text: str, width: int) -> str:
    """Break a line between words. A command to paste stays in one piece, however long it is."""
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return "\n".join(lines)


def json_line(level: str, logger: str, message: str, **more: Any) -> str:
    """Return a JSON line with the fields of the log context.

    Args:
        level: The severity.
        logger: The name of the logger.
        message: The message.
        **more: More fields, which replace these.
    """
    fields = {"time": dt.datetime.now(dt.UTC), "level": level, "logger": logger, "message": message}
    known = attrs.asdict(_log_context.get() or _LogContext(), filter=lambda _, value: value is not None)
    return orjson.dumps({**fields, **known, **more}, option=orjson.OPT_UTC_Z).decode()
