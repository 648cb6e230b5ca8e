"""A strict converter for documents that a person may have edited: it never converts types."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

import cattrs
import cattrs.preconf.orjson


def strict_converter() -> cattrs.Converter:
    """Return a converter that rejects unknown fields, and values of another type than the field's."""
    converter = cattrs.preconf.orjson.make_converter(forbid_extra_keys=True)
    converter.register_structure_hook(str, _to_str)
    converter.register_structure_hook(bool, _to_bool)
    converter.register_structure_hook(int, _to_count)
    converter.register_structure_hook(float, _to_float)
    converter.register_structure_hook(dt.datetime, _to_datetime)
    return converter


def _to_str(value: Any, cls: type[str]) -> str:
    if type(value) is not str:
        msg = "must be text"
        raise TypeError(msg)
    return cls(value)  # the class may be an enum of strings


def _to_bool(value: Any, _: object) -> bool:
    if type(value) is not bool:
        msg = "must be true or false"
        raise TypeError(msg)
    return value


def _to_count(value: Any, _: object) -> int:
    if type(value) is not int or value < 0:
        msg = "must be a whole number of at least 0"
        raise TypeError(msg)
    return value


def _to_float(value: Any, _: object) -> float:
    if type(value) not in {int, float} or not math.isfinite(value):
        msg = "must be a finite number"
        raise TypeError(msg)
    return float(value)


def _to_datetime(value: Any, _: object) -> dt.datetime:
    moment = dt.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        msg = "must have a time zone"
        raise ValueError(msg)
    return moment
