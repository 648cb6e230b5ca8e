"""The client: one class, its lifetime, and the operations of several requests."""

from __future__ import annotations

from ._audience_client import AudienceClient

__all__ = ["AudienceClient"]
