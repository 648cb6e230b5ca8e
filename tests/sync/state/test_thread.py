from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from aiobatch.sync import LockedError, StateError
from aiobatch.sync.state._state import State
from aiobatch.sync.state._thread import StateThread

from .states import members, open_state, sync

_ENDLESS = "SELECT count(*) FROM range(10000000000) a, range(1000) b"
# Seconds after which nothing comes any more, however busy the machine is.
_PATIENCE = 60


async def open_thread(tmp_path: Path) -> StateThread:
    """Open a state in a thread."""
    return await StateThread.open(tmp_path / "state.duckdb", what="test", memory_limit="200MB")


async def test_calls_run_one_by_one_in_one_thread(tmp_path: Path) -> None:
    """DuckDB never sees two threads, and no call runs on the event loop."""
    thread = await open_thread(tmp_path)
    names = await asyncio.gather(*(thread.run(threading.get_ident) for _ in range(20)))
    assert len(set(names)) == 1
    assert names[0] != threading.get_ident()
    await thread.aclose()


async def test_error_of_a_call_is_raised(tmp_path: Path) -> None:
    """An error is raised where the call was made."""
    thread = await open_thread(tmp_path)
    with pytest.raises(StateError):
        await thread.run(thread.state.rows, "nonsense")
    await thread.aclose()


async def test_locked_state_leaves_no_thread(tmp_path: Path) -> None:
    """The error of opening is raised, and no thread is left."""
    thread = await open_thread(tmp_path)
    before = set(threading.enumerate())
    with pytest.raises(LockedError):
        await open_thread(tmp_path)
    await thread.aclose()
    for left in set(threading.enumerate()) - before:
        await asyncio.to_thread(left.join, _PATIENCE)
        assert not left.is_alive()


async def test_opening_can_be_cancelled(tmp_path: Path) -> None:
    """A state that opens after the caller was cancelled is closed again."""
    for delay in (0, 0, 0.005, 0.01, 0.02):
        opening = asyncio.create_task(open_thread(tmp_path))
        await asyncio.sleep(delay)
        if opening.cancel():
            with pytest.raises(asyncio.CancelledError):
                await opening
        else:  # it was quicker than that
            await opening.result().aclose()
    await (await open_thread(tmp_path)).aclose()


async def test_cancelled_call_completes(tmp_path: Path) -> None:
    """A write is completed, however often the caller is cancelled."""
    thread = await open_thread(tmp_path)
    gate = threading.Event()
    ended: list[bool] = []

    def work() -> None:
        ended.append(gate.wait(_PATIENCE))

    task = asyncio.create_task(thread.run(work))
    for _ in range(3):
        await asyncio.sleep(0.02)
        task.cancel()
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [True]
    await thread.aclose()


async def test_cancelled_interruptible_call_is_interrupted(tmp_path: Path) -> None:
    """An endless statement is interrupted, and the connection stays usable."""
    thread = await open_thread(tmp_path)
    task = asyncio.create_task(thread.run_interruptible(thread.state.rows, _ENDLESS))
    await asyncio.sleep(0.05)
    task.cancel()
    async with asyncio.timeout(_PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await thread.run(thread.state.row, "SELECT 1") == (1,)
    await thread.aclose()


async def test_interrupt_between_two_statements_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call of many statements ends in the next one."""
    thread = await open_thread(tmp_path)
    state = thread.state
    begun, interrupted = threading.Event(), threading.Event()
    interrupt = state.interrupt

    def note() -> None:
        interrupt()
        interrupted.set()

    def work() -> None:
        begun.set()
        interrupted.wait(_PATIENCE)  # DuckDB forgets an interruption that comes now
        state.rows(_ENDLESS)

    monkeypatch.setattr(State, "interrupt", lambda _: note())
    task = asyncio.create_task(thread.run_interruptible(work))
    await asyncio.to_thread(begun.wait, _PATIENCE)
    task.cancel()
    async with asyncio.timeout(_PATIENCE):
        with pytest.raises(asyncio.CancelledError):
            await task
    await thread.aclose()


async def test_cancelled_call_in_the_queue_interrupts_no_other(tmp_path: Path) -> None:
    """Cancelling a call that has not started leaves the running one alone, and it never starts."""
    thread = await open_thread(tmp_path)
    begun: list[bool] = []
    gate = threading.Event()

    def work() -> tuple[object, ...] | None:
        gate.wait(_PATIENCE)
        return thread.state.row("SELECT count(*) FROM range(1000000) a, range(20) b")

    at_work = asyncio.create_task(thread.run_interruptible(work))
    waiting = asyncio.create_task(thread.run_interruptible(begun.append, True))
    await asyncio.sleep(0.02)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await at_work == (20_000_000,)
    assert begun == []
    await thread.aclose()


async def test_thread_ends_even_if_closing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread ends even if the state cannot be closed."""
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


def test_statement_can_be_interrupted(tmp_path: Path) -> None:
    """Another thread can interrupt a statement, and the state stays usable."""
    with open_state(tmp_path / "state.duckdb") as state:
        state.interrupt()
        sync(state, ["u1"])
        assert members(state) == {"u1"}


@pytest.mark.parametrize(("memory", "most"), [("100MB", 2), ("45MB", 1), ("30MB", 1)])
def test_little_memory_has_few_threads(tmp_path: Path, memory: str, most: int) -> None:
    """On a machine with many cores, DuckDB has only as many threads as the memory is enough for."""
    with State.open(tmp_path / "state.duckdb", what="test", memory_limit=memory) as state:
        (threads,) = state.row("SELECT current_setting('threads')")
        assert 1 <= threads <= most
