"""Signals to this process, sent when something has happened."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

# Seconds after which nothing comes any more, however busy the machine is.
PATIENCE = 120


def signal_when(happened: Callable[[], object], *numbers: signal.Signals) -> threading.Thread:
    """Send signals to this process when something has happened and return the thread to join."""

    def watch() -> None:
        wait_until(happened)
        for number in numbers:
            os.kill(os.getpid(), number)
            time.sleep(0.1)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def wait_until(happened: Callable[[], object]) -> None:
    """Wait, in a thread, until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)
