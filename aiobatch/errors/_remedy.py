"""The remedy of an error: what to do next, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

_NEED_SOURCE: Final = frozenset({"sync", "plan", "resync", "adopt"})
_NEED_CLIENT: Final = _NEED_SOURCE | {"rollback", "verify", "settle", "forget"}


@attrs.frozen
class Remedy:
    """An operation of the sync engine that fixes a problem.

    As text it is the library's call. The command line renders a command to paste instead.

    Attributes:
        operation: A method of `SyncEngine`, such as `resync`. None: the same call again, with *options*.
        audience: The audience's name. None where the operation needs none.
        options: Option -> value, such as `{"allow_removals": 3001}`.
    """

    operation: str | None = None
    audience: str | None = None
    options: Mapping[str, bool | int | str] = attrs.field(factory=dict)

    @property
    def needs_source(self) -> bool:
        """Whether the operation reads a source."""
        return self.operation in _NEED_SOURCE

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        if self.operation is None:
            return f"To allow it once, pass overrides=Overrides({options})."
        arguments = [
            *(["client"] if self.operation in _NEED_CLIENT else []),
            *([] if self.audience is None else [repr(self.audience)]),
            # What an audience holds already is rarely the source of the run that found it.
            *(["members" if self.operation == "adopt" else "source"] if self.needs_source else []),
            *([f"options=SyncOptions({options})"] if options else []),
        ]
        return f"Call `await engine.{self.operation}({', '.join(arguments)})`."
