"""Waiting for indexing tokens: one scheduler per client, however many wait."""

from __future__ import annotations

from ._scheduler import Poller
from ._settle import settle
from ._sweep import ListSweep

__all__ = ["ListSweep", "Poller", "settle"]
