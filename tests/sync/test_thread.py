from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from aiobatch.sync import LockedError, State, StateError, StateThread
from aiobatch.sync._thread import outlast

_ENDLESS = "SELECT count(*) FROM range(10000000000) a, range(1000) b"


async def open_thread(tmp_path: Path) -> StateThread:
    """Open a state in a thread."""
    return await StateThread.open(tmp_path / "state.duckdb", what="test", memory_limit="200MB")


async def test_calls_are_made_one_by_one_in_one_thread(tmp_path: Path) -> None:
    """DuckDB never sees two threads, and no call is made on the event loop."""
    thread = await open_thread(tmp_path)
    names = await asyncio.gather(*(thread.run(threading.get_ident) for _ in range(20)))
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()
    await thread.aclose()


async def test_what_a_call_raises_is_raised(tmp_path: Path) -> None:
    """An error comes out where the call was made."""
    thread = await open_thread(tmp_path)
    with pytest.raises(StateError):
        await thread.run(thread.state.rows, "nonsense")
    await thread.aclose()


async def test_a_state_that_is_locked_cannot_be_opened(tmp_path: Path) -> None:
    """The error of opening comes out, and no thread is left."""
    thread = await open_thread(tmp_path)
    before = threading.active_count()
    with pytest.raises(LockedError):
        await open_thread(tmp_path)
    await thread.aclose()
    assert threading.active_count() <= before


async def test_opening_can_be_cancelled(tmp_path: Path) -> None:
    """A state that opens for somebody who has left is closed again."""
    for delay in (0, 0, 0.005, 0.01, 0.02):
        opening = asyncio.create_task(open_thread(tmp_path))
        await asyncio.sleep(delay)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
    await asyncio.sleep(0.1)
    await (await open_thread(tmp_path)).aclose()


async def test_a_cancelled_call_runs_to_its_end(tmp_path: Path) -> None:
    """What is written is written whole, however often the caller is cancelled."""
    thread = await open_thread(tmp_path)
    ended: list[bool] = []

    def work() -> None:
        time.sleep(0.1)
        ended.append(True)

    task = asyncio.create_task(thread.run(work))
    for _ in range(3):
        await asyncio.sleep(0.02)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    await thread.aclose()


async def test_a_cancelled_long_call_is_interrupted(tmp_path: Path) -> None:
    """A statement that would take for ever ends, and the connection goes on."""
    thread = await open_thread(tmp_path)
    task = asyncio.create_task(thread.run_long(thread.state.rows, _ENDLESS))
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await thread.run(thread.state.row, "SELECT 1") == (1,)
    await thread.aclose()


async def test_an_interruption_that_came_between_two_statements_is_repeated(tmp_path: Path) -> None:
    """A call of many statements ends in the next one."""
    thread = await open_thread(tmp_path)
    state = thread.state

    def work() -> None:
        time.sleep(0.1)  # DuckDB forgets an interruption that comes now
        state.rows(_ENDLESS)

    task = asyncio.create_task(thread.run_long(work))
    await asyncio.sleep(0.03)
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    await thread.aclose()


async def test_a_long_call_that_waits_its_turn_interrupts_nobody(tmp_path: Path) -> None:
    """Cancelling a call that has not begun leaves the one at work alone, and it never begins."""
    thread = await open_thread(tmp_path)
    begun: list[bool] = []
    at_work = asyncio.create_task(
        thread.run_long(thread.state.row, "SELECT count(*) FROM range(1000000) a, range(200) b")
    )
    waiting = asyncio.create_task(thread.run_long(begun.append, True))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await at_work == (200_000_000,)
    assert begun == []
    await thread.aclose()


async def test_a_state_is_closed_even_where_closing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ends whatever the state says."""
    thread = await open_thread(tmp_path)
    close = thread.state.close

    def fail(_: State) -> None:
        close()
        raise ZeroDivisionError

    monkeypatch.setattr(State, "close", fail)
    with pytest.raises(ZeroDivisionError):
        await thread.aclose()
    with pytest.raises(RuntimeError):
        await thread.run(int)


async def test_outlasting_survives_any_number_of_cancellations() -> None:
    """The tasks end first, then the cancellation goes on."""
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    waiting = asyncio.create_task(outlast([task]))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.result()
    await outlast([task])
    await outlast([])
