"""Log lines on stderr, as text or as JSON."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import attrs

from ..._logs import log
from ...events import Event, EventHook, RequestFinished, TokenSettled
from ..options._common import GlobalOptions
from ._command_hints import with_remedy
from ._messages import json_line
from ._tables import clean, is_screen

__all__ = ["log_events", "logging_to_stderr"]

_client = logging.getLogger("aiobatch.client")

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# The local time with its offset, as in the logs of other machines.
_TIME = "%Y-%m-%dT%H:%M:%S%z"
# The bars show the pauses that this logger reports.
_SHOWN_BY_BARS = "aiobatch.pacing"
_VERBOSE = ("warning", "info", "debug")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current stderr, which a progress display replaces for a time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # typeshed has a plain attribute
        """The current stderr."""
        return sys.stderr


class _Formatter(logging.Formatter):
    """Formats a record as text or as JSON.

    Args:
        as_json: Whether to format JSON. Threads that log do not see the context variable of the command.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(_TEXT, _TIME)
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        remedy = getattr(record, "remedy", None)
        if not self._as_json:
            record = copy.copy(record)
            record.msg, record.args = clean(record.getMessage()), None
            return with_remedy(super().format(record), remedy)
        more: dict[str, Any] = {"time": dt.datetime.fromtimestamp(record.created, dt.UTC)}
        if record.exc_info:
            more["traceback"] = self.formatException(record.exc_info)
        return json_line(
            record.levelname.lower(), record.name, with_remedy(record.getMessage(), remedy), **more
        )


def log_events(hook: EventHook | None) -> EventHook:
    """Return a hook that logs the events of a client and then calls *hook*.

    Args:
        hook: Receives the events too. None: no other hook.
    """

    def log_event(event: Event) -> None:
        level = logging.INFO if isinstance(event, RequestFinished | TokenSettled) else logging.DEBUG
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(event).__name__).lower()
        log(_client, level, name, **attrs.asdict(event))
        if hook is not None:
            hook(event)

    return log_event


@contextlib.contextmanager
def logging_to_stderr(options: GlobalOptions) -> Iterator[None]:
    """Write log lines to stderr while the context lasts.

    Args:
        options: The level and the format.
    """
    handler = _StderrHandler()
    if options.log_level is None and not options.verbose and is_screen(sys.stderr):
        handler.addFilter(lambda record: record.name != _SHOWN_BY_BARS)
    handler.setFormatter(_Formatter(as_json=options.log_format == "json"))
    root, package = logging.getLogger(), logging.getLogger("aiobatch")
    before = package.level
    package.setLevel(_level(options))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        package.setLevel(before)


def _level(options: GlobalOptions) -> int:
    """Return the lowest level to log."""
    if options.log_level is not None:
        name: str = options.log_level
    elif options.quiet and not options.verbose:
        name = "error"
    else:
        name = _VERBOSE[min(options.verbose, len(_VERBOSE) - 1)]
    return logging.getLevelNamesMapping()[name.upper()]
