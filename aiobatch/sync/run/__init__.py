"""The run of one audience, and the writes of other commands that a run has to know."""

from __future__ import annotations

from ._outside_write import OutsideWrite

__all__ = ["OutsideWrite"]
