"""The scenario of a user's test suite with the pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import attrs

from ..measure.processes import Measures
from ..results.rows import Row, Target, make_rows

_SUITE: Final = """
import pytest

@pytest.mark.parametrize("number", range({tests}))
async def test_write(batch_client, batch_sandbox, number):
    created = await batch_client.create("vip")
    await batch_client.await_applied(created)
    token = await batch_client.update("vip", add=[f"u{{number}}"])
    await batch_client.await_applied(token)
    batch_sandbox.assert_members("vip", {{f"u{{number}}"}})
"""
_INI: Final = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


@attrs.frozen(kw_only=True)
class SandboxedTests:
    """Tests that create and update an audience and wait for both. Each has a sandbox of its own.

    Attributes:
        tests: The number of tests.
    """

    rounds: int = 5
    tests: int = 100

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure the seconds of pytest's process, in which the tests run one after the other."""
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            (Path(directory) / "pytest.ini").write_text(_INI, encoding="utf-8")
            suite = Path(directory) / "test_suite.py"
            suite.write_text(_SUITE.format(tests=self.tests), encoding="utf-8")
            measured = [self._run_pytest(directory) for _ in range(rounds)]
        what = f"pytest with {self.tests} tests in one process"
        target = Target(sign="<=", bound=20)
        shown = (("seconds", f"{what}, seconds", target), ("cpu", f"{what}, CPU seconds", None))
        return make_rows(name, measured, shown)

    def _run_pytest(self, directory: str) -> Measures:
        """Run the suite and return its seconds and its CPU seconds.

        Raises:
            RuntimeError: A test failed, so the seconds mean nothing.
        """
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        environment = {**os.environ, "HOME": directory, "XDG_DATA_HOME": directory}
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(  # noqa: S603 - this interpreter
            command, cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        seconds, after = time.perf_counter() - started, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        if f"{self.tests} passed" not in done.stdout:
            msg = f"The suite failed:\n{done.stdout}{done.stderr}"
            raise RuntimeError(msg)
        return {"seconds": seconds, "cpu": cpu}
