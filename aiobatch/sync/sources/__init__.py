"""Sources of IDs, and how they are read into one staged table."""

from __future__ import annotations

from ._dsn import has_literal_password, redact
from ._id_rules import IdRules
from ._location import Files
from ._read_ids import read_ids

__all__ = ["Files", "IdRules", "has_literal_password", "read_ids", "redact"]
