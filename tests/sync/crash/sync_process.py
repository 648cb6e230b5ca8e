"""A process that forks one child for each line on standard input, which syncs and can be killed.

Modules are imported once, before the first fork, so that a child begins to sync at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from aiobatch import AiobatchError, AudienceClient, Project
from aiobatch.sync import GuardPolicy, Mode, StateUrl, SyncEngine, SyncOptions
from aiobatch.sync.state._lock import FileLock
from aiobatch.sync.state._state import State
from aiobatch.sync.state.objects import _lease

from ..state.states import in_partitions_of
from ..sync_env import PROJECT, QUICK


@contextlib.contextmanager
def terminable() -> Iterator[asyncio.Event]:
    """Set an event on SIGTERM. The signal is blocked before and afterwards, while nothing handles it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    yield stop
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _quick(job: dict[str, Any]) -> dict[str, Any]:
    """Return the policies of the client. The lease of a short life needs short requests."""
    if job.get("lease") is None:
        return QUICK
    return QUICK | {"retry": attrs.evolve(QUICK["retry"], request_timeout=job["lease"] / 3)}


def be_elsewhere(lease: float) -> None:
    """Live as on another machine, without the locks of this one, and with leases of *lease* seconds."""
    _lease.TIME_TO_LIVE = lease  # type: ignore[misc]
    acquire, scratch = FileLock.acquire, tempfile.gettempdir()

    def acquire_own(self: FileLock, what: str) -> FileLock:
        return acquire(self, what) if self.path.is_relative_to(scratch) else self

    FileLock.acquire = acquire_own  # type: ignore[method-assign, assignment]


async def operate(engine: SyncEngine, client: AudienceClient, job: dict[str, Any]) -> str:
    """Do what a line asks, and return the outcome."""
    source, name = job["source"], job.get("operation", "sync")
    if name == "sync" and source is None:
        await engine.settle(client, "vip")
        return "settled"
    what = job["to"] if name == "rollback" else source
    report = await getattr(engine, name)(client, "vip", what)
    return str(report.outcome)


async def sync(job: dict[str, Any], stop: asyncio.Event) -> str:
    """Do what a line asks with a state and a client. Return the outcome or the error."""
    options = SyncOptions(
        create=True,
        chunk_size=job.get("chunk_size", 10),
        drift_patience=5.0,
        grace=1.0,
        wait=job["wait"],
        mode=Mode(job.get("mode", Mode.MIRROR)),
        guard=GuardPolicy(max_removals_percent=None),
    )
    state = StateUrl(job["state"]) if "://" in job["state"] else Path(job["state"])
    project = Project.from_env() if "BATCH_PROJECT_KEY" in os.environ else PROJECT
    async with AudienceClient(project, base_url=job["url"], **_quick(job)) as client:
        try:
            async with SyncEngine(state=state, options=options, stop=stop) as engine:
                return await operate(engine, client, job)
        except AiobatchError as error:
            return f"{type(error).__name__}: {error}"


def die_before_statement(number: int) -> None:
    """Send SIGKILL to this process before it executes that statement in the state, from 1."""
    rows, numbers = State.rows, itertools.count(1)

    def counted(self: State, *args: Any, **names: str) -> list[tuple[Any, ...]]:
        if next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows(self, *args, **names)

    State.rows = counted  # type: ignore[method-assign, assignment]


async def work(job: dict[str, Any]) -> str:
    """Sync or settle until SIGTERM comes."""
    with terminable() as stop:
        return await sync(job, stop)


def live(job: dict[str, Any]) -> None:
    """Run in the child."""
    logging.disable()
    if job["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["file_size"], resource.RLIM_INFINITY))
    if job.get("lease") is not None:
        be_elsewhere(job["lease"])
    if job.get("statement") is not None:
        die_before_statement(job["statement"])
    report(asyncio.run(work(job)))


def report(*words: object) -> None:
    """Print to the test."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Fork a child for each line. Print its number, its output and its exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # a child inherits that
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                with in_partitions_of(100):
                    live(json.loads(line))
            finally:
                os._exit(0)
        report(child)
        _, status = os.waitpid(child, 0)
        report("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
