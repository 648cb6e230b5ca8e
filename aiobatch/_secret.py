"""A wrapper for keys that keeps them out of texts, pickles and tracebacks."""

from __future__ import annotations

from typing import NoReturn, Self

_MASK = "***"


class Secret:
    """A key that only `reveal` returns. No repr, str, pickle or `attrs.asdict` copy shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself, to build a request."""
        return self._value

    def __repr__(self) -> str:
        """Return a mask."""
        return _MASK

    def __eq__(self, other: object) -> bool:
        """Compare by value, so that two Apps with the same key are equal."""
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        """Hash by value, in step with equality."""
        return hash((Secret, self._value))

    def __copy__(self) -> Self:
        """Return itself, because it is immutable."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself, because it is immutable."""
        return self

    def __reduce__(self) -> NoReturn:
        """Raise TypeError, because a pickle may be stored."""
        msg = "A key cannot be pickled. Read it again in the other process, for example with App.from_env()."
        raise TypeError(msg)
