"""Texts and names as SQL: nothing comes into a statement but through these, or as a parameter."""

from __future__ import annotations


def literal(value: str) -> str:
    """Write *value* as a string of SQL."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Write *name* as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'
