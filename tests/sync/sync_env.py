"""A sandbox on a real socket, a state file, and syncs from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from aiobatch import App, AudienceClient, Limits, PollingPolicy, Project, RetryPolicy
from aiobatch.sandbox import API_KEY, API_KEY_ANDROID, PROJECT_KEY, REST_API_KEY, Sandbox, SandboxOptions
from aiobatch.sync import (
    Run,
    StateLocation,
    StateUrl,
    SyncEngine,
    SyncOptions,
    SyncProgress,
    SyncReport,
    sync_audience,
)
from aiobatch.sync.state._history import list_runs
from aiobatch.sync.state._repair import drop_audience
from aiobatch.sync.state._schema import members_table
from aiobatch.sync.state._state import State
from aiobatch.sync.state._targets import TargetKey
from aiobatch.sync.state.objects._head import HeadFile
from aiobatch.sync.state.objects._layout import find_places
from aiobatch.sync.state.objects._load import Loader
from aiobatch.sync.state.objects._object_ledger import ObjectLedger
from aiobatch.sync.state.objects._open_state import read_state

from ..helpers.sandbox_clock import SandboxClock

PROJECT = Project(rest_api_key=REST_API_KEY, project_key=PROJECT_KEY)
IOS = App(rest_api_key=REST_API_KEY, api_key=API_KEY)
ANDROID = App(rest_api_key=REST_API_KEY, api_key=API_KEY_ANDROID)
INSTALLS = App(rest_api_key=REST_API_KEY, api_key=API_KEY, version="1.1")

# Everything that waits does so for milliseconds.
QUICK: dict[str, Any] = {
    "retry": RetryPolicy(initial=0.01, maximum=0.02, request_timeout=5, attempts=30, timeout=20),
    "polling": PollingPolicy(minimum=0.005, maximum=0.02, failure_maximum=0.02, poll_cost=0.01),
    "limits": Limits(pause_initial=0.01, pause_maximum=0.02),
}
ONCE = QUICK | {"retry": RetryPolicy(attempts=1, request_timeout=5)}


async def until(happened: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - it happens in a server or in a thread
            await asyncio.sleep(0.003)


def ids(*numbers: Iterable[int]) -> list[str]:
    """Return user IDs with these numbers."""
    return [f"user-{number}" for some in numbers for number in some]


@attrs.define
class SyncEnv:
    """The audience `vip`, its sandbox and its state file.

    Attributes:
        sandbox: The server.
        directory: The directory of all files.
        target: The audience's target.
        time: The sandbox's clock.
        progress: The progress updates of all runs.
    """

    sandbox: Sandbox
    directory: Path
    target: App | Project = PROJECT
    time: SandboxClock = attrs.field(factory=SandboxClock)
    progress: list[SyncProgress] = attrs.field(factory=list)
    store: StateUrl | None = None

    @property
    def state(self) -> Any:
        """The state: a file, unless *store* is a URL."""
        if self.store is None:
            return self.directory / "state.duckdb"
        return self.store

    @property
    def rejects(self) -> Path:
        """The file of rejected rows."""
        return self.directory / "rejects.csv"

    @property
    def writes(self) -> int:
        """The number of write requests so far."""
        return sum(self.sandbox.operation_counts[name] for name in ("create", "update", "replace", "delete"))

    def client(self, **kwargs: Any) -> AudienceClient:
        """Return a client that waits for milliseconds at most."""
        return AudienceClient(
            kwargs.pop("target", self.target), base_url=self.sandbox.url, **(QUICK | kwargs)
        )

    def options(self, **kwargs: Any) -> SyncOptions:
        """Return options with small chunks and short timeouts."""
        defaults = {"create": True, "chunk_size": 10, "drift_patience": 0.2, "timeout": 30.0, "grace": 5.0}
        return SyncOptions(**(defaults | kwargs))

    async def sync(
        self,
        source: Any,
        *,
        client: dict[str, Any] | None = None,
        stop: asyncio.Event | None = None,
        **options: Any,
    ) -> SyncReport:
        """Sync once, with a new client."""
        async with self.client(**(client or {})) as opened:
            return await sync_audience(
                opened,
                "vip",
                source,
                state=self.state,
                options=self.options(**options),
                on_progress=self.progress.append,
                stop=stop,
            )

    async def call(self, operation: str, *args: Any, **options: Any) -> Any:
        """Call one operation of an engine that is opened for it."""
        async with SyncEngine(state=self.state, options=self.options(**options)) as engine:
            return await getattr(engine, operation)(*args)

    def fill(self, members: Iterable[str]) -> None:
        """Replace the members as another writer would."""
        self.sandbox.replace_behind_back("vip", members)

    @property
    def members(self) -> set[str]:
        """The members in the sandbox."""
        return set(self.sandbox.members("vip"))

    async def believed(self) -> set[str]:
        """Return the members in the state."""
        return (await asyncio.to_thread(self._read))[0]

    async def runs(self) -> list[Run]:
        """Return the runs, latest first."""
        return (await asyncio.to_thread(self._read))[1]

    async def has_exactly(self, source: Iterable[str]) -> bool:
        """Return whether sandbox and state have these members. Check that the history adds up to them."""
        believed, history = await asyncio.to_thread(self._read)
        assert _add_up(history) == len(believed)
        return self.members == set(source) == believed

    def _read(self) -> tuple[set[str], list[Run]]:
        """Return the members and the runs. Check that no member is stored twice."""
        key = TargetKey.of(self.target).audience_key("vip")
        with opened_state(self.state) as state:
            known = state.rows("SELECT 1 FROM audiences WHERE key = ?", [key])
            read = "SELECT id FROM {members}"
            rows = state.rows(read, members=members_table(key)) if known else []
            history = list_runs(state, limit=1000)
        assert len(rows) == len(set(rows))
        return {id_ for (id_,) in rows}, history


def opened_state(location: StateLocation) -> State:
    """Return an open state with the members of all audiences."""
    if isinstance(location, Path):
        return State.read(location)
    state = read_state(location)
    ledger = state.ledger
    assert isinstance(ledger, ObjectLedger)
    for place in find_places(ledger.store):
        drop_audience(state, place.key)
        head = HeadFile(ledger.store, place).read()
        assert head is not None
        loader = Loader(state, ledger.store, ledger.scratch.path)
        loader.load(place, head, members=True)
        loader.load_reports(place, head, limit=1000, run=None)  # the head has the latest runs only
    return state


def _add_up(history: list[Run]) -> int:
    """Return the members after the last run. Check that each run starts where the one before it ended."""
    members = 0
    for run in reversed(history):
        assert run.settled
        assert run.members_before == members
        assert run.members_after is not None
        members = run.members_after
    return members


@asynccontextmanager
async def sync_env(directory: Path, **options: Any) -> AsyncIterator[SyncEnv]:
    """Start a sandbox with quick indexing, and yield its environment."""
    servers_time = SandboxClock()
    behaviour = SandboxOptions(**({"indexing_delay": (0.0, 0.02)} | options))
    async with Sandbox(behaviour, monotonic=servers_time) as sandbox:
        yield SyncEnv(sandbox, directory, time=servers_time)
