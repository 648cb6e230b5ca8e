"""The gates in conftest.py fail when they should."""

from __future__ import annotations

import asyncio
import time

import duckdb
import pytest
from blockbuster import BlockingError

import aiobatch

from ..conftest import leaked_tasks


def _run_as_the_package(expression: str) -> object:
    """Evaluate *expression* as if it were a line of the package."""
    return eval(compile(expression, aiobatch.__file__, "eval"), {"duckdb": duckdb, "time": time})  # noqa: S307


@pytest.mark.parametrize("expression", ["time.sleep(0)", "duckdb.connect()"])
async def test_blocking_the_loop_fails(expression: str) -> None:
    """A call of the package that blocks the running event loop raises."""
    with pytest.raises(BlockingError):
        _run_as_the_package(expression)


@pytest.mark.parametrize("expression", ["time.sleep(0)", "duckdb.connect().execute('select 1').close()"])
async def test_blocking_a_thread_is_fine(expression: str) -> None:
    """The same call in a thread does not raise."""
    await asyncio.to_thread(_run_as_the_package, expression)


async def test_unfinished_task_is_found() -> None:
    """A task that still runs at the end of a test is found, and a finished task is not."""
    left = asyncio.create_task(asyncio.Event().wait())
    done = asyncio.create_task(asyncio.sleep(0))
    assert await leaked_tasks() == {left}
    assert done.done()
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
