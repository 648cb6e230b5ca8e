"""Operations on an audience of many partitions, in processes that SIGKILL ends at any statement."""

from __future__ import annotations

import signal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ...helpers.sweep import examples
from ..sync_env import SyncEnv, ids, sync_env
from .test_killed_sync import SyncProcesses, sync_processes

# Four partitions of members. A replace is one call.
EARLIER, BASE, OTHER = ids(range(100, 480)), ids(range(400)), ids(range(200, 560))
FEW = OTHER[:90]
OPERATIONS: dict[str, dict[str, Any]] = {
    "rollback": {"operation": "rollback"},
    "add": {"mode": "add", "source": OTHER},
    "remove": {"mode": "remove", "source": OTHER},
    "replace": {"mode": "replace", "source": FEW},
    "resync": {"operation": "resync", "source": OTHER},
    "adopt": {"operation": "adopt", "source": EARLIER},
}
WANTED = {
    "rollback": {*EARLIER},
    "add": {*BASE, *OTHER},
    "remove": {*BASE} - {*OTHER},
    "replace": {*FEW},
    "resync": {*OTHER},
    "adopt": {*EARLIER},
}
KILLS = examples(1, 3, full=40)
MORE = [pytest.param(name, marks=pytest.mark.sweep) for name in list(OPERATIONS)[1:]]


async def prepare(env: SyncEnv, processes: SyncProcesses, name: str) -> dict[str, Any]:
    """Bring the audience to the same members as before each kill. Return the job."""
    if name == "rollback":
        assert await processes.sync(EARLIER, chunk_size=100) == "done"
        earlier = (await env.runs())[0].run
    assert await processes.sync(BASE, chunk_size=100) == "done"
    if name == "adopt":
        env.fill(EARLIER)
    job = {"wanted": OPERATIONS[name].get("source"), "chunk_size": 100}
    job |= {key: value for key, value in OPERATIONS[name].items() if key != "source"}
    return job | ({"to": earlier} if name == "rollback" else {})


@pytest.mark.parametrize("name", ["rollback", *MORE])
async def test_every_operation_is_exact_after_kills_at_any_statement(quick_path: Path, name: str) -> None:
    """After SIGKILL at any statement, the same operation ends with the members that it states."""
    random, killed = Random(name), 0
    async with sync_env(quick_path, indexing_delay=0) as env, sync_processes(env) as processes:
        while killed < KILLS:
            job = await prepare(env, processes, name)
            for _ in range(2):  # the second kill comes while the first is settled
                killed += await processes.sync(**job, statement=random.randrange(1, 150)) is None
            assert await processes.sync(**job) == "done"
            assert await env.has_exactly(WANTED[name])
        assert set(processes.ended) == {0, -signal.SIGKILL}
