"""Log lines on stderr, as text or as JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import attrs

from ...events import Event, EventHook, RequestFinished, TokenSettled
from ..options._common import GlobalOptions
from ._command_hints import with_remedy
from ._messages import json_line
from ._tables import is_screen

__all__ = ["log_events", "logging_to_stderr"]

_client = logging.getLogger("aiobatch.client")

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# Pauses stand beside the bars, where there are some.
_SHOWN_BY_BARS = "aiobatch.pacing"
_VERBOSE = ("warning", "info", "debug")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is by then: a progress display replaces it while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # typeshed has a plain attribute
        """The current stderr."""
        return sys.stderr


class _Formatter(logging.Formatter):
    """Writes a record as lines of text, or as one JSON object.

    Args:
        as_json: Which of them; a thread that logs knows nothing of what the command was told.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(_TEXT)
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        remedy = getattr(record, "remedy", None)
        if not self._as_json:
            return with_remedy(super().format(record), remedy)
        more: dict[str, Any] = {"time": dt.datetime.fromtimestamp(record.created, dt.UTC)}
        if record.exc_info:
            more["traceback"] = self.formatException(record.exc_info)
        return json_line(
            record.levelname.lower(), record.name, with_remedy(record.getMessage(), remedy), **more
        )


def log_events(hook: EventHook | None) -> EventHook:
    """Return a hook that logs what a client does, and then calls *hook*.

    Args:
        hook: Takes the events as well; None for nobody.
    """

    def log(event: Event) -> None:
        level = logging.INFO if isinstance(event, RequestFinished | TokenSettled) else logging.DEBUG
        if _client.isEnabledFor(level):
            _client.log(level, "%s", _describe(event))
        if hook is not None:
            hook(event)

    return log


def _describe(event: Event) -> str:
    """Write an event, which holds no key and no id."""
    if isinstance(event, RequestFinished):
        return f"{event.method} {event.path}: {event.status or event.error} in {event.seconds:.2f} s"
    if isinstance(event, TokenSettled):
        return (
            f"audience {event.audience!r}: {event.outcome} after {event.polls} polls, {event.seconds:.1f} s"
        )
    fields = ", ".join(f"{name}={value}" for name, value in attrs.asdict(event).items())
    return f"{type(event).__name__}({fields})"


@contextlib.contextmanager
def logging_to_stderr(options: GlobalOptions) -> Iterator[None]:
    """Log on stderr for a while.

    Args:
        options: From which level on, and how.
    """
    handler = _StderrHandler()
    if options.log_level is None and not options.verbose and is_screen(sys.stderr):
        handler.addFilter(lambda record: record.name != _SHOWN_BY_BARS)
    handler.setFormatter(_Formatter(as_json=options.log_format == "json"))
    root, ours = logging.getLogger(), logging.getLogger("aiobatch")
    before = ours.level
    ours.setLevel(_level(options))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        ours.setLevel(before)


def _level(options: GlobalOptions) -> int:
    """Return the level to log from."""
    if options.log_level is not None:
        name: str = options.log_level
    elif options.quiet and not options.verbose:
        name = "error"
    else:
        name = _VERBOSE[min(options.verbose, len(_VERBOSE) - 1)]
    return logging.getLevelNamesMapping()[name.upper()]
