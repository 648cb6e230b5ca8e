"""What commands need of a state beside its runs: who holds its locks, and private files."""

from __future__ import annotations

from ..._private_files import save_private
from ._held_locks import HeldLock, held_locks

__all__ = ["HeldLock", "held_locks", "save_private"]
