"""The hold on an audience: its lock on this machine, and whatever its state needs."""

from __future__ import annotations

import attrs

from ..._client import AudienceClient
from ..state._lock import FileLock, audience_lock
from ..state._targets import TargetKey
from ..state._thread import StateThread
from ..state.ledger._ledger import Hold


@attrs.define(eq=False)
class AudienceHold:
    """Keeps other processes from writing an audience, from `take` to `release`.

    Attributes:
        thread: The open state.
        client: A client of the audience's target.
        audience: The audience's name.
    """

    thread: StateThread
    client: AudienceClient
    audience: str
    _lock: FileLock | None = attrs.field(init=False, default=None)

    @property
    def key(self) -> str:
        """The audience's key."""
        return TargetKey.of(self.client.target).audience_key(self.audience)

    async def take(self, what: str, *, locks: bool = True, members: bool = True) -> None:
        """Take the audience, and load it into the open state.

        Args:
            what: What this process does (`sync vip`), for the error of other processes.
            locks: Whether to take the lock of this machine as well.
            members: Whether the IDs of the members are needed, or only their number.

        Raises:
            LockedError: Another process or run has the audience.
            StateError: The state cannot be used.
        """
        thread, ledger = self.thread, self.thread.state.ledger
        hold = Hold(
            scope=TargetKey.of(self.client.target).digest,
            key=self.key,
            what=what,
            request_timeout=self.client.request_timeout,
        )
        try:
            if locks:
                self._lock = audience_lock(self.key, self.client.base_url, state=thread.state.path)
                await thread.run(self._lock.acquire, what)
            await ledger.acquire(hold)
            await thread.call_interruptible(lambda _: ledger.load(self.key, members=members))
        except BaseException:
            # A cancelled call runs to its end, and may have taken the lock.
            await self.release()
            raise

    async def release(self) -> None:
        """Release the audience. A second call does nothing."""
        try:
            await self.thread.state.ledger.release(self.key)
        finally:
            if self._lock is not None:
                await self.thread.run(self._lock.release)
