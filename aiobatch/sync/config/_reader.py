"""Reads plain values into the classes of `_config_tables`, and says why and where one does not fit."""

from __future__ import annotations

import difflib
import enum
import math
import re
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, Literal

import attrs

from ._line_numbers import Path
from ._tables import EnvVariable

_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}
_KEY = (
    'must name an environment variable, such as "${BATCH_REST_API_KEY}": a key never stands in a file. '
    "If this is a real one, replace it at Batch, since whoever reads the file has it"
)
# Words of JSON Schema, what a number that keeps them is, and how to say so.
_CONSTRAINTS: Mapping[str, tuple[Any, str]] = {
    "minimum": (lambda value, bound: value >= bound, "at least {}"),
    "maximum": (lambda value, bound: value <= bound, "at most {}"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "above {}"),
    "pattern": (lambda value, bound: re.search(bound, value) is not None, "of the form {}"),
}


@attrs.frozen
class Problem:
    """What is wrong with a config.

    Attributes:
        path: The key.
        text: What is wrong with it, and what to do.
        line: Where it stands; None where it does not.
    """

    path: Path
    text: str
    line: int | None = None

    @property
    def key(self) -> str:
        """The key as a person writes it: `audiences.vip.mode`."""
        return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.path).lstrip(".")


def suggest(word: str, known: Collection[str]) -> str:
    """Return `; did you mean 'mode'?`, or nothing where no known word is like it."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def name_of(key: str) -> str:
    """Show a word that a user wrote: in full, but not a page of it."""
    return repr(key if len(key) <= 60 else f"{key[:60]}…")  # noqa: PLR2004 - characters that fit a line


def fields_of(cls: type[attrs.AttrsInstance]) -> Mapping[str, attrs.Attribute[Any]]:
    """Return the fields of a table by name, their types resolved."""
    return {field.name: field for field in attrs.fields(attrs.resolve_types(cls))}


class _WrongError(Exception):
    """A value does not fit; the text says why."""


@attrs.define
class Reader:
    """Reads values, and notes what is wrong with them.

    Attributes:
        lines: Where keys stand.
        problems: What was wrong so far.
        unread: Tables that could not be read, so that nobody complains that they are not there.
    """

    lines: Mapping[Path, int]
    problems: list[Problem] = attrs.field(factory=list)
    unread: set[Path] = attrs.field(factory=set)

    def complain(self, path: Path, text: str) -> None:
        """Note what is wrong with the value of *path*."""
        known = (path[:length] for length in range(len(path), 0, -1))
        line = next((self.lines[prefix] for prefix in known if prefix in self.lines), None)
        self.problems.append(Problem(path, text, line))

    def table(self, cls: type[Any], value: Mapping[str, Any], path: Path) -> Any:
        """Read a table.

        Args:
            cls: What it is.
            value: Its keys and values.
            path: Where it stands.

        Returns:
            An instance of *cls*; None where a key that must be there is missing or wrong.
        """
        fields = fields_of(cls)
        for key in value.keys() - fields.keys():
            self.complain((*path, key), f"there is no such key{suggest(key, fields)}")
        values = {
            name: self._read(field, value[name], (*path, name))
            for name, field in fields.items()
            if name in value
        }
        missing = [name for name, field in fields.items() if field.default is attrs.NOTHING]
        for name in missing:
            if name not in value:
                self.complain(path, f"{name!r} is missing")
        if any(values.get(name) is None for name in missing):
            self.unread.add(path)
            return None
        return cls(**{name: one for name, one in values.items() if one is not None})

    def _read(self, field: attrs.Attribute[Any], value: Any, path: Path) -> Any:
        """Read the value of a field; None where it does not fit."""
        try:
            read = self._value(field.type, value, path)
            _check(field.metadata, read)
        except _WrongError as error:
            self.complain(path, str(error))
            return None
        return read

    def _value(self, kind: Any, value: Any, path: Path) -> Any:
        """Read a value of type *kind*."""
        kinds = _alternatives(kind)
        fitting = next((one for one in kinds if _fits(one, value)), None)
        if fitting is None:
            expected = " or ".join(dict.fromkeys(_NAMES[_plain(one)] for one in kinds))
            msg = f"must be {expected}, not {_NAMES.get(type(value), 'a time')}"
            raise _WrongError(msg)
        origin = typing.get_origin(fitting)
        if attrs.has(fitting) and fitting is not EnvVariable:
            return self.table(fitting, value, path)
        if origin is dict:
            return self._dict(typing.get_args(fitting)[1], value, path)
        if origin is list:
            return [self._value(str, one, (*path, number)) for number, one in enumerate(value)]
        return _scalar(fitting, value)

    def _dict(self, kind: Any, value: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Read a table of tables, or of strings; what does not fit is left out."""
        read: dict[str, Any] = {}
        for key, one in value.items():
            try:
                read[key] = self._value(kind, one, (*path, key))
            except _WrongError as error:
                self.complain((*path, key), str(error))
        return {key: one for key, one in read.items() if one is not None}


def _alternatives(kind: Any) -> list[Any]:
    """Return the types of a union but None, or the one type."""
    kinds = typing.get_args(kind) if typing.get_origin(kind) in {types.UnionType, typing.Union} else (kind,)
    return [one for one in kinds if one is not types.NoneType]


def _plain(kind: Any) -> type:
    """Return TOML's own type of what *kind* is written as."""
    origin = typing.get_origin(kind)
    if origin is Literal or kind is EnvVariable or issubclass(origin or kind, str):
        return str
    return dict if attrs.has(kind) else origin or kind


def _fits(kind: Any, value: Any) -> bool:
    """Tell whether a value is of TOML's type for *kind*; a whole number is a number as well."""
    plain = _plain(kind)
    return type(value) is plain or (plain is float and type(value) is int)


def _scalar(kind: Any, value: Any) -> Any:
    """Read a value that holds no others."""
    if kind is EnvVariable:
        variable = EnvVariable.parse(value)
        if variable is None:
            raise _WrongError(_KEY)
        return variable
    if typing.get_origin(kind) is Literal:
        return _one_of(typing.get_args(kind), value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(_one_of([member.value for member in kind], value))
    if isinstance(value, float) and not math.isfinite(value):
        msg = "must be a finite number"
        raise _WrongError(msg)
    return value


def _one_of(known: Collection[str], word: str) -> str:
    """Return *word* if it is one of those that are known."""
    if word not in known:
        msg = f"{name_of(word)} is none of {', '.join(known)}{suggest(word, known)}"
        raise _WrongError(msg)
    return word


def _check(constraints: Mapping[str, Any], value: Any) -> None:
    """Check a value against constraints in the words of JSON Schema."""
    for word, bound in constraints.items():
        keeps, text = _CONSTRAINTS[word]
        if not keeps(value, bound):
            msg = f"must be {text.format(bound)}, not {value!r}"
            raise _WrongError(msg)
