"""States that earlier code wrote: they open, their open run is resumed, and their history is complete.

`old_states/COMMIT.sql` is a dump of what that commit wrote. A change that these states do not survive needs a
higher version in `aiobatch.sync.state._schema`, and a migration or a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aiobatch import AudienceClient, Member
from aiobatch.sync import RunOutcome, SyncEngine, read_attempts

from ..sync_env import SyncEnv, ids, sync_env, until

STATES = sorted((Path(__file__).resolve().parent / "old_states").glob("*.sql"))
old_state = pytest.mark.parametrize("dump", STATES, ids=lambda path: path.stem)


def _users(*numbers: range) -> list[str]:
    return [text.replace("user-", "u") for text in ids(*numbers)]


@asynccontextmanager
async def _restored(dump: Path, env: SyncEnv, *, sent: bool) -> AsyncIterator[AudienceClient]:
    """Restore a state, and its audiences at Batch as they were when its last run was killed.

    Args:
        dump: The dump of the state.
        env: The sandbox, and the path of the state.
        sent: Whether the third chunk of that run has a token. If not, its outcome is unknown.
    """
    async with env.client() as client:
        for name in ("vip", "other"):
            await client.create(name)
        await until(lambda: len(env.sandbox.audiences()) == 2)
        await client.upload("vip", add=_users(range(5, 40)))
        token = await client.update("vip", add=_users(range(40, 50)))
        await client.update("other", add=[Member("a", attributes={"city": "Paris"}), Member("b")])
        created = {name: (await client.view(name)).created for name in ("vip", "other")}
        await asyncio.to_thread(_write, env.state, dump, created, str(token) if sent else None)
        yield client


def _write(path: Path, dump: Path, created: dict[str, Any], token: str | None) -> None:
    with duckdb.connect(path) as state:
        state.execute(dump.read_text(encoding="utf-8"))
        for name, made in created.items():
            # The audiences of this test are new ones. All else is as it was written.
            where = "key = (SELECT key FROM audiences WHERE name = ?)"
            state.execute(f"UPDATE last_seen SET made = ?, changed = NULL WHERE {where}", [made, name])
        if token is None:
            state.execute("DELETE FROM marks WHERE seq = 5")
        else:
            state.execute("UPDATE marks SET token = ? WHERE seq = 5", [token])


@pytest.mark.sample(1)
@old_state
@pytest.mark.parametrize("sent", [True, False], ids=["sent", "unknown"])
async def test_states_of_earlier_code_are_resumed(dump: Path, sent: bool, tmp_path: Path) -> None:
    """The next sync finishes the open run, sends the difference, and the audience is exact."""
    async with sync_env(tmp_path) as env, _restored(dump, env, sent=sent) as client:
        async with SyncEngine(state=env.state, options=env.options()) as engine:
            report = await engine.sync(client, "vip", _users(range(5, 60)))
            assert (report.outcome, report.settled_run, report.run) == (RunOutcome.DONE, 5, 6)
            assert report.adds in ({10} if sent else {10, 20})
            assert (await engine.sync(client, "vip", _users(range(5, 60)))).changes == 0
        assert env.members == set(_users(range(5, 60))) == await env.believed()
        assert len(await asyncio.to_thread(read_attempts, env.state)) == 2


@pytest.mark.sample(1)
@old_state
async def test_the_history_of_earlier_code_is_kept(dump: Path, tmp_path: Path) -> None:
    """Status and runs can be read before anything is written, and a rollback reaches the first runs."""
    async with sync_env(tmp_path) as env, _restored(dump, env, sent=True) as client:
        engine = SyncEngine(state=env.state, options=env.options())
        status = await engine.status()
        assert {one.audience: (one.members, one.open_run) for one in status.audiences} == {
            "vip": (15, 5),
            "other": (2, None),
        }
        assert [run.run for run in (await engine.runs("vip")).runs] == [5, 4, 2, 1]
        shown = await engine.show(2)
        assert (shown.adds, shown.members_after, shown.outcome) == (10, 20, RunOutcome.DONE)
        async with engine:
            settled = await engine.settle(client, "vip")
            assert settled is not None
            assert (settled.run, settled.members_after) == (5, 45)
            assert (await engine.verify(client, "other")).drift == 0
            report = await engine.rollback(client, "vip", 4)
            assert (report.removes, report.outcome) == (30, RunOutcome.DONE)
            assert (await engine.rollback(client, "vip", 2)).members_after == 20
        assert env.members == set(_users(range(20)))
