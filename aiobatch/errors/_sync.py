"""The base class of the sync engine's errors."""

from __future__ import annotations

from typing import Any

from ._base import AiobatchError
from ._remedy import Remedy


class SyncError(AiobatchError):
    """A sync run failed. The sync engine's other errors derive from this one.

    As text the error ends with the library's call that fixes it, if there is one.

    Attributes:
        report: A `SyncReport` of what the run did before it failed. None if it had not started.
        remedy: The operation that fixes the problem. None if no single operation does.
    """

    report: Any = None
    remedy: Remedy | None = None

    @property
    def text(self) -> str:
        """The message without the remedy."""
        return super().__str__()

    def __str__(self) -> str:
        return self.text if self.remedy is None else f"{self.text.rstrip('.')}. {self.remedy}"
