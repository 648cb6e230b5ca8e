"""A key that never shows itself by accident."""

from __future__ import annotations

from typing import NoReturn, Self

_MASK = "***"


class Secret:
    """A key that shows itself only when asked: no repr, str, pickle or `attrs.asdict` copy tells it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself; only what builds a request calls this."""
        return self._value

    def __repr__(self) -> str:
        """Show a mask."""
        return _MASK

    def __eq__(self, other: object) -> bool:
        """Compare by value, so that two Apps of one key are equal."""
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        """Hash by value, in step with equality."""
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        """Return itself: it never changes."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: it never changes."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse: a pickle is a file that somebody keeps."""
        msg = "a key cannot be pickled; read it again on the other side, for example with App.from_env()"
        raise TypeError(msg)
