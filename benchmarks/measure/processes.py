"""Processes of their own: the server's, and a fresh one for each side of each round."""

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
Contender = Callable[..., Coroutine[Any, Any, Measures]]


@contextlib.contextmanager
def running_server(module: str = "benchmarks.servers.stub") -> Iterator[str]:
    """Run a server, which writes its port; yield its URL.

    Args:
        module: The server's.
    """
    command = [sys.executable, "-m", module]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - this interpreter
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


def run_apart(contender: Contender, **arguments: object) -> Measures:
    """Run *contender* in a fresh interpreter.

    Args:
        contender: A function at the top of a module; nothing else of what this process has loaded goes along.
        arguments: Its arguments, as far as JSON can hold them.

    Raises:
        CalledProcessError: It failed; its traceback is on standard error.
    """
    return run_named(contender.__module__, contender.__name__, **arguments)


def run_named(module: str, function: str, **arguments: object) -> Measures:
    """Run a contender that this process need not import, in a fresh interpreter.

    Args:
        module: Where it is.
        function: Its name there.
        arguments: As for `run_apart`.

    Raises:
        CalledProcessError: As for `run_apart`.
    """
    job = orjson.dumps([module, function, arguments])
    command = [sys.executable, "-m", "benchmarks.measure.processes"]
    done = subprocess.run(command, cwd=ROOT, input=job, stdout=subprocess.PIPE, check=True)  # noqa: S603 - this interpreter
    measures: Measures = orjson.loads(done.stdout)
    return measures


def _settle_malloc() -> None:
    """Free one large block, so that no side is ahead by chance.

    asyncio reads into blocks of 256 KiB. glibc maps and unmaps each of them, at two page faults a request,
    until a larger one was freed; whether an import happened to do so would decide about a sixth of the rate.
    """
    bytearray(8 << 20)


def _main() -> None:
    """Do the job that standard input holds, in the process that `run_apart` started."""
    _settle_malloc()
    module, name, arguments = orjson.loads(sys.stdin.buffer.read())
    contender: Contender = getattr(importlib.import_module(module), name)
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(contender(**arguments))))


if __name__ == "__main__":
    _main()
