"""The store of a limit that many machines share: one key of a Redis, whose time counts."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from ..._secret import Secret
from ..._tasks import Lookups
from ...errors import InvalidInputError
from ...interfaces import Clock
from ._state import Change, Reply, SharedState, StoreError

# Replaces the value if it still is the expected one. Returns whether, the server's time, and the value.
_SCRIPT = """
local time = redis.call('TIME')
local value = redis.call('GET', KEYS[1]) or ''
if ARGV[2] ~= '' and value == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return {1, time[1], time[2], ARGV[2]}
end
return {0, time[1], time[2], value}
"""
_PREFIX = "aiobatch:limit:"
# Milliseconds that an unused state is kept: longer than any pause.
_KEPT = 2 * 86400 * 1000
# Seconds that a connection or a command may take, and a change with all of its attempts.
_TIMEOUT, _PATIENCE = 1.0, 3.0


class RedisStore:
    """A state in a Redis.

    Args:
        url: The URL of the server. It may contain a password.
        name: The name of the state.
        clock: The local clock.
        ceiling: The configured requests per second.
    """

    kind = "redis"

    def __init__(self, url: Secret, name: str, clock: Clock, ceiling: float) -> None:
        self._url = url
        self._key = _PREFIX + name
        self._clock = clock
        self._ceiling = ceiling
        self._client: Any = None
        self._script: Any = None
        self._errors: tuple[type[Exception], ...] = ()
        self._is_resolved = False

    async def open(self) -> None:
        """Import the package. The first change connects.

        Raises:
            InvalidInputError: The package is missing, or the URL is invalid.
        """
        try:
            redis = await asyncio.to_thread(importlib.import_module, "redis.asyncio")
        except ImportError:
            msg = "Limits.shared: a Redis URL needs the package redis. Install aiobatch-client[redis]."
            raise InvalidInputError(msg) from None
        self._errors = (redis.RedisError, OSError, TimeoutError, ValueError)
        try:
            self._client = redis.Redis.from_url(
                self._url.reveal(),
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                retry=None,
                driver_info=None,  # looking up its version would read from the disk
            )
        except ValueError:
            msg = "Limits.shared: the Redis URL is invalid. Use the form redis://user:password@host:6379/0."
            raise InvalidInputError(msg) from None
        self._script = self._client.register_script(_SCRIPT)

    async def transact(self, change: Change) -> Reply:
        """Apply *change* to the state and store it.

        Raises:
            StoreError: The server cannot be reached, or other processes were always faster.
        """
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._resolve()
                return await self._transact(change)
        except self._errors as exc:
            self._is_resolved = False
            raise StoreError(type(exc).__name__) from None

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _resolve(self) -> None:
        """Look the server's name up before the package does, whose thread the end of the loop waits for."""
        server = self._client.connection_pool.connection_kwargs
        if not self._is_resolved and "host" in server:  # and no Unix socket
            await Lookups().getaddrinfo(server["host"], server.get("port"))
        self._is_resolved = True

    async def _transact(self, change: Change) -> Reply:
        _, now, at, old = await self._call(b"", b"")
        while True:
            state = SharedState.decode(old, now, self._ceiling) or SharedState.new(now)
            result = change(state, now)
            stored, later, later_at, value = await self._call(old, state.encode())
            if stored:
                return Reply(result, state, now, at)
            now, at, old = later, later_at, value

    async def _call(self, expected: bytes, new: bytes) -> tuple[bool, float, float, bytes]:
        """Return whether *new* was stored, the server's time, the local time then, and the value."""
        task, before = asyncio.current_task(), self._clock.monotonic()
        assert task is not None  # noqa: S101 - requests are awaited in tasks
        cancellations = task.cancelling()
        stored, seconds, micros, value = await self._script(keys=[self._key], args=[expected, new, _KEPT])
        if task.cancelling() > cancellations:
            raise asyncio.CancelledError  # the package loses one that arrives together with the response
        at = (before + self._clock.monotonic()) / 2
        return bool(stored), int(seconds) + int(micros) / 1e6, at, value
