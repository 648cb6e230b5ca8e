"""Tells how a state is while it is open: others cannot read it then."""

from __future__ import annotations

import logging

from ..._clock import Clock
from .._errors import StateError
from ..state._journal import Journal
from ..state._state import State
from ..state._status import take_status, write_status
from ..state._thread import StateThread

_logger = logging.getLogger("aiobatch.sync")

# Seconds between two writings of the status file.
_EVERY = 5.0


async def publish(thread: StateThread, journal: Journal, clock: Clock) -> None:
    """Write now and then how the state is, until cancelled.

    Args:
        thread: The open state.
        journal: The journal of a run that goes on.
        clock: Sleeps.
    """
    thread.running[journal.key] = journal
    try:
        while True:
            if next(iter(thread.running)) == journal.key:  # one writes for all
                await thread.run(_write, thread.state, list(thread.running.values()))
            await clock.sleep(_EVERY)
    finally:
        del thread.running[journal.key]


def _write(state: State, journals: list[Journal]) -> None:
    """Write how the state is; a run does not end because that fails."""
    try:
        write_status(state.path, take_status(state, running=journals))
    except StateError as error:
        _logger.warning("the status cannot be told: %s", error)
