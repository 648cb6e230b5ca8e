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


async def test_a_replace_by_somebody_else_stops_the_run_and_all_after_it(tmp_path: Path) -> None:
    """REPLACED means that we know the members no more: only what mends that may go on."""
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


async def test_a_resync_passes_over_tokens_that_were_replaced_meanwhile(tmp_path: Path) -> None:
    """Tokens that an interrupted run left are no reason to stop for a run that sends everything again."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        report = await env.sync(ids(range(60)), wait=False)
        assert report.outcome is RunOutcome.SENT
        env.fill(["stranger"])
        report = await env.sync(ids(range(60)), mode=Mode.RESYNC)
        assert env.members == {*ids(range(60)), "stranger"}
        assert {run.outcome for run in await env.runs()} == {RunOutcome.DONE, RunOutcome.REPLACED}


@pytest.mark.parametrize("mode", [Mode.RESYNC, Mode.REPLACE])
async def test_a_run_that_mends_is_itself_replaced(tmp_path: Path, mode: Mode) -> None:
    """What a resync or a replace sent itself, and somebody replaced, is not there: the run has failed."""
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


async def test_a_resync_takes_out_strays_that_our_history_knows(tmp_path: Path) -> None:
    """Ids that a run of ours removed and somebody put back go out, without emptying the audience."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await env.sync(ids(range(1, 20)))
        env.sandbox.write_behind_back("vip", add=["user-0"], remove=["user-5"])
        report = await env.sync(ids(range(1, 20)), mode=Mode.RESYNC)
        assert (report.untracked_removals, report.resends, report.warnings) == (1, 19, ())
        assert await env.has_exactly(ids(range(1, 20)))
        assert env.sandbox.operation_counts["replace"] == 0


async def test_strays_that_batch_counts_are_judged_by_the_guard(tmp_path: Path) -> None:
    """A resync with a broken source takes out no more of what Batch holds than any other run may."""
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


async def test_a_resync_of_unknown_members_says_what_it_cannot_know(tmp_path: Path) -> None:
    """Nobody can tell which members an audience has that we have never seen."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.state.unlink()
        report = await env.sync(["a", "b"], mode=Mode.RESYNC)
        assert "no record of" in report.warnings[0].text
        assert await env.has_exactly(["a", "b"])


async def test_a_foreign_write_is_noticed_before_a_run(tmp_path: Path) -> None:
    """A count that differs is a warning, or with `strict` an error before anything is sent."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stray"])
        writes = env.writes
        with pytest.raises(DriftError, match="before the run") as caught:
            await env.sync(ids(range(21)), strict=True)
        assert (env.writes, caught.value.report.outcome) == (writes, RunOutcome.DRIFT)
        tolerated = await env.sync(ids(range(20)), drift=1, strict=True)
        assert tolerated.warnings == ()
        report = await env.sync(ids(range(20)))
        assert "Another writer may be active" in report.warnings[0].text
        assert len(report.warnings) == 1


async def test_drift_after_a_run_is_an_outcome_of_its_own(tmp_path: Path) -> None:
    """With `strict` the history says drift, the changes stand, and nothing is sent twice."""
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


async def test_a_late_count_is_waited_for(tmp_path: Path) -> None:
    """A count that becomes right within the patience is right."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        env.sandbox.write_behind_back("vip", add=["stray"])
        looks = env.sandbox.operation_counts["view"] + 2
        syncing = asyncio.create_task(env.sync(ids(range(21)), strict=True, drift_patience=60))
        await until(lambda: env.sandbox.operation_counts["view"] >= looks)
        env.sandbox.write_behind_back("vip", remove=["stray"])
        assert (await syncing).warnings == ()
        assert await env.has_exactly(ids(range(21)))


async def test_a_count_that_cannot_be_had_does_not_undo_a_run(tmp_path: Path) -> None:
    """Everything is APPLIED; that Batch cannot be asked any more is a warning."""
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


async def test_an_adopted_audience_is_as_its_source_says(tmp_path: Path) -> None:
    """Nothing is sent; the next run sends the difference."""
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
