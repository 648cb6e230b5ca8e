"""The seam: whatever sends a request and returns the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._http import Request, Response
from ..events import Event

# Where events go; None is passed where nobody listens, and then no event is built.
Emit = Callable[[Event], None]


class Transport(Protocol):
    """Sends requests; knows no audience."""

    async def send(self, request: Request) -> Response:
        """Send *request* and return the answer, whatever its status.

        Raises:
            TransportError: No readable answer came.
            MalformedResponseError: An answer came that cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Close what this transport opened; a second time does nothing."""
        ...
