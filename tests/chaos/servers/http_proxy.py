"""A real HTTP proxy, https://pypi.org/project/proxy.py/, as a process."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

needs_proxy = pytest.mark.skipif(
    importlib.util.find_spec("proxy") is None, reason="proxy.py is not installed: make .venv/.test"
)


@attrs.define(kw_only=True)
class Proxy:
    """A running proxy.

    Attributes:
        port: Its port.
        log: Its log file, with a line for each connection.
    """

    port: int
    log: Path

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def lines(self, word: str) -> list[str]:
        """Return the lines of its log that contain *word*."""
        return [line for line in self.log.read_text(encoding="utf-8").splitlines() if word in line]


@contextlib.contextmanager
def running_proxy(directory: Path, *options: str) -> Iterator[Proxy]:
    """Run a proxy on a free port.

    Args:
        directory: The directory of its files.
        options: Further command-line options.
    """
    directory.mkdir()
    port_file, log = directory / "port", directory / "log"
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"]
    command += ["--port-file", str(port_file), "--num-workers", "1", "--num-acceptors", "1"]
    command += ["--data-dir", str(directory), *options]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            deadline = time.monotonic() + 60
            while not (port_file.exists() and port_file.read_text(encoding="ascii").strip()):
                assert process.poll() is None, log.read_text(encoding="utf-8")
                assert time.monotonic() < deadline, "the proxy does not listen"
                time.sleep(0.01)
            yield Proxy(port=int(port_file.read_text(encoding="ascii")), log=log)
        finally:
            process.terminate()
            process.wait(60)
