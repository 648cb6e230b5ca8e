"""Blocking work of a command runs in threads that never delay its end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from aiobatch.cli._signals import in_thread


def _readers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "aiobatch-reader"}


async def test_cancelled_threads_end_by_themselves() -> None:
    """After a cancellation the thread ends by itself, and its result is dropped."""
    gate, before = threading.Event(), _readers()
    task = asyncio.create_task(in_thread(gate.wait))
    await asyncio.sleep(0)
    (thread,) = _readers() - before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)


def test_threads_may_outlive_their_loop() -> None:
    """A thread that ends after its event loop was closed ends quietly."""
    gate, before = threading.Event(), _readers()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(in_thread(gate.wait), 0.01)

    asyncio.run(leave())
    (thread,) = _readers() - before
    gate.set()
    thread.join()


async def test_errors_of_threads_are_raised(tmp_path: Path) -> None:
    """An error in the thread is raised where it is awaited."""
    with pytest.raises(FileNotFoundError):
        await in_thread((tmp_path / "missing").stat)
