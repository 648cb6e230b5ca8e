"""Requests and responses of each generation of Batch's API, without I/O. `Dialect` is the interface."""

from __future__ import annotations

from ..options import App, Project
from ._base import Dialect, ListedState, Page, StatesPage
from ._decoding import Report
from .cep import CepDialect
from .mep import MepDialect

__all__ = ["Dialect", "ListedState", "Page", "StatesPage", "dialect_for"]


def dialect_for(target: App | Project, report: Report | None = None) -> Dialect:
    """Return the dialect of *target*'s API.

    Args:
        target: The app or project.
        report: Called once for each field of a response that cannot be read, and for an undocumented type of
            IDs, with what was noticed, the field and details. None to ignore them.
    """
    return MepDialect(target, report) if isinstance(target, App) else CepDialect(target, report)
