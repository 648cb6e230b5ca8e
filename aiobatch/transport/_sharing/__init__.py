"""One limit for several clients: of one process, of all processes of a machine, or of many machines."""

from __future__ import annotations

from ._group import Member, RateGroup
from ._limit import SharedLimit, Store
from ._scope import SharingScope

__all__ = ["Member", "RateGroup", "SharedLimit", "SharingScope", "Store"]
