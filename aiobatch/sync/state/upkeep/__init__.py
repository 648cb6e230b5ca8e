"""What commands need of a state beside its runs: locks, alerts and private files."""

from __future__ import annotations

from ..._private_files import save_private
from ._held_locks import HeldLock, held_locks
from ._open_alerts import read_open_alerts, write_open_alerts

__all__ = ["HeldLock", "held_locks", "read_open_alerts", "save_private", "write_open_alerts"]
