"""Lines on stderr: text for people, or JSON objects that say what they are about."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Literal

import attrs
import orjson

from ._tables import clean

__all__ = [
    "Level",
    "is_json_lines",
    "json_line",
    "log_context",
    "print_error",
    "print_message",
    "update_log_context",
    "use_json_lines",
]

_LOGGER = "aiobatch.cli"

Level = Literal["info", "warning", "error"]


@attrs.define(kw_only=True)
class _About:
    """What lines are about, as far as that is known.

    Attributes:
        audience: The audience's name.
        target: The config's name of the app or project.
        phase: What its run is doing.
        run: The run's number in the history.
    """

    audience: str | None = None
    target: str | None = None
    phase: str | None = None
    run: int | None = None


_json: ContextVar[bool] = ContextVar("json", default=False)
_about: ContextVar[_About | None] = ContextVar("about", default=None)


def is_json_lines() -> bool:
    """Tell whether lines are JSON objects."""
    return _json.get()


@contextlib.contextmanager
def use_json_lines(wanted: bool) -> Iterator[None]:  # noqa: FBT001  # it says what the name asks
    """Let lines be JSON objects for a while, or text."""
    before = _json.set(wanted)
    try:
        yield
    finally:
        _json.reset(before)


@contextlib.contextmanager
def log_context(**known: Any) -> Iterator[None]:
    """Let lines of this task, and of those that it starts, be about something for a while.

    Args:
        **known: Fields of `_About`.
    """
    before = _about.set(attrs.evolve(_about.get() or _About(), **known))
    try:
        yield
    finally:
        _about.reset(before)


def update_log_context(**known: Any) -> None:
    """Let lines be about something more from here on, wherever `about` holds.

    Args:
        **known: Fields of `_About`.
    """
    now = _about.get()
    if now is not None:
        for name, value in known.items():
            setattr(now, name, value)


def print_error(text: str, error: BaseException | None = None) -> None:
    """Write an error, in one line of text that begins with the program's name.

    Args:
        text: What went wrong, and what to do next.
        error: What was raised; it may know what it is about.
    """
    known = {name: getattr(error, name, None) for name in ("audience", "run")}
    with log_context(**{name: value for name, value in known.items() if value is not None}):
        print_message(text, "error", prefix="aiobatch: ")


def print_message(text: str, level: Level = "info", *, prefix: str = "") -> None:
    """Write a message.

    Args:
        text: What to say.
        level: How bad it is; text does not show it.
        prefix: What text begins with, and JSON does not.
    """
    _write(json_line(level, _LOGGER, clean(text)) if is_json_lines() else f"{prefix}{clean(text)}")


def json_line(level: str, logger: str, message: str, **more: Any) -> str:
    """Write what a line says, and what it is about, as a JSON object.

    Args:
        level: How bad it is.
        logger: Which part says it.
        message: What it says.
        **more: Further fields, or others in place of these.
    """
    fields = {"time": dt.datetime.now(dt.UTC), "level": level, "logger": logger, "message": message}
    known = attrs.asdict(_about.get() or _About(), filter=lambda _, value: value is not None)
    return orjson.dumps({**fields, **known, **more}, option=orjson.OPT_UTC_Z).decode()


def _write(text: str) -> None:
    """Write a line; where nobody can read it any more, that is no reason to end what is under way."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
