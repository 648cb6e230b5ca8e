"""The file that a plan is saved to."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InvalidInputError
from ...sync import Plan, PlanSet, Source

__all__ = ["check_savable", "save_plan"]


def check_savable(path: Path, *sources: Source) -> None:
    """Raise InvalidInputError if no plan of *sources* can be written to *path*, before anything is read.

    Args:
        path: The file of the plan.
        *sources: The sources of its members.
    """
    for source in sources:
        source.rereadable()
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        msg = f"{path}: The plan cannot be written there. Name a file in a directory that you can write to."
        raise InvalidInputError(msg)


def save_plan(plan: Plan | PlanSet, path: Path) -> None:
    """Write a plan, or those of a whole config, to a file.

    Args:
        plan: The plan or the plans.
        path: The file.

    Raises:
        InvalidInputError: It cannot be written.
    """
    try:
        plan.save(path)
    except OSError as error:
        msg = f"{path}: The plan cannot be written ({error.strerror}). Nothing was sent."
        raise InvalidInputError(msg) from None
