"""The client class, its lifetime, and operations that take several requests."""

from __future__ import annotations

from ._audience_client import AudienceClient
from ._base_client import send_built

__all__ = ["AudienceClient", "send_built"]
