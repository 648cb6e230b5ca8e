"""What tells an app or a project from another in a state, which keeps digests of keys and no key."""

from __future__ import annotations

from typing import Final

import attrs

from ..._secret import Secret
from ._schema import digest

# Digits of a digest that a person is shown: enough to tell a company's apps apart.
DIGITS: Final = 8


@attrs.frozen
class Scope:
    """A target as the state tells it from others.

    Attributes:
        kind: `app` or `project`.
        key: The app's API key, or the project's.
    """

    kind: str
    key: Secret

    @property
    def digest(self) -> str:
        """Its digest, by which the state knows it."""
        return digest(self._text)

    @property
    def label(self) -> str:
        """What it is called until a config names it: `app 1a2b3c4d`."""
        return f"{self.kind} {self.digest[:DIGITS]}"

    @property
    def _text(self) -> str:
        return f"{self.kind} {self.key.reveal()}"

    def audience_key(self, name: str) -> str:
        """Return the short key under which an audience of this target is kept.

        Args:
            name: The audience's name.
        """
        return digest(f"{self._text}\0{name}")
