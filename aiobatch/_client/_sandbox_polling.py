"""The default polling policy, which is faster for a sandbox that runs in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..options import PollingPolicy

DEFAULT_POLLING = PollingPolicy()
# A poll of a sandbox costs nothing, and a test waits for each of them.
_SANDBOX_POLLING = PollingPolicy(poll_cost=0.0001, minimum=0.005, maximum=0.1)

_sandboxes: set[str] = set()


@contextlib.contextmanager
def quick_polling(origin: str) -> Iterator[None]:
    """Poll *origin* fast by default, from every client that is created within the block.

    Args:
        origin: The address of a sandbox of this process. No other server is ever polled like this.
    """
    _sandboxes.add(origin)
    try:
        yield
    finally:
        _sandboxes.discard(origin)


def choose_polling(policy: PollingPolicy, origin: str) -> PollingPolicy:
    """Return the policy for *origin*: *policy*, unless it is the default and a sandbox listens there."""
    return _SANDBOX_POLLING if policy is DEFAULT_POLLING and origin in _sandboxes else policy
