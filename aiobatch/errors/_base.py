"""The base class of all errors, and the error of an invalid argument."""

from __future__ import annotations

from typing import Any

# The claim of an error that kept its request from being sent. It is about that request alone.
NOTHING_SENT = "Nothing was sent."


def without_claim(text: str) -> str:
    """Return the text of an error without the claim, for a message about several requests."""
    return text.replace(f" {NOTHING_SENT}", "")


class AiobatchError(Exception):
    """The base class of all errors of aiobatch."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle `args` and `__dict__`, because some constructors take keywords only, and the cause.

        A foreign cause is left out, because it may not support pickling.
        """
        cause = self.__cause__ if isinstance(self.__cause__, AiobatchError) else None
        return _rebuild, (type(self), self.args, self.__dict__, cause)


def _rebuild(cls: type[AiobatchError], args: tuple[Any, ...], state: dict[str, Any], cause: Any) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, the base of TimeoutError, sets them only in __init__
    error.__dict__.update(state)
    error.__cause__ = cause
    return error


class InvalidInputError(AiobatchError, ValueError):
    """An argument is invalid. Nothing was sent."""
