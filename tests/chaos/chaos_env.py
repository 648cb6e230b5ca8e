"""The environment of a case: unmistakable keys and IDs, sandboxes, clients, processes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import attrs
import duckdb
import pytest

from aiobatch import App, AudienceClient, Limits, PollingPolicy, Project, RetryPolicy
from aiobatch.errors import AiobatchError
from aiobatch.sandbox import Sandbox, SandboxOptions
from aiobatch.sync import SyncOptions, SyncReport, sync_audience

from ..helpers.leak_search import LeakSearch, chain, find, shown, stack

# Ports differ from run to run.
_PORT = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):\d+")
ROOT = Path(__file__).resolve().parents[2]

REST_KEY = "Wq7rT4zKp9Xv2LmN8cBdYs5h"
APP_KEY = "Hd3Jf6Gk1Qw0ZxCvBn9PoLiU"
PROJECT_KEY = "Ty8RbEuM2sVa7NxKqF4gWjZp"
KEYS = (REST_KEY, APP_KEY, PROJECT_KEY)
# The common prefix of all user IDs.
PRIVATE = "Xk9vQe3u"

PROJECT = Project(rest_api_key=REST_KEY, project_key=PROJECT_KEY)
APP = App(rest_api_key=REST_KEY, api_key=APP_KEY)
TARGETS: Mapping[str, App | Project] = {"1.x": APP, "2.x": PROJECT}

# Short intervals, and enough tries for a hostile network.
FAST_POLICIES: Mapping[str, Any] = {
    "retry": RetryPolicy(initial=0.02, maximum=0.2, request_timeout=5, attempts=60, timeout=120, budget=5000),
    "polling": PollingPolicy(minimum=0.01, maximum=0.1, failure_maximum=0.1, poll_cost=0.01, timeout=120),
    "limits": Limits(pause_initial=0.02, pause_maximum=0.2),
}
# Files for other processes: status and lock.
_FOR_OTHERS = (".lock", ".status.json", ".status.json.tmp")
# The sandbox's keys, which are replaced while a case runs.
_SANDBOX_KEYS = {
    "aiobatch.sandbox._mep.REST_API_KEY": REST_KEY,
    "aiobatch.sandbox._cep.REST_API_KEY": REST_KEY,
    "aiobatch.sandbox._sandbox.API_KEY": APP_KEY,
    "aiobatch.sandbox._sandbox.PROJECT_KEY": PROJECT_KEY,
}


def ids(count: int, start: int = 0) -> list[str]:
    """Return user IDs, none of which is part of another."""
    return [f"{PRIVATE}{number:07d}" for number in range(start, start + count)]


def use_distinct_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the sandbox's keys by these."""
    for name, key in _SANDBOX_KEYS.items():
        monkeypatch.setattr(name, key)


@attrs.define
class Case:
    """One row of the table.

    Attributes:
        full: Whether this is the full campaign.
        facts: The results.
    """

    full: bool
    facts: list[str] = attrs.field(factory=list)

    def add_fact(self, fact: str) -> None:
        """Add a result."""
        self.facts.append(_PORT.sub(r"\1:…", fact))

    def add_requests(self, *clients: AudienceClient) -> None:
        """Add the numbers of requests and retries of clients."""
        stats = [client.stats for client in clients]
        paused = sum(each.seconds_paused for each in stats)
        self.add_fact(
            f"requests: {sum(each.requests for each in stats):,}, "
            f"retries: {sum(each.retries for each in stats):,}"
            + (f", paused: {paused:.1f} s" if paused else "")
        )

    def add_error(self, error: BaseException) -> None:
        """Add the class and text of an error."""
        self.add_fact(f"{type(error).__name__}: “{error}”")

    def size(self, short: int, full: int) -> int:
        """Return *short*, or *full* in the full campaign."""
        return full if self.full else short


@attrs.define(eq=False)
class Output:
    """The result of a process.

    Attributes:
        code: Its exit code.
        out: Its stdout.
        err: Its stderr.
    """

    code: int
    out: str
    err: str


@attrs.define(eq=False)
class ChaosEnv:
    """The environment of a case.

    Attributes:
        case: Its row of the table.
        leak_search: Its logs, events, errors and results, to be searched.
        directory: The directory of its files, all of which are searched.
    """

    case: Case
    leak_search: LeakSearch
    directory: Path
    processes: list[Output] = attrs.field(factory=list)

    @property
    def state(self) -> Path:
        """The state file."""
        return self.directory / "state.duckdb"

    @contextlib.asynccontextmanager
    async def client(
        self, url: str, target: App | Project = PROJECT, **kwargs: Any
    ) -> AsyncIterator[AudienceClient]:
        """Open a client. Its events, errors and repr are searched."""
        client = AudienceClient(
            target, base_url=url, on_event=self.leak_search.hear, **(dict(FAST_POLICIES) | kwargs)
        )
        self.leak_search.values += [target, client]
        try:
            async with client:
                yield client
                self.leak_search.values += [client.stats, *asyncio.all_tasks()]
        except (AiobatchError, TimeoutError) as error:
            self.leak_search.errors.append(error)
            raise
        self.leak_search.values.append(client)

    @contextlib.contextmanager
    def expect(self, kind: type[Exception], match: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
        """Expect an error, and add its text to the table."""
        with pytest.raises(kind, match=match) as caught:
            yield caught
        self.leak_search.errors.append(caught.value)
        self.case.add_error(caught.value)

    async def upload(self, client: AudienceClient, members: Iterable[str], name: str = "vip") -> None:
        """Create an audience, upload *members*, and wait until all are applied."""
        created = await client.create(name)
        if created is not None:
            await client.await_applied(created)
        tokens = await client.upload(name, add=members)
        self.leak_search.values += tokens
        async for settled in client.settle(tokens):
            self.leak_search.values.append(settled)
            assert settled.error is None

    async def sync(
        self,
        client: AudienceClient,
        source: Any,
        name: str = "vip",
        *,
        state: Path | None = None,
        **options: Any,
    ) -> SyncReport:
        """Sync an audience once."""
        defaults = {"create": True, "chunk_size": 1000, "drift_patience": 2.0, "timeout": 120.0, "grace": 5.0}
        report = await sync_audience(
            client, name, source, state=state or self.state, options=SyncOptions(**(defaults | options))
        )
        self.leak_search.values.append(report)
        return report

    def write(self, members: Iterable[str], name: str = "users.csv") -> Path:
        """Write a source outside the searched directory."""
        path = self.directory.parent / f"{self.directory.name}-{name}"
        path.write_text("\n".join(["id", *members, ""]), encoding="utf-8")
        return path

    def environment(self, url: str, **more: str) -> dict[str, str]:
        """Return a process's environment with keys, and without the user's own settings."""
        mine = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
        keys = {"BATCH_BASE_URL": url, "BATCH_REST_API_KEY": REST_KEY, "BATCH_PROJECT_KEY": PROJECT_KEY}
        return mine | {"XDG_DATA_HOME": str(self.directory), "COLUMNS": "200"} | keys | more

    def start(self, url: str, *argv: str, under: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start the command line with DEBUG logs, optionally as an argument of the command *under*."""
        command = [*under, sys.executable, "-m", "aiobatch", *argv, "--log-level", "debug"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment(url, **env), stdout=pipe, stderr=pipe, text=True
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 200) -> Output:
        """Wait for a process and keep its output."""
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return self.keep(process.returncode, out, err)

    def keep(self, code: int | None, out: str, err: str) -> Output:
        """Keep the output of a process for the search."""
        output = Output(-1 if code is None else code, out, err)
        self.processes.append(output)
        return output

    def run(self, url: str, *argv: str, under: Sequence[str] = (), **env: str) -> Output:
        """Run the command line and wait for it."""
        return self.finish(self.start(url, *argv, under=under, **env))


def _is_foreign(name: str) -> bool:
    """Return whether an environment variable would change a process's keys, certificates or proxies."""
    return name.startswith(("BATCH_", "SSL_CERT", "COV_")) or name.lower().endswith("_proxy")


@contextlib.contextmanager
def served(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Run a sandbox in a thread, for processes and for cases that block the event loop."""
    loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), Future[None]()

    async def serve() -> None:
        try:
            async with sandbox:
                ready.set_result(None)
                await stop.wait()
        except OSError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    try:
        ready.result()
        yield sandbox
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def quick_sandbox(**options: Any) -> Sandbox:
    """Return a sandbox that indexes within milliseconds."""
    return Sandbox(SandboxOptions(**({"indexing_delay": (0.0, 0.05)} | options)))


def assert_no_leaks(chaos_env: ChaosEnv) -> None:
    """Fail if a case left a key anywhere, or an ID in anything that others read."""
    leak_search = chaos_env.leak_search
    stacks = [stack(link) for error in leak_search.errors for link in chain(error)]
    tracebacks = ["".join(traceback.format_exception(error)) for error in leak_search.errors]
    texts = [*shown(leak_search), *stacks]
    assert not find(KEYS, texts)
    assert not find([PRIVATE], [*shown(leak_search), *tracebacks])
    assert not find(KEYS, (text for _, text in leak_search.records))
    assert not find([PRIVATE], (text for level, text in leak_search.records if level > logging.DEBUG))
    for output in chaos_env.processes:
        assert not find(KEYS, [output.out, output.err])
        assert not find([PRIVATE], [output.out, *_above_debug(output.err)])
    for path in filter(Path.is_file, chaos_env.directory.rglob("*")):
        words = [*KEYS, PRIVATE] if path.name.endswith(_FOR_OTHERS) else KEYS
        assert not find(words, _read(path)), path.name


def _above_debug(text: str) -> list[str]:
    """Return the lines that are not DEBUG log records."""
    return [line for line in text.splitlines() if " DEBUG " not in line]


def _read(path: Path) -> Iterator[str]:
    """Yield a file's contents, and the rows of a database, which may be compressed in the file."""
    yield path.read_bytes().decode("latin-1")
    if path.suffix == ".duckdb":
        with contextlib.suppress(duckdb.Error), duckdb.connect(path, read_only=True) as database:
            for (table,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                yield from map(str, database.execute(f'FROM "{table}"').fetchall())


Wait = Callable[[], bool]


async def wait_until(happened: Wait, seconds: float = 120) -> None:
    """Poll until *happened* returns true."""
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110 - it happens in a server, a thread or a process
            await asyncio.sleep(0.005)
