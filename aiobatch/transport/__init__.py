"""The edge: requests go out, answers come back; no audience is known here."""

from __future__ import annotations

from ._base import Emit, Transport

__all__ = ["Emit", "Transport"]
