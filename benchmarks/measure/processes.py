"""Subprocesses: the server, and a fresh interpreter for each side of each round."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).resolve().parents[2]

Measures = dict[str, float]
MeasuredFunction = Callable[..., Coroutine[Any, Any, Measures]]


@contextlib.contextmanager
def running_server(module: str = "benchmarks.servers.stub") -> Iterator[str]:
    """Run a server in a subprocess and yield its URL.

    Args:
        module: The server's module.
    """
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this interpreter
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def run_in_subprocess(function: MeasuredFunction, **arguments: object) -> Measures:
    """Run *function* in a fresh interpreter.

    Args:
        function: A function at the top level of a module.
        arguments: Its arguments, which must be JSON.

    Raises:
        CalledProcessError: It failed. Its traceback is on standard error.
    """
    return run_by_name_in_subprocess(function.__module__, function.__name__, **arguments)


def run_by_name_in_subprocess(module: str, function: str, **arguments: object) -> Measures:
    """Run a function in a fresh interpreter without importing it here.

    Args:
        module: Its module.
        function: Its name.
        arguments: As for `run_in_subprocess`.

    Raises:
        CalledProcessError: As for `run_in_subprocess`.
    """
    job = orjson.dumps([module, function, arguments])
    command = [sys.executable, "-m", "benchmarks.measure.processes"]
    done = subprocess.run(command, cwd=ROOT, input=job, stdout=subprocess.PIPE, check=True)  # noqa: S603 - this interpreter
    measures: Measures = orjson.loads(done.stdout)
    return measures


def _settle_malloc() -> None:
    """Free one large block, so that no side has an advantage by chance.

    asyncio reads into blocks of 256 KiB. glibc maps and unmaps each of them, with two page faults a request,
    until a larger block was freed. Whether an import happens to free one changes the rate by a sixth.
    """
    bytearray(8 << 20)


def _main() -> None:
    """Run the function named on standard input, and print its measures."""
    _settle_malloc()
    module, name, arguments = orjson.loads(sys.stdin.buffer.read())
    function: MeasuredFunction = getattr(importlib.import_module(module), name)
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(function(**arguments))))


if __name__ == "__main__":
    _main()
