"""The plugin: what it loads, what it refuses, and what it finds left behind."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .suites import Suite

_SYNC = "def test_sync(batch_sandbox):\n    pass\n"


def test_an_empty_run_loads_no_client(pytester: pytest.Pytester, suite: Suite) -> None:
    """A run that uses no fixture of the plugin does not pay for aiobatch."""
    code = """
import sys, pytest
pytest.main(["-p", "aiobatch", "-p", "pytest_asyncio.plugin", "--collect-only", "-W", "ignore"])
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("aiobatch", "aiohttp", "attrs")))
"""
    result = pytester.run(sys.executable, "-c", code)
    assert result.outlines[-1] == str(
        ["aiobatch", "aiobatch._pytest", "aiobatch._pytest._asyncio_fixtures", "aiobatch._version"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("indexing_dely=1", "Option 'indexing_dely' is unknown. Did you mean 'indexing_delay'?"),
        ("port=80", "Option 'port' is unknown. The options are api, delete_answer, faults, "),
        ("indexing_delay=-1", "indexing_delay in seconds must be a finite number of at least 0."),
        ("faults={'5O3': 1}", "Fault '5O3' is unknown."),
        ("rate='fast'", "A rate such as 5/s (requests per second) must be a finite number of at least 0."),
        ("api='3.0'", "api must be a version of Batch's API as a string, such as '1.0' or '2.x', not '3.0'."),
        ("api=2", "api must be a version of Batch's API as a string, such as '1.0' or '2.x', not 2."),
        ("api='1.7'", "1.7"),
        ("0.5", "Options have names, such as indexing_delay=2."),
    ],
)
def test_wrong_marker(suite: Suite, options: str, message: str) -> None:
    """A wrong option is a usage error that names the test."""
    result = suite.run(f"import pytest\n@pytest.mark.batch_sandbox({options})\n{_SYNC}")
    result.assert_outcomes(errors=1)
    text = result.stdout.str()
    assert "UsageError: test_wrong_marker.py::test_sync: @pytest.mark.batch_sandbox: " in text
    assert message in text


def test_marker_of_a_module(suite: Suite) -> None:
    """The closest marker counts, and None stands for the default."""
    source = """
import pytest
pytestmark = pytest.mark.batch_sandbox(faults={"503": 1})

def test_module(batch_sandbox):
    assert batch_sandbox.answer("GET", "/2.11/audiences/list", {})[0] == 503

@pytest.mark.batch_sandbox(faults=None, rate=None)
def test_function(batch_sandbox):
    assert batch_sandbox.answer("GET", "/2.11/audiences/list", {})[0] == 401
"""
    suite.run(source, "--strict-markers").assert_outcomes(passed=2)


@pytest.mark.parametrize("arguments", [(), ("-p", "pytest_asyncio.plugin")])
def test_client_in_a_sync_test(suite: Suite, arguments: tuple[str, ...]) -> None:
    """A test without an event loop has no client, and the error names it."""
    result = suite.run("def test_it(batch_client):\n    pass\n", *arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*UsageError: *::test_it: batch_client needs an async test *"])


@pytest.mark.parametrize(
    ("marker", "plugin"), [("asyncio", "pytest_asyncio.plugin"), ("anyio", "anyio.pytest_plugin")]
)
def test_left_task(suite: Suite, marker: str, plugin: str) -> None:
    """A task that outlives its test is an error of that test. One that ends soon is none."""
    source = f"""
import asyncio, pytest

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.{marker}
@pytest.mark.parametrize("seconds", [0.01, 1000])
async def test_task(batch_sandbox, seconds):
    test_task.kept = asyncio.create_task(asyncio.sleep(seconds), name="left")
"""
    result = suite.run(source, "-p", plugin)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*::test_task*1000* left 1 task(s) behind:", "*name='left'*"])


def test_left_thread(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of aiobatch that outlives its test is an error. Threads of others are none."""
    from aiobatch._pytest import _sandbox_thread

    monkeypatch.setattr(_sandbox_thread, "_PATIENCE", 0.5)
    source = """
import threading

event = threading.Event()

def test_thread(batch_sandbox):
    for name in ("aiobatch-state_0", "other"):
        threading.Thread(target=event.wait, name=name).start()

def test_end():
    event.set()
"""
    result = suite.run(source)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*::test_thread left 1 thread(s) behind: aiobatch-state_0"])


def test_sandbox_that_cannot_listen(suite: Suite) -> None:
    """The reason why the sandbox does not start is the error of the test."""
    source = f"""
import pytest
from aiobatch.sandbox import Sandbox

@pytest.fixture(autouse=True)
def full(monkeypatch):
    async def start(self):
        raise OSError("no port is free")

    monkeypatch.setattr(Sandbox, "start", start)

{_SYNC}"""
    result = suite.run(source)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*OSError: no port is free"])


def test_plugin_can_be_turned_off(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-p no:aiobatch` removes the fixtures. Without it, the installed distribution has them."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    others = [f"-pno:{name}" for name in ("pytest_cov", "schemathesis", "hypothesispytest", "aiohttp")]
    suite.run(_SYNC, *others, plugin=False).assert_outcomes(passed=1)
    result = suite.run(_SYNC, *others, "-p", "no:aiobatch", plugin=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'batch_sandbox' not found"])


@pytest.mark.parametrize("name", ["", "._version", "._pytest", "._pytest._asyncio_fixtures"])
def test_module_runs_again(name: str) -> None:
    """The modules that pytest imports before the coverage starts have no effects, so they can run again."""
    found = importlib.util.find_spec(f"aiobatch{name}")
    assert found is not None
    assert found.origin is not None
    original = importlib.import_module(f"aiobatch{name}")
    copy = ModuleType(original.__name__)
    copy.__dict__.update(__package__=original.__package__, __file__=found.origin)
    source = Path(found.origin).read_text(encoding="utf-8")
    exec(compile(source, found.origin, "exec"), copy.__dict__)  # noqa: S102 - the package's own source
    assert {name for name in vars(copy) if not name.startswith("__")} <= set(vars(original))


def test_assertions_of_aiobatch_are_not_rewritten(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test runs the code that production runs. Without pytest's private set of names, nothing fails."""
    source = """
import sys

def test_loader(batch_sandbox):
    hook = sys.meta_path[0]
    assert hook.find_spec("test_assertions_of_aiobatch_are_not_rewritten") is not None
    assert hook.find_spec("aiobatch.sandbox._store") is None
"""
    suite.run(source).assert_outcomes(passed=1)
    suite.run(_SYNC, "--assert=plain").assert_outcomes(passed=1)
