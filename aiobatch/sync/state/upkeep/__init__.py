"""Work on a whole state: copies of it, and what an open run of it waits for."""

from __future__ import annotations

from ._held_locks import HeldLock, held_locks

__all__ = ["HeldLock", "held_locks"]
