from __future__ import annotations

import contextlib
import logging
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from aiobatch import AiobatchError

from ..helpers.leak_search import LeakSearch
from .chaos_env import (
    APP_KEY,
    PRIVATE,
    PROJECT,
    PROJECT_KEY,
    REST_KEY,
    Case,
    ChaosEnv,
    Output,
    assert_no_leaks,
)
from .conftest import time_limit


def _write_row(chaos_env: ChaosEnv) -> None:
    with duckdb.connect(chaos_env.state) as state:
        state.execute("CREATE TABLE t AS SELECT 'a' || ? AS x FROM range(10)", [PROJECT_KEY])


def _fail_with_locals(chaos_env: ChaosEnv) -> None:
    # A frame outside the tests, whose frames are not searched because they contain the keys.
    with pytest.raises(ValueError, match="Sample larger") as caught:
        random.sample(REST_KEY, 99)
    chaos_env.leak_search.errors.append(caught.value)


def _chain(chaos_env: ChaosEnv) -> None:
    error = AiobatchError("harmless")
    error.__cause__ = AiobatchError("also harmless")
    error.__cause__.add_note(f"used {APP_KEY}")
    chaos_env.leak_search.errors.append(error)


LEAKS: dict[str, Callable[[ChaosEnv], object]] = {
    "a log": lambda chaos_env: logging.getLogger("aiobatch.x").debug("%s", REST_KEY),
    "an id in a log": lambda chaos_env: logging.getLogger("aiobatch.x").info("%s1", PRIVATE),
    "a repr": lambda chaos_env: chaos_env.leak_search.values.append({"key": APP_KEY}),
    "an id in a repr": lambda chaos_env: chaos_env.leak_search.values.append([f"{PRIVATE}1"]),
    "a note of a cause": _chain,
    "a local": _fail_with_locals,
    "stdout": lambda chaos_env: chaos_env.processes.append(Output(0, f"{PRIVATE}1", "")),
    "stderr": lambda chaos_env: chaos_env.processes.append(Output(0, "", f"12:00 DEBUG x {REST_KEY}")),
    "a file": lambda chaos_env: (chaos_env.directory / "f").write_text(f"\0{PROJECT_KEY}"),
    "a state": _write_row,
    "an id in a lock": lambda chaos_env: (chaos_env.directory / "s.duckdb.lock").write_text(f"{PRIVATE}1"),
    "an id in a status": lambda chaos_env: (chaos_env.directory / "s.duckdb.status.json").write_text(
        f"{PRIVATE}1"
    ),
}


@pytest.mark.parametrize("leak", list(LEAKS))
def test_every_leak_is_found(leak: str, leak_search: LeakSearch, tmp_path: Path) -> None:
    """The search after each case finds a key or an ID in each searched place."""
    other = ChaosEnv(Case(full=False), LeakSearch(), tmp_path)
    logging.getLogger().addHandler(other.leak_search)
    LEAKS[leak](other)
    logging.getLogger().removeHandler(other.leak_search)
    with pytest.raises(AssertionError):
        assert_no_leaks(other)
    leak_search.records.clear()


def test_ids_in_debug_logs_and_files_are_no_leak(chaos_env: ChaosEnv) -> None:
    """IDs in DEBUG logs and files are allowed, and so are objects that hide their key."""
    logging.getLogger("aiobatch.x").debug("%s1", PRIVATE)
    (chaos_env.directory / "rejects.csv").write_text(f"{PRIVATE}1")
    chaos_env.processes.append(Output(0, "", f"12:00 DEBUG x {PRIVATE}1"))
    chaos_env.leak_search.values.append(PROJECT)


def _hang_twice(suppressed: type[BaseException], hung: list[bool]) -> None:
    for _ in range(2):
        with contextlib.suppress(suppressed):
            hung.append(threading.Event().wait(5))


@pytest.mark.parametrize("suppressed", [Exception, BaseException])
def test_time_limit_fails_a_hanging_block(suppressed: type[BaseException]) -> None:
    """No retry and no `except` hides the failure of a time limit."""
    hung: list[bool] = []
    with pytest.raises(pytest.fail.Exception, match="not finished within"), time_limit(0.01):
        _hang_twice(suppressed, hung)
    assert not hung


def test_time_limit_leaves_no_trace() -> None:
    """A time limit that is not exceeded restores timer and handler."""
    before = signal.getsignal(signal.SIGALRM)
    with time_limit(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before
