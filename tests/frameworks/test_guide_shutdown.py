"""The commands of docs/howto/web-app.md start servers that keep all tokens when they are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from aiobatch import AudienceClient, Project
from aiobatch.sandbox import Sandbox, SandboxOptions

from ..helpers.ports import reserved_port
from ..helpers.sandbox_clock import SandboxClock
from .guide_apps import TIMEOUT, environment, read_commands, read_programs, send

DELAY = 3600.0
PRELOADED = [
    (f"{command} --preload", of) for command, of in read_commands() if command.startswith("gunicorn")
]
# gunicorn starts slowly, and stops its workers by the same signal.
COMMANDS = [
    pytest.param(*each, id=each[0], marks=[pytest.mark.sweep] if each[0].startswith("gunicorn") else [])
    for each in [*read_commands(), *PRELOADED]
]


def test_page_has_a_command_for_each_server() -> None:
    """The page starts each app by itself and under gunicorn."""
    assert [(command.split()[0], framework) for command, framework in read_commands()] == [
        ("uvicorn", "FastAPI"),
        ("gunicorn", "FastAPI"),
        ("python", "aiohttp.web"),
        ("gunicorn", "aiohttp.web"),
    ]


@contextlib.asynccontextmanager
async def started(command: str, port: int, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command of the page on *port*, and kill what is left of it at the end."""
    program, *arguments = command.split()
    if program != "python":
        arguments = ["-m", program, *arguments]
    listen = {"gunicorn": ["--bind", f"127.0.0.1:{port}"], "uvicorn": ["--port", str(port)]}
    with (folder / "server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            *listen.get(program, []),
            cwd=folder,
            env=os.environ | {"PORT": str(port), "HOME": str(folder)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def until_serving(browser: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
    """Wait until the server responds."""
    while process.returncode is None:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            answer = await send(browser, "GET", "/tokens/rubbish")
            assert answer.status == 422
            return
        await asyncio.sleep(0.05)
    raise AssertionError((process.returncode, "the server ended"))


@pytest.mark.parametrize(("command", "framework"), COMMANDS)
async def test_sigterm_responds_with_all_tokens(
    command: str, framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open waits get 202, the server exits without an error, and another client resumes the waits."""
    # A wait outlasts every grace, so that only a drained client responds.
    program = read_programs()[framework].replace("\nWAIT = 20  ", "\nWAIT = 3600  ")
    assert "WAIT = 3600" in program
    (tmp_path / "main.py").write_text(program, encoding="utf-8")
    time = SandboxClock()
    async with (
        asyncio.timeout(TIMEOUT),
        Sandbox(SandboxOptions(indexing_delay=DELAY), monotonic=time) as sandbox,
    ):
        for variable, value in environment(sandbox.url).items():
            monkeypatch.setenv(variable, value)
        with reserved_port() as port:
            async with (
                started(command, port, tmp_path) as process,
                aiohttp.ClientSession(f"http://127.0.0.1:{port}") as browser,
            ):
                await until_serving(browser, process)
                waits = [
                    asyncio.create_task(send(browser, "POST", f"/audiences/new{number}"))
                    for number in range(6)
                ]
                while sandbox.operation_counts["create"] < len(waits):  # noqa: ASYNC110 - it has no event
                    await asyncio.sleep(0.01)
                gone = waits.pop()
                gone.cancel()  # this browser disconnects
                process.send_signal(signal.SIGTERM)
                answers = await asyncio.gather(*waits)
                assert await process.wait() in {0, -signal.SIGTERM}
        log = (tmp_path / "server.log").read_text(encoding="utf-8")
        assert {answer.status for answer in answers} == {202}, log
        assert "Traceback" not in log
        time.leap(DELAY)
        async with AudienceClient(Project.from_env()) as client:
            for answer in answers:
                assert (await client.await_applied(answer.content["token"])).nb_ids == 0
