"""SQL literals and identifiers, and the key of an ID. All other values in statements are parameters."""

from __future__ import annotations

from typing import Final

# 128 bits that stand for an ID. The salt is a part of the state's own random ID, since there are texts of
# equal MD5. DuckDB's hash() has 64 bits, collides for similar IDs and changes between versions.
KEY: Final = "md5_number('{salt}' || id)"


def literal(value: str) -> str:
    """Return *value* as an SQL string."""
    return "'" + value.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Return *name* as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
