"""The command line as a user has it: a sandbox in a thread, an environment with its keys, and a terminal."""

from __future__ import annotations

import asyncio
import functools
import os
import pty
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest

from aiobatch import AudienceClient, PollingPolicy
from aiobatch.cli import main
from aiobatch.cli.inputs import _credentials as _target
from aiobatch.cli.options import _sync as _sync_options
from aiobatch.sandbox import API_KEY, API_KEY_ANDROID, PROJECT_KEY, REST_API_KEY, Sandbox
from aiobatch.sync import SyncOptions
from aiobatch.sync.config import _load as _config
from aiobatch.testing import running_sandbox

KEYS = (REST_API_KEY, API_KEY, API_KEY_ANDROID, PROJECT_KEY)


@attrs.frozen
class Result:
    """The exit code and the output of a run."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The fields of tab-separated output, without its heading."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]

    @property
    def heading(self) -> list[str]:
        """The heading of tab-separated output."""
        return self.out.partition("\n")[0].split("\t")

    @property
    def objects(self) -> list[Any]:
        """The objects of JSON output."""
        return [orjson.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process. A key in its output is a failure."""

    def run_main(*argv: str) -> Result:
        capfd.readouterr()
        code = main(argv)
        result = Result(code, *capfd.readouterr())
        if argv[0] != "sandbox":
            assert not any(key in result.out + result.err for key in KEYS)
        return result

    return run_main


class SandboxThread:
    """A sandbox that is served from a thread, since the command line has an event loop of its own."""

    def __init__(self, **options: Any) -> None:
        self._ready: Future[Sandbox] = Future()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve(options)])

    async def _serve(self, options: dict[str, Any]) -> None:
        async with running_sandbox(**options) as sandbox:
            self._ready.set_result(sandbox)
            await self._stop.wait()

    def __enter__(self) -> Sandbox:
        self._thread.start()
        return self._ready.result()

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


def set_keys(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> None:
    """Set the environment variables of a sandbox and its project."""
    monkeypatch.setenv("BATCH_BASE_URL", sandbox.url)
    monkeypatch.setenv("BATCH_REST_API_KEY", REST_API_KEY)
    monkeypatch.setenv("BATCH_PROJECT_KEY", PROJECT_KEY)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without keys, and as wide as anybody's terminal."""
    for name in [name for name in os.environ if name.startswith("BATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_drift_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a count that differs once, and not for ten seconds."""
    for module in (_sync_options, _config):
        monkeypatch.setattr(module, "DEFAULTS", SyncOptions(drift_patience=0.0))


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the process a data directory of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def workdir(monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """Work in an empty directory."""
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A quick sandbox whose project the environment names, and waits that are as quick."""
    polling = PollingPolicy(poll_cost=0.001, minimum=0.01)
    monkeypatch.setattr(_target, "AudienceClient", functools.partial(AudienceClient, polling=polling))
    with SandboxThread(indexing_delay=0) as sandbox:
        set_keys(monkeypatch, sandbox)
        yield sandbox


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox in which nothing is ever applied but the making of an audience."""
    with SandboxThread(indexing_delay=(0.0, 0.0)) as sandbox:
        set_keys(monkeypatch, sandbox)
        assert main(["create", "vip", "--wait", "--quiet"]) == 0
        sandbox._store._draw_delay = lambda: 3600.0
        yield sandbox


def apply_all(sandbox: Sandbox) -> None:
    """Make a slow sandbox apply all past and future writes at once."""
    sandbox._store._draw_delay = lambda: 0.0
    sandbox._store._monotonic = lambda: time.monotonic() + 24 * 3600


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Give the process a text as its standard input."""
    opened = []

    def give(text: str) -> None:
        path = tmp_path / "stdin"
        path.write_text(text, encoding="utf-8")
        opened.append(path.open(encoding="utf-8"))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield give
    for file in opened:
        file.close()


class Terminal:
    """A pseudo-terminal in place of stdin, stdout and stderr."""

    def __init__(self) -> None:
        self._master: int | None
        self._master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[1] &= ~termios.OPOST  # a newline stays one character
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        self.streams = {
            "stdin": os.fdopen(os.dup(slave), "r", encoding="utf-8"),
            "stdout": os.fdopen(os.dup(slave), "w", encoding="utf-8", buffering=1),
            "stderr": os.fdopen(slave, "w", encoding="utf-8", buffering=1),
        }
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._master is not None
        try:
            while data := os.read(self._master, 65536):
                self._seen += data
        except OSError:  # the other end was closed
            return

    def run(self, *argv: str) -> int:
        """Run the command line in this process, at this terminal."""
        with pytest.MonkeyPatch.context() as patch:
            for name, stream in self.streams.items():
                patch.setattr(sys, name, stream)
            return main(argv)

    def type(self, text: str) -> None:
        """Type something."""
        assert self._master is not None
        os.write(self._master, text.encode())

    def screen(self) -> str:
        """Close the terminal and return everything that was written to it."""
        for stream in self.streams.values():
            stream.close()
        self._reader.join()
        if self._master is not None:
            os.close(self._master)
            self._master = None
        return self._seen.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Sit at a terminal."""
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal()
    yield terminal
    terminal.screen()
