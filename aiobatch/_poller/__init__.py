"""Waits for indexing tokens: one poller per client, whatever the number of waiters."""

from __future__ import annotations

from ._list_sweep import ListSweep
from ._poller import Poller
from ._settle import settle

__all__ = ["ListSweep", "Poller", "settle"]
