"""The sandbox of a test, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

import attrs
import pytest

from .._client import quick_polling
from ..errors import InvalidInputError
from ..options import App, Project
from ..sandbox import API_KEY, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions, parse_rate
from ..testing import FakeClock

_MARKER = "batch_sandbox"
# Seconds for the sandbox to start, and for threads to end after a test.
_PATIENCE = 10.0
# A test cannot choose them, because tests in other processes use ports too.
_FIXED = {"host", "port"}
_NAMES = sorted({field.name for field in attrs.fields(SandboxOptions)} - _FIXED | {"api"})


def read_options(node: pytest.Item) -> tuple[SandboxOptions, App | Project]:
    """Return the options of a test's sandbox, and the target that the test writes to.

    Args:
        node: The test. Its marker is the closest one: of its function, class or module.

    Raises:
        pytest.UsageError: The marker has an unknown option or an invalid value.
    """
    marker = node.get_closest_marker(_MARKER)
    try:
        if marker is None:
            return SandboxOptions(indexing_delay=0), _choose_target("2.x")
        if marker.args:
            msg = f"Options have names, such as indexing_delay=2. The names are {', '.join(_NAMES)}."
            raise InvalidInputError(msg)
        return _parse(marker.kwargs)
    except InvalidInputError as error:
        msg = f"{node.nodeid}: @pytest.mark.{_MARKER}: {error}"
        raise pytest.UsageError(msg) from None


def _parse(given: Mapping[str, Any]) -> tuple[SandboxOptions, App | Project]:
    """Return the options and the target of a marker."""
    for name in given:
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"The options are {', '.join(_NAMES)}."
            msg = f"Option {name!r} is unknown. {hint}"
            raise InvalidInputError(msg)
    fields: dict[str, Any] = {"indexing_delay": 0} | {
        name: value for name, value in given.items() if name != "api" and value is not None
    }
    if isinstance(rate := fields.get("rate"), str):
        fields["rate"] = parse_rate(rate)
    return SandboxOptions(**fields), _choose_target(given.get("api", "2.x"))


def _choose_target(api: object) -> App | Project:
    """Return the sandbox's app or project, with the version *api*."""
    major, _, minor = str(api).partition(".")
    if not isinstance(api, str) or major not in {"1", "2"}:
        msg = f"api must be a version of Batch's API as a string, such as '1.0' or '2.x', not {api!r}."
        raise InvalidInputError(msg)
    version = {} if minor == "x" else {"version": api}
    if major == "1":
        return App(rest_api_key=REST_API_KEY, api_key=API_KEY, **version)
    return Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY, **version)


def set_environment(monkeypatch: pytest.MonkeyPatch, url: str, target: App | Project) -> None:
    """Set the variables that clients and commands read, and remove the others of Batch.

    Args:
        monkeypatch: Restores the variables after the test.
        url: The sandbox's address.
        target: The sandbox's app or project.
    """
    for name in os.environ:
        if name.startswith("BATCH_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCH_BASE_URL", url)
    monkeypatch.setenv("BATCH_REST_API_KEY", REST_API_KEY)
    monkeypatch.setenv("BATCH_API_VERSION", target.version)
    if isinstance(target, App):
        monkeypatch.setenv("BATCH_API_KEY", API_KEY)
    else:
        monkeypatch.setenv("BATCH_PROJECT_KEY", PROJECT_KEY)


@contextlib.contextmanager
def serve_sandbox(options: SandboxOptions, clock: FakeClock | None, test: str) -> Iterator[Sandbox]:
    """Serve a sandbox from a thread. Clients of this process poll it fast, unless it has a rate limit.

    Args:
        options: The sandbox's options.
        clock: The clock of its indexing, rate and lasting faults. None for real time.
        test: The name of the test. It fails if a thread of aiobatch is left at the end.
    """
    sandbox = Sandbox(options) if clock is None else Sandbox(options, monotonic=clock.monotonic)
    before = set(threading.enumerate())
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    name = "aiobatch-sandbox"
    thread = threading.Thread(target=_run, args=(sandbox, started), name=name, daemon=True)
    thread.start()
    loop, stop = started.result(_PATIENCE)
    try:
        with quick_polling(sandbox.url) if options.rate is None else contextlib.nullcontext():
            yield sandbox
    finally:
        loop.call_soon_threadsafe(stop.set)
        left = _wait_for_threads(before)
    if left:
        pytest.fail(f"{test} left {len(left)} thread(s) behind: {', '.join(left)}", pytrace=False)


def _run(sandbox: Sandbox, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    """Serve until the event is set."""

    async def serve() -> None:
        stop = asyncio.Event()
        async with sandbox:
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()

    try:
        asyncio.run(serve())
    except Exception as error:  # noqa: BLE001 - the test raises it
        started.set_exception(error)


def _wait_for_threads(before: set[threading.Thread]) -> list[str]:
    """Wait until the threads of aiobatch end that a test started. Return the names of the others."""
    deadline = time.monotonic() + _PATIENCE
    threads = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name.startswith("aiobatch-")
    ]
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return sorted(thread.name for thread in threads if thread.is_alive())
