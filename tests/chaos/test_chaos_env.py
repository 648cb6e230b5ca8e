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
from .chaos_env import APP_KEY, PRIVATE, PROJECT, PROJECT_KEY, REST_KEY, Case, Ground, Output, assert_silent
from .conftest import alarm


def _write_row(ground: Ground) -> None:
    with duckdb.connect(ground.state) as state:
        state.execute("CREATE TABLE t AS SELECT 'a' || ? AS x FROM range(10)", [PROJECT_KEY])


def _fail_with_locals(ground: Ground) -> None:
    # A frame that is no test's: those are not searched, as they know the keys.
    with pytest.raises(ValueError, match="Sample larger") as caught:
        random.sample(REST_KEY, 99)
    ground.evidence.errors.append(caught.value)


def _chain(ground: Ground) -> None:
    error = AiobatchError("quiet")
    error.__cause__ = AiobatchError("quiet as well")
    error.__cause__.add_note(f"used {APP_KEY}")
    ground.evidence.errors.append(error)


LEAKS: dict[str, Callable[[Ground], object]] = {
    "a log": lambda ground: logging.getLogger("aiobatch.x").debug("%s", REST_KEY),
    "an id in a log": lambda ground: logging.getLogger("aiobatch.x").info("%s1", PRIVATE),
    "a repr": lambda ground: ground.evidence.values.append({"key": APP_KEY}),
    "an id in a repr": lambda ground: ground.evidence.values.append([f"{PRIVATE}1"]),
    "a note of a cause": _chain,
    "a local": _fail_with_locals,
    "stdout": lambda ground: ground.processes.append(Output(0, f"{PRIVATE}1", "")),
    "stderr": lambda ground: ground.processes.append(Output(0, "", f"12:00 DEBUG x {REST_KEY}")),
    "a file": lambda ground: (ground.directory / "f").write_text(f"\0{PROJECT_KEY}"),
    "a state": _write_row,
    "an id in a lock": lambda ground: (ground.directory / "s.duckdb.lock").write_text(f"{PRIVATE}1"),
    "an id in a status": lambda ground: (ground.directory / "s.duckdb.status.json").write_text(f"{PRIVATE}1"),
}


@pytest.mark.parametrize("leak", list(LEAKS))
def test_what_leaks_is_found(leak: str, evidence: LeakSearch, tmp_path: Path) -> None:
    """The search that ends every case finds a key, or an id, in each of the places that it searches."""
    other = Ground(Case(full=False), LeakSearch(), tmp_path)
    logging.getLogger().addHandler(other.evidence)
    LEAKS[leak](other)
    logging.getLogger().removeHandler(other.evidence)
    with pytest.raises(AssertionError):
        assert_silent(other)
    evidence.records.clear()


def test_what_is_no_leak_passes(ground: Ground) -> None:
    """Ids may be logged at DEBUG and kept in files; what knows a key does not show it."""
    logging.getLogger("aiobatch.x").debug("%s1", PRIVATE)
    (ground.directory / "rejects.csv").write_text(f"{PRIVATE}1")
    ground.processes.append(Output(0, "", f"12:00 DEBUG x {PRIVATE}1"))
    ground.evidence.values.append(PROJECT)


def _hang_twice(suppressed: type[BaseException], hung: list[bool]) -> None:
    for _ in range(2):
        with contextlib.suppress(suppressed):
            hung.append(threading.Event().wait(5))


@pytest.mark.parametrize("suppressed", [Exception, BaseException])
def test_what_hangs_fails(suppressed: type[BaseException]) -> None:
    """No retry takes the alarm for an answer that came too late, and no `except` hides it."""
    hung: list[bool] = []
    with pytest.raises(pytest.fail.Exception, match="not ended within"), alarm(0.01):
        _hang_twice(suppressed, hung)
    assert not hung


def test_what_ends_in_time_passes() -> None:
    """An alarm that does not go off leaves no trace."""
    before = signal.getsignal(signal.SIGALRM)
    with alarm(60):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is before
