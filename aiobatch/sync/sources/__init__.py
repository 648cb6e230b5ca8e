"""Sources of IDs, and how they are read into one staged table."""

from __future__ import annotations

from ._dsn import has_literal_password, redact
from ._source import Files

__all__ = ["Files", "has_literal_password", "redact"]
