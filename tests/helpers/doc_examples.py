"""Run the Python blocks of README.md and docs/**/*.md, top to bottom, against a sandbox.

A block can use `await` at its top level. The environment holds the keys and the address of the sandbox.
A page is one test: its blocks share names, so parallel workers must not divide them.
tests/conftest.py loads this plugin, so you can run one page:

    pytest tests/helpers/doc_examples.py README.md
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.evaluators.python import pad
from sybil.parsers.markdown import CodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
_RUNNER = "_documentation_runner"


@contextlib.contextmanager
def sandbox_environment() -> Iterator[None]:
    """Point BATCH_* at a sandbox and the data directory at an empty directory.

    A thread serves the sandbox, so that a block can run its own event loop.
    """
    ready: Future[dict[str, str]] = Future()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[_serve(ready, stop)])
    thread.start()
    try:
        with tempfile.TemporaryDirectory() as data, _environment(ready.result() | {"XDG_DATA_HOME": data}):
            yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _serve(ready: Future[dict[str, str]], stop: asyncio.Event) -> None:
    """Keep a sandbox open until *stop* is set. An error at its start is raised through *ready*."""
    from aiobatch import sandbox  # a page without Python does not need it

    try:
        async with sandbox.Sandbox(sandbox.SandboxOptions(indexing_delay=0.05)) as server:
            keys = {
                "BATCH_REST_API_KEY": sandbox.REST_API_KEY,
                "BATCH_API_KEY": sandbox.API_KEY,
                "BATCH_PROJECT_KEY": sandbox.PROJECT_KEY,
            }
            ready.set_result({"BATCH_BASE_URL": server.url, **keys})
            await stop.wait()
    except BaseException as exc:
        if ready.done():
            raise
        ready.set_exception(exc)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set *values* in the environment, and restore it afterwards."""
    before = os.environ.copy()
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_block(example: Example) -> None:
    """Run one block in the namespace and, if it awaits, on the event loop of its page."""
    source = pad(example.parsed, example.line + example.parsed.line_offset)
    code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, example.namespace)  # noqa: S307 - the project's own documentation
    if inspect.iscoroutine(result):
        example.namespace[_RUNNER].run(result)


_SYBIL = Sybil(
    parsers=[CodeBlockParser("python", run_block), SkipParser()],
    patterns=["README.md", "docs/**/*.md"],
    path=str(ROOT),
)


class _Page(pytest.File):
    """A page with at least one Python block."""

    def collect(self) -> Iterator[pytest.Item]:
        if any(_SYBIL.parse(self.path)):
            yield _Blocks.from_parent(self, name="blocks")


class _Blocks(pytest.Item):
    """All Python blocks of a page, in order."""

    def runtest(self) -> None:
        document = _SYBIL.parse(self.path)
        document.namespace["__name__"] = "__main__"
        with sandbox_environment(), asyncio.Runner() as runner:
            document.namespace[_RUNNER] = runner
            for example in document:
                example.evaluate()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> _Page | None:
    """Collect README.md and the pages of docs/."""
    return _Page.from_parent(parent, path=file_path) if _SYBIL.should_parse(file_path) else None
