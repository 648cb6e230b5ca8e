"""The fixtures of the pytest plugin, in test suites of users."""

from __future__ import annotations

import pytest

from tests.pytest_plugin.suites import Suite

_WRITE = """
    await batch_client.await_applied(await batch_client.create("vip"))
    await batch_client.await_applied(await batch_client.update("vip", add=["u1"]))
    batch_sandbox.assert_members("vip", {"u1"})
"""
_PLAIN_TEST = f"async def test_write(batch_client, batch_sandbox):{_WRITE}"
_ANYIO = """
import pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
"""
_LOOP = "import pytest\n@pytest.mark.asyncio(loop_scope='session')\n"


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        pytest.param(
            _PLAIN_TEST, ["-p", "pytest_asyncio.plugin", "--asyncio-mode=auto"], id="pytest-asyncio, auto"
        ),
        pytest.param(
            f"import pytest\n@pytest.mark.asyncio\n{_PLAIN_TEST}",
            ["-p", "pytest_asyncio.plugin"],
            id="pytest-asyncio, strict",
        ),
        pytest.param(
            f"{_LOOP}{_PLAIN_TEST}",
            ["-p", "pytest_asyncio.plugin"],
            id="pytest-asyncio, one loop of the session",
        ),
        pytest.param(f"{_ANYIO}{_PLAIN_TEST}", ["-p", "anyio.pytest_plugin"], id="anyio"),
        pytest.param(
            f"{_ANYIO}{_PLAIN_TEST}",
            ["-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin"],
            id="anyio beside pytest-asyncio",
        ),
        pytest.param(
            _PLAIN_TEST.replace("batch_sandbox)", "batch_sandbox, loop)"),
            ["-p", "aiohttp.pytest_plugin", "-W", "ignore::DeprecationWarning"],
            id="aiohttp.pytest_plugin",
        ),
    ],
)
def test_client_is_open_in_the_loop_of_the_test(suite: Suite, source: str, arguments: list[str]) -> None:
    """`batch_client` works under each plugin that runs async tests."""
    suite.run(source, *arguments).assert_outcomes(passed=1)


def test_client_under_pytest_aiohttp(suite: Suite) -> None:
    """`batch_client` is in the loop of pytest-aiohttp's `aiohttp_client`."""
    pytest.importorskip("pytest_aiohttp", reason="pytest-aiohttp is not installed")
    source = f"""
from aiohttp import web

async def test_write(aiohttp_client, batch_client, batch_sandbox):
    await aiohttp_client(web.Application()){_WRITE}"""
    suite.run(
        source, "-p", "pytest_asyncio.plugin", "-p", "pytest_aiohttp.plugin", "--asyncio-mode=auto"
    ).assert_outcomes(passed=1)


def test_other_fixtures_can_use_the_client(suite: Suite) -> None:
    """A fixture that fills an audience gets an open client."""
    source = f"""
import pytest

@pytest.fixture
async def vip(batch_client, batch_sandbox):{_WRITE}    return "vip"

async def test_view(vip, batch_client):
    assert (await batch_client.view(vip)).nb_ids == 1
"""
    suite.run(source, "-p", "pytest_asyncio.plugin", "--asyncio-mode=auto").assert_outcomes(passed=1)


def test_sync_test_runs_a_subprocess(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in another process writes to the sandbox, with its keys, and to a state of the test."""
    monkeypatch.setenv("BATCH_API_KEY", "of-the-developer")
    source = """
import pathlib, subprocess, sys

def run(*words):
    subprocess.run([sys.executable, "-m", "aiobatch", *words], check=True)

def test_sync(batch_sandbox, tmp_path):
    (tmp_path / "ids.csv").write_text("id\\nu1\\nu2\\n")
    run("sync", "vip", str(tmp_path / "ids.csv"), "--create")
    batch_sandbox.assert_members("vip", ["u1", "u2"], scope="2.x")
    (home,) = tmp_path.parent.rglob("state.duckdb")
"""
    suite.run(source).assert_outcomes(passed=1)


def test_variables_are_restored(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the developer are back after the test, and are never seen in it."""
    monkeypatch.setenv("BATCH_BASE_URL", "https://batch.example")
    source = """
import os

def test_in(batch_sandbox):
    assert os.environ["BATCH_BASE_URL"] == batch_sandbox.url

def test_after():
    assert os.environ["BATCH_BASE_URL"] == "https://batch.example"
    assert "BATCH_REST_API_KEY" not in os.environ
"""
    suite.run(source).assert_outcomes(passed=2)


@pytest.mark.parametrize("api", ["1.0", "1.1", "1.x", "2.x", "2.4"])
def test_api_of_the_marker(suite: Suite, api: str) -> None:
    """The client and the variables are of the marker's version of the API."""
    source = f"""
import os, pytest

@pytest.mark.asyncio
@pytest.mark.batch_sandbox(api={api!r}, rate="500/s")
async def test_write(batch_client, batch_sandbox):
    await batch_client.create("vip")
    (audience,) = batch_sandbox.audiences()
    assert audience.scope == {api[0]!r} + ".x"
    assert batch_client.target.version == os.environ["BATCH_API_VERSION"]
    assert {api!r} in (batch_client.target.version, {api[0]!r} + ".x")
"""
    suite.run(source, "-p", "pytest_asyncio.plugin").assert_outcomes(passed=1)


def test_clock_travels(suite: Suite) -> None:
    """With `batch_clock` a wait of ten minutes and a maintenance of one hour take no real time."""
    source = """
import pytest

@pytest.mark.asyncio
@pytest.mark.batch_sandbox(indexing_delay=600)
async def test_wait(batch_client, batch_sandbox, batch_clock):
    created = await batch_client.create("vip")
    batch_sandbox.fail_for("503", 3600)
    await batch_client.await_applied(created, timeout=None)
    assert 3600 < batch_clock.monotonic() < 3700
    assert batch_client.stats.polls < 500
"""
    suite.run(source, "-p", "pytest_asyncio.plugin").assert_outcomes(passed=1)


def test_every_test_has_a_sandbox_of_its_own(suite: Suite) -> None:
    """Audiences do not outlive a test, also with several processes."""
    source = """
import pytest

@pytest.mark.asyncio
@pytest.mark.parametrize("number", range(4))
async def test_create(batch_client, number):
    await batch_client.await_applied(await batch_client.create("vip"))
"""
    suite.run(source, "-p", "pytest_asyncio.plugin", "-p", "xdist.plugin", "-n", "2").assert_outcomes(
        passed=4
    )
