"""The sandbox with a rate limit in its own process, which counts the requests of each client."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import orjson

from aiobatch.sandbox import Sandbox, SandboxOptions, SandboxRequest

_REFUSED = 429


def count(requests: tuple[SandboxRequest, ...]) -> dict[str, dict[str, int]]:
    """Return the accepted and the refused requests of each client, which are the audiences of the paths."""
    answered = [(request.path.rsplit("/", 1)[-1], request.status == _REFUSED) for request in requests]
    return {
        "accepted": dict(Counter(name for name, refused in answered if not refused)),
        "refused": dict(Counter(name for name, refused in answered if refused)),
    }


async def _main(rate: float) -> None:
    """Print the port. Print the counts when standard input ends."""
    async with Sandbox(SandboxOptions(rate=rate)) as sandbox:
        print(sandbox.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        sys.stdout.buffer.write(orjson.dumps(count(sandbox.requests)))


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1])))
