"""Log records whose text and `extra` carry the same fields."""

from __future__ import annotations

import logging
import re
from typing import Any

__all__ = ["log"]

# A value that needs no quotes.
_WORD = re.compile(r"[\w.,:/@*+-]+", re.ASCII)


def log(logger: logging.Logger, level: int, text: str, /, **fields: Any) -> None:
    """Log *text*, followed by *fields* as `key=value`. The record has each field as an attribute too.

    Args:
        logger: The logger.
        level: The level.
        text: The event, in lower case.
        **fields: The fields of the record. The text leaves out those that are None.
    """
    if not logger.isEnabledFor(level):
        return
    shown = {name: _format(value) for name, value in fields.items() if value is not None}
    # The template is the same for each record of a kind, so that a collector can group them.
    template = f"{text}: {' '.join(f'{name}=%({name})s' for name in shown)}" if shown else text
    logger.log(level, template, *([shown] if shown else []), extra=fields, stacklevel=2)


def _format(value: object) -> str:
    """Format a value: a float with three decimals at most, and a text with spaces as Python does."""
    if isinstance(value, float):
        return str(round(value, 3))
    text = str(value)
    return text if _WORD.fullmatch(text) else repr(text)
