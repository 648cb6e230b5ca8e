"""A resolver that never answers delays neither a signal, a timeout nor the end of a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aiobatch.cli import ExitCode

from ..helpers.hanging_resolver import HangingResolver
from .conftest import Run
from .reports import write
from .signals import PATIENCE, wait_until

pytestmark = pytest.mark.usefixtures("workdir", "sandbox")

ROOT = Path(__file__).resolve().parent.parent.parent
POSTGRESQL = ("--query", "SELECT 1 AS id")
LIBRARY = """
import asyncio
from aiobatch import AudienceClient, Project

async def main():
    client = AudienceClient(Project(rest_api_key="r", project_key="p"), base_url="https://batch.hang")
    async with client:
        async with asyncio.timeout(0.2):
            await client.view("vip")

try:
    asyncio.run(main())
except TimeoutError:
    print("ended")
"""


@pytest.fixture
def resolver(tmp_path: Path) -> HangingResolver:
    """Return a resolver."""
    return HangingResolver.build(tmp_path)


def _start(resolver: HangingResolver, *arguments: str, **env: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | resolver.env | env,
        stdout=pipe,
        stderr=pipe,
        text=True,
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("number", "code", "hangs"),
    [
        (signal.SIGTERM, ExitCode.TERMINATED, "batch"),
        (signal.SIGINT, ExitCode.INTERRUPTED, "source"),
    ],
)
def test_signals_end_a_sync(
    number: signal.Signals, code: ExitCode, hangs: str, resolver: HangingResolver, run: Run
) -> None:
    """The report and the exit code are those of the signal, and the locks are free."""
    run("create", "vip", "--wait")
    path = Path(write(["a"])).absolute()
    source = [str(path)] if hangs == "batch" else ["postgresql://user@server.hang/db", *POSTGRESQL]
    env = {"BATCH_BASE_URL": "https://batch.hang"} if hangs == "batch" else {}
    with _start(resolver, "-m", "aiobatch", "sync", "vip", *source, "--json", **env) as process:
        wait_until(lambda: resolver.mark.exists() or process.poll() is not None)
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    assert json.loads(out)["outcome"] == "interrupted"
    assert run("sync", "vip", str(path)).code == ExitCode.DONE


def test_timeout_ends_a_call_and_its_process(resolver: HangingResolver) -> None:
    """Neither `asyncio.timeout` nor the end of the event loop and the interpreter waits for the resolver."""
    with _start(resolver, "-c", LIBRARY) as process:
        out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out.strip()) == (0, "ended"), err
    assert resolver.mark.exists()
