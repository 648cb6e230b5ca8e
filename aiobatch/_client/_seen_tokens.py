"""Indexing tokens that a client has seen, because two writes never share one."""

from __future__ import annotations

# Enough for the chunks of an upload of a hundred million IDs.
_KEPT = 10_000


class SeenTokens:
    """The latest tokens. Above a limit the oldest one is dropped."""

    def __init__(self) -> None:
        self._values: dict[str, None] = {}

    def add(self, value: str) -> bool:
        """Add a token. Return whether it is new."""
        if value in self._values:
            return False
        self._values[value] = None
        if len(self._values) > _KEPT:
            del self._values[next(iter(self._values))]
        return True
