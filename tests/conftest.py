"""Settings and gates of all tests: no blocked event loop, no task left behind."""

from __future__ import annotations

import asyncio
import collections
import functools
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import duckdb
import hypothesis
import pytest
import pytest_asyncio
from blockbuster import BlockBuster, BlockBusterFunction, blockbuster_ctx

import aiobatch

from .helpers.sweep import SWEEP_VARIABLE, dependent_names, examples, is_sweep

pytest_plugins = [
    "pytester",
    "tests.helpers.doc_examples",
    "tests.helpers.s3_fixtures",
    "tests.helpers.skip_summary",
]

# Tests take the time from a Clock, so a slow machine must not fail a property.
_NO_DEADLINE = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `make test-all` and of CI."""
    parser.addoption("--sweep", action="store_true", help="run the long form: more examples, more tests")
    parser.addoption("--sweep-only", action="store_true", help="run the tests that differ in the long form")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and choose the form, before any test module is imported."""
    config.addinivalue_line("markers", "sweep: a test that only `make test-all` runs")
    config.addinivalue_line("markers", "sample(n): `make test` runs n of the test's parameters")
    if config.getoption("sweep") or config.getoption("sweep_only"):
        os.environ[SWEEP_VARIABLE] = "1"
    hypothesis.settings.register_profile("aiobatch", _NO_DEADLINE, max_examples=examples(40, 100))
    hypothesis.settings.load_profile("aiobatch")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out of the short form, and with `--sweep-only` all that do not differ."""
    long = long_tests(items)
    if config.getoption("sweep_only"):
        selected = [item for item in items if item in long or differs_in_sweep(item)]
    elif is_sweep() or config.getoption("chaos", False):  # an option of tests/chaos
        return
    else:
        selected = [item for item in items if item not in long]
    kept = set(selected)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = selected


def long_tests(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that the short form leaves out: `sweep`, and of `sample` all but some parameters."""
    long, sampled = set[pytest.Item](), collections.defaultdict[str, list[pytest.Item]](list)
    for item in items:
        if item.get_closest_marker("sweep"):
            long.add(item)
        elif item.get_closest_marker("sample"):
            sampled[item.nodeid.partition("[")[0]].append(item)
    for cases in sampled.values():
        mark = cases[0].get_closest_marker("sample")
        assert mark is not None
        count = min(mark.args[0], len(cases))
        long |= set(cases) - {cases[number * len(cases) // count] for number in range(count)}
    return long


def differs_in_sweep(item: pytest.Item) -> bool:
    """Return whether the test differs in the long form: a property, or a test that depends on `examples`."""
    if hypothesis.is_hypothesis_test(getattr(item, "obj", None)):
        return True
    module = getattr(item, "module", None)
    return module is not None and _top_level_name(item) in _names_in(module.__file__)


def _top_level_name(item: pytest.Item) -> str:
    """Return the name of the test's function, or that of its class."""
    return item.nodeid.partition("[")[0].split("::")[1]


@functools.cache
def _names_in(path: str) -> frozenset[str]:
    return dependent_names(Path(path).read_text(encoding="utf-8"))


# A read from disk at import, or a lock that is held for microseconds, is fine on the event loop.
_MAY_BLOCK = {
    "<frozen importlib._bootstrap>": {"_find_and_load"},
    "coverage/collector.py": {"lock_data"},
    "coverage/control.py": {"_should_trace", "_check_include_omit_etc"},
    "coverage/inorout.py": {"should_trace", "check_include_omit_etc"},
    "queue.py": {"put_nowait", "get_nowait", "qsize", "empty", "full"},
}
_DUCKDB_METHODS = ("execute", "executemany", "fetchall", "fetchmany", "fetchone", "query", "sql")


def _duckdb_functions() -> dict[str, BlockBusterFunction]:
    """Return the blocking functions of DuckDB, which blockbuster does not know: they work in C++."""
    methods = {
        f"duckdb.DuckDBPyConnection.{name}": BlockBusterFunction(
            duckdb.DuckDBPyConnection, name, scanned_modules=aiobatch
        )
        for name in _DUCKDB_METHODS
    }
    return {"duckdb.connect": BlockBusterFunction(duckdb, "connect", scanned_modules=aiobatch), **methods}


@pytest.fixture(scope="session", autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Fail a test if the package, or a function it calls, blocks a running event loop."""
    with blockbuster_ctx(aiobatch) as blockbuster:
        blockbuster.functions |= _duckdb_functions()
        for function in blockbuster.functions.values():
            for filename, names in _MAY_BLOCK.items():
                function.can_block_in(filename, names)
        blockbuster.activate()
        yield blockbuster


async def leaked_tasks() -> set[asyncio.Task[object]]:
    """Return the tasks of the loop apart from the caller, after some turns for closing."""
    for _ in range(10):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    yield
    left = await leaked_tasks()
    assert not left, f"the test left {len(left)} task(s) behind: {left}"


@pytest.fixture(autouse=True)
def _tidy_loop(request: pytest.FixtureRequest) -> None:
    """Fail an async test that leaves a task behind: set up first, it ends after the other fixtures."""
    if pytest_asyncio.is_async_test(request.node):
        request.getfixturevalue("_no_task_left")
