"""The scenario of short commands, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

from ..contenders import aiobatch_sync
from ..measure.processes import ROOT, run_in_subprocess
from ..results.rows import Baseline, Row, Target, make_row
from ..servers.sync_stub import running_sync_stub
from ..workload.id_files import ids_file


@attrs.frozen(kw_only=True)
class Commands:
    """`aiobatch --version` and `aiobatch status`, with the start of the interpreter.

    Attributes:
        ids: The number of IDs of the audience whose status is shown.
    """

    rounds: int = 15
    ids: int = 10_000

    def run(self, name: str, rounds: int) -> list[Row]:
        """Measure seconds. The first run of each fills the caches and does not count."""
        with tempfile.TemporaryDirectory(prefix="aiobatch-benchmarks-") as directory:
            state = Path(directory) / "state.duckdb"
            with running_sync_stub() as url:
                source = str(ids_file(0, self.ids))
                run_in_subprocess(aiobatch_sync.sync, url=url, order={}, source=source, state=str(state))
            commands = {
                "version": ["-m", "aiobatch", "--version"],
                "status": ["-m", "aiobatch", "status", "--state", str(state)],
                "import": ["-c", "import aiohttp"],
            }
            measured = {
                key: [_run(arguments, directory) for _ in range(rounds + 1)][1:]
                for key, arguments in commands.items()
            }
        baseline = Baseline(name="import aiohttp", values=measured["import"])
        ratio, seconds = Target(sign="<=", bound=1.5, of="ratio"), Target(sign="<=", bound=0.5)
        return [
            make_row(name, "aiobatch --version, seconds", measured["version"], baseline, ratio),
            make_row(name, "aiobatch status, seconds", measured["status"], None, seconds),
        ]


def _run(arguments: list[str], home: str) -> float:
    """Run a fresh interpreter and return the seconds of its process."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "HOME": home, "XDG_DATA_HOME": home}
    started = time.perf_counter()
    subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    return time.perf_counter() - started
