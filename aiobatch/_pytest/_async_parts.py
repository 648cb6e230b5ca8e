"""What the plugin does in the event loop of an async test."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

import pytest

from .._client import AudienceClient
from ..interfaces import Request, Response
from ..options import App, PollingPolicy, Project
from ..sandbox import Sandbox
from ..testing import FakeTransport

# Seconds in which a task that ends by itself may end.
_PATIENCE = 1.0
_MAX_SHOWN = 5


@contextlib.asynccontextmanager
async def open_client(request: pytest.FixtureRequest) -> AsyncIterator[AudienceClient]:
    """Open a client of the test's sandbox."""
    target = App.from_env() if os.environ.get("BATCH_API_KEY") else Project.from_env()
    if "batch_clock" not in request.fixturenames:
        client = AudienceClient(target)
    else:
        sandbox: Sandbox = request.getfixturevalue("batch_sandbox")
        clock = request.getfixturevalue("batch_clock")
        # Not the fast polling of a sandbox, because time costs nothing here.
        client = AudienceClient(target, transport=_in_process(sandbox), clock=clock, polling=PollingPolicy())
    async with client:
        yield client


def _in_process(sandbox: Sandbox) -> FakeTransport:
    """Return a transport that reaches *sandbox* without a socket."""

    def answer(request: Request) -> Response:
        status, headers, body = sandbox.answer(request.method, request.target, request.headers, request.body)
        return Response(status=status, headers=headers, body=body)

    return FakeTransport(answer)


@contextlib.asynccontextmanager
async def watch_tasks(test: str) -> AsyncIterator[None]:
    """Fail the test if it leaves a task in its event loop.

    Args:
        test: The name of the test.
    """
    before = asyncio.all_tasks()
    yield
    left = {task for task in asyncio.all_tasks() - before - {asyncio.current_task()} if not _is_anyios(task)}
    if left:
        _, left = await asyncio.wait(left, timeout=_PATIENCE)
    if left:
        shown = "\n".join(sorted(map(repr, left))[:_MAX_SHOWN])
        pytest.fail(f"{test} left {len(left)} task(s) behind:\n{shown}", pytrace=False)


def _is_anyios(task: asyncio.Task[object]) -> bool:
    """Return whether anyio's test runner created the task, which waits for this fixture."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and f"{os.sep}anyio{os.sep}" in code.co_filename
