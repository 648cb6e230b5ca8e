"""Which clients share a limit: those with the same keys and host."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Hashable
from pathlib import Path
from weakref import WeakValueDictionary

import attrs

from ..._clock import SystemClock
from ..._secret import Secret
from ...interfaces import Clock, Transport
from ...options import App, Limits, Project
from ._group import ProcessRate, RateGroup
from ._limit import Store

_SALT = b"aiobatch shared limit 1"
# Makes guesses of a key expensive, and takes some milliseconds once for each group.
_ROUNDS = 20_000

_groups: WeakValueDictionary[Hashable, RateGroup] = WeakValueDictionary()
_rates: WeakValueDictionary[Hashable, ProcessRate] = WeakValueDictionary()
_lock = threading.Lock()


def _start_again() -> None:
    """Forget the groups of the parent process after a fork, whose event loops do not run in this one."""
    global _lock  # noqa: PLW0603 - another thread of the parent may hold the old one
    _lock = threading.Lock()
    _groups.clear()
    _rates.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows does not fork
    os.register_at_fork(after_in_child=_start_again)


@attrs.frozen(kw_only=True, eq=False)
class SharingScope:
    """What decides with whom a client shares its limit.

    Attributes:
        target: The app or project.
        origin: The host. Empty if a transport of the program's own decides.
        transport: That transport, or None.
        limits: The client's limits.
        clock: The client's clock. Times of different clocks cannot be compared.
    """

    target: App | Project
    origin: str
    transport: Transport | None
    limits: Limits
    clock: Clock

    def find_group(self) -> RateGroup:
        """Return the group of the running event loop, which the first client creates.

        Groups of several event loops share through their store. Without one they share in memory.
        """
        clock = SystemClock if isinstance(self.clock, SystemClock) else id(self.clock)
        destination = self.origin or id(self.transport)
        scope = (clock, destination, self.limits.shared, self._keys)
        key = (asyncio.get_running_loop(), *scope)
        with _lock:
            group = _groups.get(key)
            if group is None:
                store = self._create_store()
                rate = _rates.setdefault(scope, ProcessRate()) if store is None else None
                group = _groups[key] = RateGroup(store, self.clock, rate)
            return group

    @property
    def _keys(self) -> tuple[str | Secret, ...]:
        """The keys whose requests count together."""
        target = self.target
        if self.limits.company_wide:
            return (target.rest_api_key,)
        key = target.api_key if isinstance(target, App) else target.project_key
        return (target.rest_api_key, type(target).__name__, key)

    @property
    def name(self) -> str:
        """A digest of keys and host, which reveals neither."""
        words = [one.reveal() if isinstance(one, Secret) else one for one in self._keys]
        secret = "\n".join((self.origin, *words)).encode()
        return hashlib.pbkdf2_hmac("sha256", secret, _SALT, _ROUNDS, 16).hex()

    def _create_store(self) -> Store | None:
        """Return the store that other processes share, or None if they do not."""
        shared, rate = self.limits.shared, self.limits.rate
        if shared is False or rate is None:
            return None
        if isinstance(shared, Secret):
            from ._redis import RedisStore  # noqa: PLC0415 - few programs share a limit

            return RedisStore(shared, self.name, self.clock, rate)
        from ._file import FileStore  # noqa: PLC0415 - as above

        return FileStore(shared if isinstance(shared, Path) else None, self.name, self.clock, rate)
