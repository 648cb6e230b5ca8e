"""Reads documents that a person may have edited: a value of another type is refused, never converted."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import cattrs
import cattrs.preconf.orjson


def strict_converter() -> cattrs.Converter:
    """Return a converter that takes a class's own fields only, and for each only what was written for it."""
    converter = cattrs.preconf.orjson.make_converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(int, _count)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(dt.datetime, _moment)
    return converter


def _text(value: Any, cls: type[str]) -> str:
    """Take a text; an enum of strings is one too, and is read as the enum that it is."""
    if type(value) is not str:
        msg = "must be a text"
        raise TypeError(msg)
    return cls(value)


def _boolean(value: Any, _: object) -> bool:
    """Take true or false; bool() would make True of "false"."""
    if type(value) is not bool:
        msg = "must be true or false"
        raise TypeError(msg)
    return value


def _count(value: Any, _: object) -> int:
    """Take a whole number that counts something."""
    if type(value) is not int or value < 0:
        msg = "must be a whole number of at least 0"
        raise TypeError(msg)
    return value


def _number(value: Any, _: object) -> float:
    """Take a finite number."""
    if type(value) not in {int, float} or not math.isfinite(value):
        msg = "must be a finite number"
        raise TypeError(msg)
    return float(value)


def _moment(value: Any, _: object) -> dt.datetime:
    """Take a time that says its zone."""
    moment = dt.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        msg = "must say its time zone"
        raise ValueError(msg)
    return moment
