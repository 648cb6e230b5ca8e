"""Log lines on stderr, as text or as JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import sys
from collections.abc import Iterator
from typing import TextIO

import orjson

from ._options import GlobalOptions
from ._output import is_screen

__all__ = ["logging_to_stderr"]

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


class _JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        fields = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(fields, option=orjson.OPT_UTC_Z).decode()


@contextlib.contextmanager
def logging_to_stderr(options: GlobalOptions) -> Iterator[None]:
    """Log on stderr for a while.

    Args:
        options: From which level on, and how.
    """
    handler = _StderrHandler()
    if options.log_level is None and not options.verbose and is_screen(sys.stderr):
        handler.addFilter(lambda record: record.name != _SHOWN_BY_BARS)
    handler.setFormatter(_JsonFormatter() if options.log_format == "json" else logging.Formatter(_TEXT))
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
