"""A cattrs converter for documents that people edit: it refuses a wrong type and never converts it."""

from __future__ import annotations

import datetime as dt
import difflib
import functools
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs
import cattrs
import cattrs.preconf.orjson
from cattrs import AttributeValidationNote, IterableValidationNote
from cattrs.cols import (
    homogenous_tuple_structure_factory,
    is_mapping,
    list_structure_factory,
    mapping_structure_factory,
)
from cattrs.gen import make_dict_structure_fn, override

from ._option_fields import Check

_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}
_LONGEST_WORD: Final = 60

#: Keys and, in arrays, numbers that lead to a value.
KeyPath = tuple[str | int, ...]

_NOTES: Final = (AttributeValidationNote, IterableValidationNote)
_Hook = Callable[[Any, Any], Any]
_Factory = Callable[[Any, cattrs.Converter], _Hook]


def strict_converter() -> cattrs.Converter:
    """Return a converter that takes the fields of a class alone, and for each only its own type."""
    converter = cattrs.preconf.orjson.make_converter(forbid_extra_keys=True)
    for kind, hook in ((str, _read_text), (bool, _read_flag), (int, _read_count), (float, _read_number)):
        converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(dt.datetime, _read_time)
    converter.register_structure_hook(Path, lambda value, _: Path(_read_text(value, str)))
    converter.register_unstructure_hook(Path, str)
    factories: tuple[tuple[Callable[[Any], bool], _Factory], ...] = (
        (lambda kind: typing.get_origin(kind) is Literal, _word_hook),
        (lambda kind: typing.get_origin(kind) in (list, tuple), _array_hook),
        (is_mapping, _table_hook),
        (attrs.has, _class_hook),
    )
    for fits, factory in factories:
        converter.register_structure_hook_factory(fits, functools.partial(_hook, factory, converter))
    return converter


def check_kind(value: object, *kinds: type) -> None:
    """Raise TypeError if *value* is of none of *kinds*. A whole number is a number as well.

    Args:
        value: The value.
        *kinds: The types, exactly.
    """
    if type(value) not in kinds and not (type(value) is int and float in kinds):
        expected = " or ".join(_KINDS[kind] for kind in kinds)
        msg = f"must be {expected}, not {_KINDS.get(type(value), 'a time')}"
        raise TypeError(msg)


def errors_of(error: cattrs.BaseValidationError, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Exception]]:
    """Yield every error of a document, with the keys that lead to it.

    Args:
        error: What the converter raised.
        path: The keys that lead to the document.
    """
    for one in error.exceptions:
        notes = (note for note in getattr(one, "__notes__", ()) if isinstance(note, _NOTES))
        keys = [note.name if isinstance(note, AttributeValidationNote) else note.index for note in notes]
        if isinstance(one, cattrs.BaseValidationError):
            yield from errors_of(one, (*path, *keys))
        else:
            yield (*path, *keys), one


def suggest(word: str, known: Collection[str]) -> str:
    """Return `. Did you mean 'mode'?`, or nothing if no known word is similar."""
    close = difflib.get_close_matches(word, known, n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def _read_text(value: Any, cls: type[str]) -> str:
    check_kind(value, str)
    return cls(value)  # the class may be an enum of strings


def _read_flag(value: Any, _: object) -> bool:
    check_kind(value, bool)  # bool() would turn "false" into True
    return bool(value)


def _read_count(value: Any, _: object) -> int:
    check_kind(value, int)
    if value < 0:
        msg = f"must be at least 0, not {value}"
        raise ValueError(msg)
    return int(value)


def _read_number(value: Any, _: object) -> float:
    check_kind(value, float)
    if not math.isfinite(value):
        msg = "must be a finite number"
        raise ValueError(msg)
    return float(value)


def _read_time(value: Any, _: object) -> dt.datetime:
    moment = dt.datetime.fromisoformat(value)
    if moment.tzinfo is None:
        msg = "must have a time zone"
        raise ValueError(msg)
    return moment


def _hook(factory: _Factory, converter: cattrs.Converter, kind: Any) -> _Hook:
    return factory(kind, converter)


def _word_hook(kind: Any, _: cattrs.Converter) -> _Hook:
    """Return a hook for one of several words."""
    known = typing.get_args(kind)

    def structure(value: Any, _: object) -> Any:
        check_kind(value, str)
        if value not in known:
            shown = value if len(value) <= _LONGEST_WORD else f"{value[:_LONGEST_WORD]}…"
            msg = f"{shown!r} is none of {', '.join(known)}{suggest(value, known)}"
            raise ValueError(msg)
        return value

    return structure


def _array_hook(kind: Any, converter: cattrs.Converter) -> _Hook:
    """Return a hook for arrays. That of cattrs alone would iterate over the letters of a string."""
    is_list = typing.get_origin(kind) is list
    read = (list_structure_factory if is_list else homogenous_tuple_structure_factory)(kind, converter)
    return _of_kind(list, read)


def _table_hook(kind: Any, converter: cattrs.Converter) -> _Hook:
    """Return a hook for tables of any keys."""
    return _of_kind(dict, mapping_structure_factory(kind, converter))


def _class_hook(cls: Any, converter: cattrs.Converter) -> _Hook:
    """Return a hook that reads the fields of *cls*. The rule of an option adds to its type."""
    hooks: dict[str, Any] = {
        field.name: override(struct_hook=_checked(converter, field.metadata["check"]))
        for field in attrs.fields(cls)
        if field.metadata.get("check") is not None and field.metadata["check"].schema
    }
    return _of_kind(dict, make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **hooks))


def _of_kind(kind: type, read: _Hook) -> _Hook:
    """Return *read* for values of *kind* alone."""

    def structure(value: Any, target: Any) -> Any:
        check_kind(value, kind)
        return read(value, target)

    return structure


def _checked(converter: cattrs.Converter, check: Check) -> _Hook:
    """Return a hook that reads a value and applies the rule of its option."""

    def structure(value: Any, kind: Any) -> Any:
        if check.parse is not None and isinstance(value, str):
            value = check.parse(value)
        read = converter.structure(value, kind)
        if not check.keeps(read):
            msg = f"must be {check.text}, not {value!r}"
            raise ValueError(msg)
        return read

    return structure
