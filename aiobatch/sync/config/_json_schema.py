"""The JSON Schema of `aiobatch.toml`, for editors, and what makes such schemas of attrs classes."""

from __future__ import annotations

import collections.abc
import datetime as dt
import enum
import inspect
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from ._tables import ConfigTable, EnvVariable

#: The draft that editors of TOML know best.
DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_NONE: Final = types.NoneType
_PLAIN: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    _NONE: {"type": "null"},
    dt.datetime: {"type": "string", "format": "date-time"},
    EnvVariable: {"type": "string", "pattern": EnvVariable.pattern},
}
_SECTION = re.compile(r"^Attributes:\n(?P<body>(?:^[ ]+.*\n?|\n)*)", re.MULTILINE)
_ENTRY = re.compile(r"^    (?P<name>\w+): (?P<text>.+(?:\n {8,}.+)*)", re.MULTILINE)


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config."""
    return {"$schema": DRAFT, "title": "aiobatch.toml", **object_schema(ConfigTable)}


def object_schema(cls: type[attrs.AttrsInstance], *, nullable: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of an attrs class. Its docstring or the help of an option describes a field.

    Args:
        cls: The class.
        nullable: Whether a field that may be None is null. Otherwise it is left out.
    """
    fields = attrs.fields(attrs.resolve_types(cls))
    texts = _descriptions(cls)
    return {
        "type": "object",
        "description": (inspect.getdoc(cls) or "").partition("\n")[0],
        "properties": {
            field.name: _property(field, texts.get(field.name, ""), nullable=nullable) for field in fields
        },
        "required": [field.name for field in fields if nullable or field.default is attrs.NOTHING],
        "additionalProperties": False,
    }


def _property(field: attrs.Attribute[Any], text: str, *, nullable: bool) -> dict[str, Any]:
    """Return the schema of a field. The help of an option is its description."""
    description = {"description": field.metadata.get("help", text)}
    check = field.metadata.get("check")
    schema = _schema(field.type, nullable=nullable) | ({} if check is None else check.schema)
    if check is not None and check.pattern:
        schema = _any_of([schema, {"type": "string", "pattern": check.pattern}])
    return description | schema | description


def _descriptions(cls: type[Any]) -> dict[str, str]:
    """Return the descriptions of fields in the docstrings of a class and its bases."""
    texts: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        section = _SECTION.search(inspect.getdoc(one) or "")
        entries = _ENTRY.finditer(section["body"]) if section else ()
        texts |= {entry["name"]: " ".join(entry["text"].split()) for entry in entries}
    return texts


def _schema(kind: Any, *, nullable: bool) -> dict[str, Any]:
    """Return the schema of a type."""
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is not None:
        left_out = (...,) if nullable else (..., _NONE)
        inner = [_schema(one, nullable=nullable) for one in arguments if one not in left_out]
        return _composed(origin, inner)
    if issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    return object_schema(kind, nullable=nullable)


def _composed(origin: Any, inner: list[Any]) -> dict[str, Any]:
    """Return the schema of an array, a table or a union of *inner*."""
    if origin in {list, tuple}:
        return {"type": "array", "items": inner[0]}
    if origin in {dict, collections.abc.Mapping}:
        return {"type": "object", "additionalProperties": inner[1]}
    return inner[0] if len(inner) == 1 else _any_of(inner)


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of what fits one of several, in one word where they are all plain."""
    if all(schema.keys() == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}
