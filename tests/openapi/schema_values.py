"""Strategies for the values that a JSON Schema allows, for the keywords that the documents use."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from .document import Document

_Schema = Mapping[str, Any]
Any_ = st.SearchStrategy[Any]


def schema_values(document: Document, schema: _Schema) -> Any_:
    """Return a strategy of the values that *schema* allows."""
    schema = document.follow(schema)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            rest = {key: one for key, one in schema.items() if key != word}
            return st.one_of(
                *(schema_values(document, _both(rest, document.follow(one))) for one in schema[word])
            )
    if "allOf" in schema:
        merged: _Schema = {}
        for one in schema["allOf"]:
            merged = _both(merged, document.follow(one))
        return schema_values(document, merged)
    kind = schema.get("type", "object")
    if isinstance(kind, list):
        return st.one_of(*(schema_values(document, {**schema, "type": one}) for one in kind))
    return _KINDS[kind](document, schema)


def _both(first: _Schema, second: _Schema) -> _Schema:
    """Return a schema with the requirements of both."""
    merged = {**first, **second}
    merged["required"] = [*first.get("required", ()), *second.get("required", ())]
    properties = first.get("properties", {})
    merged["properties"] = properties | {
        name: {**properties.get(name, {}), **one} for name, one in second.get("properties", {}).items()
    }
    return merged


def _text(_: Document, schema: _Schema) -> Any_:
    if "format" in schema:
        zone = "Z" if schema["format"] == "date-time" else ""
        moments = st.datetimes(min_value=dt.datetime(1900, 1, 1))  # noqa: DTZ001 - the zone is in the text
        return moments.map(lambda moment: f"{moment.replace(microsecond=0).isoformat()}{zone}")
    if "pattern" in schema:
        return st.from_regex(schema["pattern"].removesuffix("$") + r"\Z", fullmatch=False)
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=schema.get("minLength", 0))


def _number(_: Document, schema: _Schema) -> Any_:
    whole = st.integers(schema.get("minimum", -(2**53)), schema.get("maximum", 2**53))
    floats = st.floats(allow_nan=False, allow_infinity=False)
    return whole if schema["type"] == "integer" else whole | floats


def _list(document: Document, schema: _Schema) -> Any_:
    items = schema_values(document, schema["items"])
    return st.lists(items, min_size=schema.get("minItems", 0), max_size=min(schema.get("maxItems", 5), 5))


def _object(document: Document, schema: _Schema) -> Any_:
    """Return objects with all required and some optional properties."""
    required = {
        name: one for name, one in schema.get("properties", {}).items() if name in schema.get("required", ())
    }
    known = {name: one for name, one in schema.get("properties", {}).items() if name not in required}
    strategies = {name: schema_values(document, one) for name, one in (required | known).items()}
    return st.fixed_dictionaries(
        {name: strategies[name] for name in required}, optional={name: strategies[name] for name in known}
    )


_KINDS: Mapping[str, Callable[[Document, _Schema], Any_]] = {
    "string": _text,
    "integer": _number,
    "number": _number,
    "boolean": lambda _, __: st.booleans(),
    "null": lambda _, __: st.none(),
    "array": _list,
    "object": _object,
}
