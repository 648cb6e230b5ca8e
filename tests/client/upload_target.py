"""A target of uploads that records chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiobatch._client._upload import Items, Upload, UploadChunk
from aiobatch.dialects import dialect_for
from aiobatch.errors import TransportError
from aiobatch.models import IndexingToken
from aiobatch.options import App

SIZE = 4
check_members = dialect_for(App(rest_api_key="r", api_key="a", version="1.1")).check_members


class Batch:
    """Accepts chunks after a few iterations of the loop, and records those in flight.

    Args:
        turns: How many turns each chunk takes, one after the other.
        failing: The numbers, by when they were sent, of the chunks that fail.
    """

    def __init__(self, turns: list[int] | None = None, failing: frozenset[int] = frozenset()) -> None:
        self.turns = turns or [1]
        self.failing = failing
        self.sent: list[tuple[list[Any], list[Any]]] = []
        self.accepted: list[tuple[list[Any], list[Any]]] = []
        self.in_flight: list[set[str]] = []
        self.peak = 0
        self.clashes = self.claims = self.false_claims = 0

    async def send(self, chunk: UploadChunk) -> IndexingToken:
        """Accept one chunk."""
        number = len(self.sent)
        add, remove = chunk.lists["add"], chunk.lists["remove"]
        self.sent.append((add, remove))
        ids = {item if isinstance(item, str) else item.id for item in (*add, *remove)}
        self.clashes += any(not ids.isdisjoint(other) for other in self.in_flight)
        self.false_claims += chunk.is_distinct and len(ids) < chunk.size
        self.claims += chunk.is_distinct
        self.in_flight.append(ids)
        self.peak = max(self.peak, len(self.in_flight))
        try:
            for _ in range(self.turns[number % len(self.turns)]):
                await asyncio.sleep(0)
            if number in self.failing:
                msg = "reset"
                raise TransportError(msg)
        finally:
            self.in_flight.remove(ids)
        self.accepted.append((add, remove))
        return IndexingToken("vip", f"t{number}")


def upload(
    batch: Batch,
    add: Items = (),
    remove: Items = (),
    *,
    limit: int = 3,
    on_progress: Callable[[int], None] | None = None,
) -> Upload:
    """Return an upload to *batch*."""
    return Upload(
        "vip", add, remove, check=check_members, send=batch.send, limit=limit, on_progress=on_progress
    )


async def stream(items: list[Any]) -> AsyncIterator[Any]:
    """Yield items asynchronously."""
    for item in items:
        await asyncio.sleep(0)
        yield item
