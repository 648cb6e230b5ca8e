"""A sandbox on a real socket, a state, and syncs between them: what the tests of the engine play in."""

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
    State,
    SyncOptions,
    SyncProgress,
    SyncReport,
    list_runs,
    sync_audience,
)
from aiobatch.sync.run._audience_run import target_key_of
from aiobatch.sync.state._schema import members_table

from ..helpers.sandbox_clock import ServersTime

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
    """Wait until something has happened that nobody tells of."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - it happens in a server or in a thread
            await asyncio.sleep(0.003)


def ids(*numbers: Iterable[int]) -> list[str]:
    """Name users by numbers."""
    return [f"user-{number}" for some in numbers for number in some]


@attrs.define
class World:
    """One audience, `vip`, its sandbox, and where the state is kept.

    Attributes:
        sandbox: The server.
        directory: Where files may go.
        target: Whose audience it is.
        time: The time that the sandbox goes by.
        progress: What the runs told.
    """

    sandbox: Sandbox
    directory: Path
    target: App | Project = PROJECT
    time: ServersTime = attrs.field(factory=ServersTime)
    progress: list[SyncProgress] = attrs.field(factory=list)

    @property
    def state(self) -> Path:
        """The state file."""
        return self.directory / "state.duckdb"

    @property
    def rejects(self) -> Path:
        """The file of rejected rows."""
        return self.directory / "rejects.csv"

    @property
    def writes(self) -> int:
        """Requests so far that would change something."""
        return sum(self.sandbox.operation_counts[name] for name in ("create", "update", "replace", "delete"))

    def client(self, **kwargs: Any) -> AudienceClient:
        """Make a client that waits for milliseconds."""
        return AudienceClient(
            kwargs.pop("target", self.target), base_url=self.sandbox.url, **(QUICK | kwargs)
        )

    def options(self, **kwargs: Any) -> SyncOptions:
        """Make options for small chunks and little patience."""
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
        """Sync once, with a client of its own."""
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

    def fill(self, members: Iterable[str]) -> None:
        """Let somebody else give the audience members."""
        self.sandbox.replace_behind_back("vip", members)

    @property
    def members(self) -> set[str]:
        """What Batch has."""
        return set(self.sandbox.members("vip"))

    async def believed(self) -> set[str]:
        """Return what the state believes, each id once."""
        return (await asyncio.to_thread(self._read))[0]

    async def runs(self) -> list[Run]:
        """Return the history, the latest run first."""
        return (await asyncio.to_thread(self._read))[1]

    async def has_exactly(self, source: Iterable[str]) -> bool:
        """Tell whether Batch and the state have these members, and the history adds up to them."""
        believed, history = await asyncio.to_thread(self._read)
        assert _add_up(history) == len(believed)
        return self.members == set(source) == believed

    def _read(self) -> tuple[set[str], list[Run]]:
        """Return members, each of which is there once, and history."""
        key = target_key_of(self.target).audience_key("vip")
        with State.read(self.state) as state:
            known = state.rows("SELECT 1 FROM audiences WHERE key = ?", [key])
            read = "SELECT id FROM {members}"
            rows = state.rows(read, members=members_table(key)) if known else []
            history = list_runs(state, limit=1000)
        assert len(rows) == len(set(rows))
        return {id_ for (id_,) in rows}, history


def _add_up(history: list[Run]) -> int:
    """Return the members after the last run; each settled run begins where the one before it ended."""
    members = 0
    for run in reversed(history):
        assert run.settled
        assert run.members_before == members
        assert run.members_after is not None
        members = run.members_after
    return members


@asynccontextmanager
async def world(directory: Path, **options: Any) -> AsyncIterator[World]:
    """Run a sandbox with quick indexing, and give what plays in it."""
    servers_time = ServersTime()
    behaviour = SandboxOptions(**({"indexing_delay": (0.0, 0.02)} | options))
    async with Sandbox(behaviour, monotonic=servers_time) as sandbox:
        yield World(sandbox, directory, time=servers_time)
