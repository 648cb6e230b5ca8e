"""The protocol of all transports."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._http import Request, Response
from ..events import Event

# Takes events. None is passed if there is no hook, and then no event is built.
Emit = Callable[[Event], None]


class Transport(Protocol):
    """Sends requests."""

    async def send(self, request: Request) -> Response:
        """Send *request* and return the response, whatever its status.

        Raises:
            TransportError: No readable response was received.
            MalformedResponseError: A response was received that cannot be read.
        """
        ...

    async def aclose(self) -> None:
        """Close what this transport opened. A second call does nothing."""
        ...
