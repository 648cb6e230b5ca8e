from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiobatch import RetryPolicy
from aiobatch.sync import (
    DriftError,
    GuardError,
    Mode,
    Overrides,
    ReplacedElsewhereError,
    RunOutcome,
    sync_audience,
)

from ..sync_env import IOS, ids, sync_env, until


async def test_replaced_token_stops_this_run_and_later_ones(tmp_path: Path) -> None:
    """After REPLACED the members are unknown, and only a run that restates them may continue."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.time.halt()
        writing = asyncio.create_task(env.sync(ids(range(40))))
        await until(lambda: env.sandbox.operation_counts["update"] >= 4)
        env.fill(["stranger"])
        env.time.go_on()
        with pytest.raises(ReplacedElsewhereError, match=r"engine\.resync") as caught:
            await writing
        assert caught.value.report.outcome is RunOutcome.REPLACED
        assert (await env.runs())[0].outcome is RunOutcome.REPLACED
        writes = env.writes
        with pytest.raises(ReplacedElsewhereError, match="replaced the members"):
            await env.sync(ids(range(40)))  # it may have a token left to ask about
        with pytest.raises(ReplacedElsewhereError, match="during run 2"):
            await env.sync(ids(range(40)))
        assert env.writes == writes
        report = await env.sync(ids(range(40)), mode=Mode.RESYNC)
        assert env.members == {*ids(range(40)), "stranger"}
        assert report.counted == 41
        assert "No recorded run sent the extra members" in report.warnings[-1].text
        env.sandbox.write_behind_back("vip", remove=["stranger"])
        await env.sync(ids(range(41)))
        assert await env.has_exactly(ids(range(41)))


async def test_resync_tolerates_replaced_tokens_of_earlier_runs(tmp_path: Path) -> None:
    """REPLACED tokens of an interrupted run do not stop a run that sends everything again."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        report = await env.sync(ids(range(60)), wait=False)
        assert report.outcome is RunOutcome.SENT
        env.fill(["stranger"])
        report = await env.sync(ids(range(60)), mode=Mode.RESYNC)
        assert env.members == {*ids(range(60)), "stranger"}
        assert {run.outcome for run in await env.runs()} == {RunOutcome.DONE, RunOutcome.REPLACED}


@pytest.mark.parametrize("mode", [Mode.RESYNC, Mode.REPLACE])
async def test_restating_run_fails_when_its_own_token_is_replaced(tmp_path: Path, mode: Mode) -> None:
    """A resync or replace fails if another writer replaces what it sent itself."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(5)))
        env.time.halt()
        before = env.writes
        writing = asyncio.create_task(env.sync(ids(range(8)), mode=mode))
        await until(lambda: env.writes > before)
        env.fill(["stranger"])
        env.time.go_on()
        with pytest.raises(ReplacedElsewhereError, match=r"engine\.resync"):
            await writing
        assert (await env.runs())[0].outcome is RunOutcome.REPLACED
        with pytest.raises(ReplacedElsewhereError, match="during run 2"):
            await env.sync(ids(range(8)))
        await env.sync(ids(range(8)), mode=Mode.REPLACE)
        assert await env.has_exactly(ids(range(8)))


async def test_resync_removes_ids_known_from_history(tmp_path: Path) -> None:
    """IDs that a run removed and another writer added again are removed without emptying the audience."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await env.sync(ids(range(1, 20)))
        env.sandbox.write_behind_back("vip", add=["user-0"], remove=["user-5"])
        report = await env.sync(ids(range(1, 20)), mode=Mode.RESYNC)
        assert (report.untracked_removals, report.resends, report.warnings) == (1, 19, ())
        assert await env.has_exactly(ids(range(1, 20)))
        assert env.sandbox.operation_counts["replace"] == 0


async def test_guard_counts_untracked_removals(tmp_path: Path) -> None:
    """A resync with a broken source removes no more of what Batch holds than any other run."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(200)))
        await env.sync(ids(range(150)))
        await env.sync(ids(range(110)))
        env.fill(ids(range(200)))
        with pytest.raises(GuardError, match="90 removals are 45") as caught:
            await env.sync(ids(range(110)), mode=Mode.RESYNC)
        assert caught.value.options == {"allow_removals": 90}
        assert len(env.members) == 200
        allowed = Overrides(allow_removals=90)
        await env.sync(ids(range(110)), mode=Mode.RESYNC, overrides=allowed)
        assert await env.has_exactly(ids(range(110)))


async def test_resync_of_unknown_members_warns(tmp_path: Path) -> None:
    """A resync warns that members which no run sent remain."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        report = await env.sync(["a", "b"], mode=Mode.RESYNC)
        assert "no record of" in report.warnings[0].text
        assert await env.has_exactly(["a", "b"])


async def test_count_mismatch_before_a_run_warns_or_fails(tmp_path: Path) -> None:
    """A different count is a warning, or an error before anything is sent if the options are strict."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stray"])
        writes = env.writes
        with pytest.raises(DriftError, match="before the run") as caught:
            await env.sync(ids(range(21)), strict=True)
        assert (env.writes, caught.value.report.outcome) == (writes, RunOutcome.DRIFT)
        tolerated = await env.sync(ids(range(20)), drift=1, strict=True)
        # Its time may show the foreign write as well, if it is in another second.
        assert not any("Batch counts" in one.text for one in tolerated.warnings)
        report = await env.sync(ids(range(20)))
        assert "Another writer may be active" in report.warnings[0].text
        assert len(report.warnings) == 1


async def test_strict_drift_after_a_run_is_recorded(tmp_path: Path) -> None:
    """If the options are strict, the history records drift and keeps the changes. Nothing is resent."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.time.halt()
        writing = asyncio.create_task(env.sync(ids(range(30)), strict=True))
        await until(lambda: env.sandbox.operation_counts["update"] >= 3)
        env.sandbox.write_behind_back("vip", add=["stray"])
        env.time.go_on()
        with pytest.raises(DriftError, match="after the run") as caught:
            await writing
        assert caught.value.report.outcome is RunOutcome.DRIFT
        assert caught.value.run == 2
        run = (await env.runs())[0]
        assert (run.outcome, run.members_after, run.settled) == (RunOutcome.DRIFT, 30, True)
        env.sandbox.write_behind_back("vip", remove=["stray"])
        assert (await env.sync(ids(range(30)))).changes == 0


async def test_lagging_count_is_awaited(tmp_path: Path) -> None:
    """A count that becomes right within the patience is right."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stray"])
        looks = env.sandbox.operation_counts["view"] + 2
        syncing = asyncio.create_task(env.sync(ids(range(21)), strict=True, drift_patience=60))
        await until(lambda: env.sandbox.operation_counts["view"] >= looks)
        env.sandbox.write_behind_back("vip", remove=["stray"])
        assert not any("Batch counts" in one.text for one in (await syncing).warnings)
        assert await env.has_exactly(ids(range(21)))


async def test_unreadable_count_does_not_fail_a_run(tmp_path: Path) -> None:
    """When everything is APPLIED, a count that cannot be read is a warning."""
    async with sync_env(tmp_path) as env:
        env.target = IOS
        await env.sync(ids(range(20)))

        def stop_answering(progress: object) -> None:
            if getattr(progress, "phase", None) == "checking":
                env.sandbox.fail_for("500", 60)

        async with env.client(retry=RetryPolicy(attempts=1)) as client:
            report = await sync_audience(
                client,
                "vip",
                ids(range(21)),
                state=env.state,
                options=env.options(),
                on_progress=stop_answering,
            )
        assert (report.outcome, report.counted) == (RunOutcome.DONE, None)
        assert "could not be counted" in report.warnings[0].text


async def test_adopt_records_the_source_and_sends_nothing(tmp_path: Path) -> None:
    """Adopting sends nothing, and the next run sends the difference."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.state.unlink()
        writes = env.writes
        async with env.client() as client:
            with pytest.raises(DriftError):
                await env.call("adopt", client, "vip", ["a"], strict=True)
            report = await env.call("adopt", client, "vip", ids(range(20)))
            assert (report.mode, report.adds, report.calls, report.counted) == (Mode.ADOPT, 20, 0, 20)
            found = await env.call("verify", client, "vip")
            assert (found.known, found.members, found.counted, found.drift) == (True, 20, 20, 0)
        assert env.writes == writes
        assert (await env.sync(ids(range(1, 21)))).changes == 2
        assert await env.has_exactly(ids(range(1, 21)))
