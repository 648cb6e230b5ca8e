"""What every case plays on: keys and ids that cannot be mistaken, sandboxes, clients, processes."""

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

# A port is another one in every run.
_PORT = re.compile(r"(127\.0\.0\.1|\[::1\]|localhost):\d+")
ROOT = Path(__file__).resolve().parents[2]

REST_KEY = "Wq7rT4zKp9Xv2LmN8cBdYs5h"
APP_KEY = "Hd3Jf6Gk1Qw0ZxCvBn9PoLiU"
PROJECT_KEY = "Ty8RbEuM2sVa7NxKqF4gWjZp"
KEYS = (REST_KEY, APP_KEY, PROJECT_KEY)
# What all user ids have in common.
PRIVATE = "Xk9vQe3u"

PROJECT = Project(rest_api_key=REST_KEY, project_key=PROJECT_KEY)
APP = App(rest_api_key=REST_KEY, api_key=APP_KEY)
TARGETS: Mapping[str, App | Project] = {"1.x": APP, "2.x": PROJECT}

# Patience measured in milliseconds, and as many tries as a hostile network takes.
BRISK: Mapping[str, Any] = {
    "retry": RetryPolicy(initial=0.02, maximum=0.2, request_timeout=5, attempts=60, timeout=120, budget=5000),
    "polling": PollingPolicy(minimum=0.01, maximum=0.1, failure_maximum=0.1, poll_cost=0.01, timeout=120),
    "limits": Limits(pause_initial=0.02, pause_maximum=0.2),
}
# Files that tell others how a run stands, or whose it is.
_FOR_OTHERS = (".lock", ".status.json", ".status.tmp")
# The members of a sandbox that stand for its keys; it is told of others while a case runs.
_SANDBOX_KEYS = {
    "aiobatch.sandbox._mep.REST_API_KEY": REST_KEY,
    "aiobatch.sandbox._cep.REST_API_KEY": REST_KEY,
    "aiobatch.sandbox._sandbox.API_KEY": APP_KEY,
    "aiobatch.sandbox._sandbox.PROJECT_KEY": PROJECT_KEY,
}


def ids(count: int, start: int = 0) -> list[str]:
    """Name users; no id is part of another."""
    return [f"{PRIVATE}{number:07d}" for number in range(start, start + count)]


def give_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sandboxes know these keys in place of their own."""
    for name, key in _SANDBOX_KEYS.items():
        monkeypatch.setattr(name, key)


@attrs.define
class Case:
    """One line of the table.

    Attributes:
        full: Whether this is the whole campaign, which is longer.
        facts: What happened.
    """

    full: bool
    facts: list[str] = attrs.field(factory=list)

    def tell(self, fact: str) -> None:
        """Say something that happened."""
        self.facts.append(_PORT.sub(r"\1:…", fact))

    def count(self, *clients: AudienceClient) -> None:
        """Say what clients did."""
        stats = [client.stats for client in clients]
        paused = sum(each.seconds_paused for each in stats)
        self.tell(
            f"requests: {sum(each.requests for each in stats):,}, "
            f"retries: {sum(each.retries for each in stats):,}"
            + (f", paused: {paused:.1f} s" if paused else "")
        )

    def quote(self, error: BaseException) -> None:
        """Say what was raised, and in which words."""
        self.tell(f"{type(error).__name__}: “{error}”")

    def size(self, short: int, full: int) -> int:
        """Return a number: a small one, or a large one for the whole campaign."""
        return full if self.full else short


@attrs.define(eq=False)
class Output:
    """What a process left behind.

    Attributes:
        code: Its exit code.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
    """

    code: int
    out: str
    err: str


@attrs.define(eq=False)
class Ground:
    """Where a case plays.

    Attributes:
        case: Its line of the table.
        evidence: What it leaves behind.
        directory: Where its files are; all of them are searched.
    """

    case: Case
    evidence: LeakSearch
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
        """Open a client whose every event, error and repr is kept."""
        client = AudienceClient(target, base_url=url, on_event=self.evidence.hear, **(dict(BRISK) | kwargs))
        self.evidence.values += [target, client]
        try:
            async with client:
                yield client
                self.evidence.values += [client.stats, *asyncio.all_tasks()]
        except (AiobatchError, TimeoutError) as error:
            self.evidence.errors.append(error)
            raise
        self.evidence.values.append(client)

    @contextlib.contextmanager
    def expect(self, kind: type[Exception], match: str) -> Iterator[pytest.ExceptionInfo[Exception]]:
        """Expect an error, keep it, and quote it in the table."""
        with pytest.raises(kind, match=match) as caught:
            yield caught
        self.evidence.errors.append(caught.value)
        self.case.quote(caught.value)

    async def upload(self, client: AudienceClient, members: Iterable[str], name: str = "vip") -> None:
        """Create an audience, fill it, and wait until all of it is applied."""
        created = await client.create(name)
        if created is not None:
            await client.await_applied(created)
        tokens = await client.upload(name, add=members)
        self.evidence.values += tokens
        async for settled in client.settle(tokens):
            self.evidence.values.append(settled)
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
        self.evidence.values.append(report)
        return report

    def write(self, members: Iterable[str], name: str = "users.csv") -> Path:
        """Write a source; not among the files that are searched."""
        path = self.directory.parent / f"{self.directory.name}-{name}"
        path.write_text("\n".join(["id", *members, ""]), encoding="utf-8")
        return path

    def environment(self, url: str, **more: str) -> dict[str, str]:
        """Return a process's environment with keys, and without what this machine's user has set."""
        mine = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
        keys = {"BATCH_BASE_URL": url, "BATCH_REST_API_KEY": REST_KEY, "BATCH_PROJECT_KEY": PROJECT_KEY}
        return mine | {"XDG_DATA_HOME": str(self.directory), "COLUMNS": "200"} | keys | more

    def start(self, url: str, *argv: str, under: Sequence[str] = (), **env: str) -> subprocess.Popen[str]:
        """Start the command line as a process, logging at DEBUG, *under* another command if need be."""
        command = [*under, sys.executable, "-m", "aiobatch", *argv, "--log-level", "debug"]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment(url, **env), stdout=pipe, stderr=pipe, text=True
        )

    def finish(self, process: subprocess.Popen[str], timeout: float = 200) -> Output:
        """Wait for a process and keep what it wrote."""
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
        return self.keep(process.returncode, out, err)

    def keep(self, code: int | None, out: str, err: str) -> Output:
        """Keep what a process wrote."""
        output = Output(-1 if code is None else code, out, err)
        self.processes.append(output)
        return output

    def run(self, url: str, *argv: str, under: Sequence[str] = (), **env: str) -> Output:
        """Run the command line to its end."""
        return self.finish(self.start(url, *argv, under=under, **env))


def _is_foreign(name: str) -> bool:
    """Tell whether a variable of the environment would lead a process elsewhere."""
    return name.startswith(("BATCH_", "SSL_CERT", "COV_")) or name.lower().endswith("_proxy")


@contextlib.contextmanager
def served(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Serve a sandbox from a thread, for processes and for cases that block the event loop."""
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
    """Make a sandbox that indexes within milliseconds."""
    return Sandbox(SandboxOptions(**({"indexing_delay": (0.0, 0.05)} | options)))


def assert_silent(ground: Ground) -> None:
    """Search all that a case left behind: keys may be nowhere, ids in nothing that others read."""
    evidence = ground.evidence
    stacks = [stack(link) for error in evidence.errors for link in chain(error)]
    tracebacks = ["".join(traceback.format_exception(error)) for error in evidence.errors]
    texts = [*shown(evidence), *stacks]
    assert not find(KEYS, texts)
    assert not find([PRIVATE], [*shown(evidence), *tracebacks])
    assert not find(KEYS, (text for _, text in evidence.records))
    assert not find([PRIVATE], (text for level, text in evidence.records if level > logging.DEBUG))
    for output in ground.processes:
        assert not find(KEYS, [output.out, output.err])
        assert not find([PRIVATE], [output.out, *_above_debug(output.err)])
    for path in filter(Path.is_file, ground.directory.rglob("*")):
        words = [*KEYS, PRIVATE] if path.name.endswith(_FOR_OTHERS) else KEYS
        assert not find(words, _read(path)), path.name


def _above_debug(text: str) -> list[str]:
    """Return the lines that are no log record at DEBUG."""
    return [line for line in text.splitlines() if " DEBUG " not in line]


def _read(path: Path) -> Iterator[str]:
    """Yield what a file holds; of a database, each row as well, as it may be compressed."""
    yield path.read_bytes().decode("latin-1")
    if path.suffix == ".duckdb":
        with contextlib.suppress(duckdb.Error), duckdb.connect(path, read_only=True) as database:
            for (table,) in database.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                yield from map(str, database.execute(f'FROM "{table}"').fetchall())


Wait = Callable[[], bool]


async def until(happened: Wait, seconds: float = 120) -> None:
    """Wait until something has happened that nobody tells of."""
    async with asyncio.timeout(seconds):
        while not happened():  # noqa: ASYNC110 - it happens in a server, a thread or a process
            await asyncio.sleep(0.005)
