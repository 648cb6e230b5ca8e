"""The pytest plugin: fixtures `batch_sandbox`, `batch_client`, `batch_clock`, and marker `batch_sandbox`.

pytest imports this module in every run, so the fixtures import the rest of aiobatch when a test needs it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .._client import AudienceClient
    from ..sandbox import Sandbox
    from ..testing import FakeClock

_MARKER = (
    "batch_sandbox(indexing_delay=0, faults=None, rate=None, api='2.x', **options): "
    "options of the fixture batch_sandbox, as SandboxOptions takes them, and the version of Batch's API"
)
# Tests with one of these fixtures run in the event loop of anyio or of aiohttp.pytest_plugin.
_OTHER_LOOPS = {"anyio_backend", "loop"}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Test the code that production runs: take aiobatch from the packages whose assertions pytest rewrites.

    pytest adds every package of a distribution that has a plugin. There is no public way out of it.
    """
    marked = getattr(early_config.pluginmanager.rewrite_hook, "_must_rewrite", None)
    if isinstance(marked, set):
        marked.discard(__package__.partition(".")[0])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and the fixtures of pytest-asyncio if it is active."""
    config.addinivalue_line("markers", _MARKER)
    if _has_pytest_asyncio(config):
        from . import _asyncio_fixtures  # noqa: PLC0415 - the user may not have pytest-asyncio

        config.pluginmanager.register(_asyncio_fixtures, _asyncio_fixtures.__name__)


@pytest.fixture
def batch_clock() -> FakeClock:
    """Return a clock that jumps to the next event as soon as every task waits.

    The test's `batch_sandbox` and `batch_client` take their time from it. The client then reaches the sandbox
    without a socket.
    """
    from ..testing import FakeClock  # noqa: PLC0415 - see the module

    return FakeClock()


@pytest.fixture
def batch_sandbox(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sandbox]:
    """Serve Batch's audience APIs on a free port, in a thread of its own, and set BATCH_* for its clients.

    The thread serves sync tests, async tests and their subprocesses. Each test has a sandbox of its own, and
    syncs have an empty default state. A task or thread of aiobatch that the test leaves is an error.
    """
    from ._sandbox_thread import read_options, serve_sandbox, set_environment  # noqa: PLC0415 - see the module

    options, target = read_options(request.node)
    clock = request.getfixturevalue("batch_clock") if "batch_clock" in request.fixturenames else None
    scope = _loop_scope(request)
    if scope is not None:
        request.getfixturevalue(f"_batch_tasks_{scope}")
    with serve_sandbox(options, clock, request.node.nodeid) as sandbox:
        set_environment(monkeypatch, sandbox.url, target)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("aiobatch")))
        yield sandbox


@pytest.fixture
def batch_client(request: pytest.FixtureRequest) -> AudienceClient:
    """Return an open client of the test's `batch_sandbox`, in the event loop of the test.

    pytest-asyncio, pytest-aiohttp or anyio must run the test.
    """
    request.getfixturevalue("batch_sandbox")
    scope = _loop_scope(request)
    if scope is None:
        msg = (
            f"{request.node.nodeid}: batch_client needs an async test that pytest-asyncio, pytest-aiohttp or "
            "anyio runs. In another test, open an AudienceClient in your own event loop."
        )
        raise pytest.UsageError(msg)
    client: AudienceClient = request.getfixturevalue(f"_batch_client_{scope}")
    return client


@pytest.fixture
async def _batch_client_other(request: pytest.FixtureRequest) -> AsyncIterator[AudienceClient]:
    from ._async_parts import open_client  # noqa: PLC0415 - see the module

    async with open_client(request) as client:
        yield client


@pytest.fixture
async def _batch_tasks_other(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    from ._async_parts import watch_tasks  # noqa: PLC0415 - see the module

    async with watch_tasks(request.node.nodeid):
        yield


def _loop_scope(request: pytest.FixtureRequest) -> str | None:
    """Return which private fixtures run in the event loop of the test. None if it has no event loop."""
    node, config = request.node, request.config
    if _has_pytest_asyncio(config):
        from pytest_asyncio import is_async_test  # noqa: PLC0415 - the user may not have it

        if is_async_test(node):
            marker = node.get_closest_marker("asyncio")
            scope: str | None = marker.kwargs.get("loop_scope") if marker else None
            return scope or config.getini("asyncio_default_test_loop_scope")
    return None if _OTHER_LOOPS.isdisjoint(request.fixturenames) else "other"


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    plugin = sys.modules.get("pytest_asyncio.plugin")
    return plugin is not None and config.pluginmanager.is_registered(plugin)
