"""Blocking work of a command runs in threads that never delay its end."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from aiobatch._tasks import DaemonExecutor, Lookups, in_thread


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


async def test_default_executor_is_left_behind() -> None:
    """Its end does not wait for a call, and errors are raised."""
    executor = DaemonExecutor()
    assert executor.submit(sorted, [2, 1]).result(60) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 1, 0).result(60)
    gate = threading.Event()
    executor.submit(gate.wait)
    executor.shutdown()  # does not wait
    gate.set()


async def test_names_of_addresses_are_looked_up_in_a_thread() -> None:
    """Aiohttp asks for the name of a link-local address."""
    assert await Lookups().getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
        "127.0.0.1",
        "80",
    )
