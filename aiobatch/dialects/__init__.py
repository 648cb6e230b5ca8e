"""Requests and responses of each generation of Batch's API, without I/O. `Dialect` is the interface."""

from __future__ import annotations

from ..options import App, Project
from ._base import Dialect, ListedState, Page, StatesPage
from ._decoding import Report

__all__ = ["Dialect", "ListedState", "Page", "StatesPage", "dialect_for"]


def dialect_for(target: App | Project, report: Report | None = None) -> Dialect:
    """Return the dialect of *target*'s API.

    Args:
        target: The app or project.
        report: Called once for each field of a response that cannot be read, and for an undocumented type of
            IDs, with what was noticed, the field and details. None to ignore them.
    """
    # Most programs use one of them.
    if isinstance(target, App):
        from .mep import MepDialect  # noqa: PLC0415

        return MepDialect(target, report)
    from .cep import CepDialect  # noqa: PLC0415

    return CepDialect(target, report)
