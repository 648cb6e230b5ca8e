"""SQL literals and identifiers. All other values in statements are parameters."""

from __future__ import annotations


def literal(value: str) -> str:
    """Return *value* as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return *name* as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
