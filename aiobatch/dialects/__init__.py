"""The wire without I/O: what to send for each operation, and what an answer means.

One dialect for each of Batch's API generations, one interface for all: see `Dialect`.
"""

from __future__ import annotations

from ..options import App, Project
from ._base import Dialect, ListedState, Page, StatesPage
from ._member_encoding import check_members
from .cep import CepDialect
from .mep import MepDialect

__all__ = ["Dialect", "ListedState", "Page", "StatesPage", "check_members", "dialect_for"]


def dialect_for(target: App | Project) -> Dialect:
    """Return the dialect that *target* speaks."""
    return MepDialect(target) if isinstance(target, App) else CepDialect(target)
