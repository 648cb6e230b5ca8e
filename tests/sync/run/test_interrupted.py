from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from aiobatch import AuthenticationError, InvalidRequestError, Project, RetryPolicy
from aiobatch.sync import (
    InterruptedRunError,
    NotAppliedError,
    OpenRunError,
    Phase,
    RunOutcome,
    SendError,
    Source,
    SourceError,
    StateError,
    SyncEngine,
    SyncProgress,
    sync_audience,
)
from aiobatch.sync.run import _create_audience as _creation
from aiobatch.sync.state._journal import Journal

from ..sync_env import ONCE, SyncEnv, ids, sync_env, until

_PATIENT = RetryPolicy(initial=0.01, maximum=0.02, attempts=10_000, timeout=60)


async def _until_updates(env: SyncEnv, count: int) -> None:
    """Wait until so many updates have come in."""
    await until(lambda: env.sandbox.operation_counts["update"] >= count)


async def test_run_without_waiting_journals_its_tokens(tmp_path: Path) -> None:
    """Nothing counts before it is APPLIED, and a later settle waits for it."""
    async with sync_env(tmp_path) as env:
        async with env.client() as client:
            token = await client.create("vip")
            assert token is not None
            await client.await_applied(token)
        env.time.halt()
        report = await env.sync(ids(range(30)), wait=False)
        assert (report.outcome, report.calls, report.applied) == (RunOutcome.SENT, 3, 0)
        assert (report.members_before, report.members_after) == (0, 30)
        assert await env.believed() == set()
        async with env.client() as client:
            with pytest.raises(OpenRunError):
                await env.call("verify", client, "vip")
            env.time.go_on()
            assert await env.call("settle", client, "trial") is None
            for _ in range(2):
                run = await env.call("settle", client, "vip")
                assert run is not None
                assert run.whole
        assert run == (await env.runs())[0]
        assert (run.outcome, run.calls, run.applied) == (RunOutcome.DONE, 3, 30)
        assert await env.has_exactly(ids(range(30)))


async def test_next_run_settles_the_previous_one_first(tmp_path: Path) -> None:
    """The open tokens come first, then a plan from the settled members."""
    async with sync_env(tmp_path, indexing_delay=0.2) as env:
        await env.sync(ids(range(30)), wait=False)
        report = await env.sync(ids(range(5, 35)))
        assert (report.settled_run, report.adds, report.removes, report.run) == (1, 5, 5, 2)
        assert await env.has_exactly(ids(range(5, 35)))


async def test_silent_source_obeys_the_timeout(tmp_path: Path) -> None:
    """A query that returns nothing ends with the timeout. Nothing was sent, and the lock is free."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        writes = env.writes
        silent = Source.parse(
            "duckdb://", query="SELECT 'u' AS id FROM range(1000000000000) AS t(i) WHERE i < 0"
        )
        with pytest.raises(SourceError, match="did not arrive within") as caught:
            await env.sync(silent, timeout=0.2)
        assert caught.value.report.outcome is RunOutcome.FAILED
        assert env.writes == writes
        assert (await env.sync(["a", "b"])).adds == 1


async def test_timeout_leaves_tokens_for_the_next_run(tmp_path: Path) -> None:
    """A timeout is an error of its own, and the tokens stay in the journal."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.time.halt()
        with pytest.raises(NotAppliedError, match="un again to continue") as caught:
            await env.sync(["a", *ids(range(30))], timeout=0.2)
        assert (caught.value.run, caught.value.report.outcome) == (2, RunOutcome.NOT_APPLIED)
        run = (await env.runs())[0]
        assert (run.outcome, run.settled, run.calls) == (RunOutcome.NOT_APPLIED, False, 3)
        env.time.go_on()
        report = await env.sync(["a", *ids(range(30))])
        assert (report.settled_run, report.changes) == (2, 0)
        assert await env.has_exactly(["a", *ids(range(30))])


async def test_late_audience_is_found_by_the_next_run(tmp_path: Path) -> None:
    """In 2.x a new audience becomes visible late. Creating it twice is no error."""
    async with sync_env(tmp_path) as env:
        env.time.halt()
        with pytest.raises(NotAppliedError, match="No IDs were sent"):
            await env.sync(["a"], timeout=0.1)
        assert await env.runs() == []
        syncing = asyncio.create_task(env.sync(["a"]))
        await until(lambda: env.sandbox.operation_counts["create"] == 2)
        env.time.go_on()
        await syncing
        assert await env.has_exactly(["a"])


async def test_refused_create_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that Batch refuses, of an audience that never becomes visible, is an error in the end."""
    monkeypatch.setattr(_creation, "_PATIENCE", 0.1)
    monkeypatch.setattr(_creation, "_PAUSE", 0.05)
    async with sync_env(tmp_path, indexing_delay=3600) as env:
        async with env.client() as client:
            await client.create("vip")
        with pytest.raises(InvalidRequestError):
            await env.sync(["a"])


async def test_timeout_while_sending_ends_the_run(tmp_path: Path) -> None:
    """A service that accepts nothing is given up at the deadline, after the grace period."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])

        def refuse(progress: SyncProgress) -> None:
            if progress.phase is Phase.SENDING and progress.sent == 0:
                env.sandbox.fail_for("503", 60)

        async with env.client(retry=_PATIENT) as client:
            with pytest.raises(NotAppliedError):
                await sync_audience(
                    client,
                    "vip",
                    ids(range(30)),
                    state=env.state,
                    options=env.options(timeout=0.2, grace=0.1),
                    on_progress=refuse,
                )
        env.sandbox.clear_faults()
        await env.sync(ids(range(30)))
        assert await env.has_exactly(ids(range(30)))


async def test_stop_finishes_chunks_in_flight(tmp_path: Path) -> None:
    """After a stop no chunk begins, those in flight end, and their tokens are journaled."""
    async with sync_env(tmp_path, indexing_delay=0.05, faults={"slow": 1.0}, slow_answer=0.02) as env:
        stop = asyncio.Event()
        syncing = asyncio.create_task(env.sync(ids(range(600)), stop=stop))
        await _until_updates(env, 10)
        stop.set()
        with pytest.raises(InterruptedRunError, match="stopped on request") as caught:
            await syncing
        calls = env.sandbox.operation_counts["update"]
        assert calls < 40
        assert caught.value.report.outcome is RunOutcome.INTERRUPTED
        run = (await env.runs())[0]
        assert (run.outcome, run.calls) == (RunOutcome.INTERRUPTED, calls)
        report = await env.sync(ids(range(600)))
        assert report.settled_run in (1, None)
        assert await env.has_exactly(ids(range(600)))
        assert env.sandbox.operation_counts["update"] == 60


async def test_chunk_outlasting_the_grace_stays_open(tmp_path: Path) -> None:
    """A chunk without a response has an unknown outcome, and the next run sends it again."""
    async with sync_env(tmp_path, slow_answer=0.4) as env:
        await env.sync(["a"])
        env.sandbox.fail_next("slow", times=8, operation="update")
        stop = asyncio.Event()
        syncing = asyncio.create_task(env.sync(["a", *ids(range(200))], stop=stop, grace=0.1))
        await _until_updates(env, 9)
        stop.set()
        with pytest.raises(InterruptedRunError):
            await syncing
        assert (await env.runs())[0].settled is False
        report = await env.sync(["a", *ids(range(200))])
        assert report.settled_run == 2
        assert await env.has_exactly(["a", *ids(range(200))])


async def test_stop_before_sending_sends_nothing(tmp_path: Path) -> None:
    """Looking, reading and planning end at once when the run is asked to stop."""
    async with sync_env(tmp_path) as env:
        stop = asyncio.Event()
        stop.set()
        with pytest.raises(InterruptedRunError, match="has sent no IDs"):
            await env.sync(["a"], stop=stop)
        assert env.writes == 0


async def test_stop_interrupts_reading_a_source(tmp_path: Path) -> None:
    """A source of many millions of rows does not delay the end."""
    async with sync_env(tmp_path) as env:
        endless = Source.parse("duckdb://", query="SELECT range AS id FROM range(10000000000)")
        stop = asyncio.Event()
        syncing = asyncio.create_task(env.sync(endless, stop=stop))
        await until(lambda: any(told.phase is Phase.READING for told in env.progress))
        stop.set()
        async with asyncio.timeout(60):
            with pytest.raises(InterruptedRunError):
                await syncing
        assert env.writes == 0


async def test_chunk_of_unknown_outcome_is_planned_again(tmp_path: Path) -> None:
    """A lost response fails a run that may not retry, and the next run sends its IDs again."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.sandbox.fail_next("lost", operation="update")
        with pytest.raises(SendError, match="un again to continue") as caught:
            await env.sync(ids(range(5)), client=ONCE)
        assert caught.value.__cause__ is not None
        assert (await env.runs())[0].outcome is RunOutcome.FAILED
        report = await env.sync(ids(range(5)))
        assert (report.settled_run, report.changes, report.warnings) == (2, 6, ())
        assert await env.has_exactly(ids(range(5)))
        run = (await env.runs())[1]
        assert (run.outcome, run.calls, run.applied) == (RunOutcome.FAILED, 1, 0)


@pytest.mark.parametrize("is_open", [True, False])
async def test_bad_source_sends_nothing_whatever_an_earlier_run_left(is_open: bool, tmp_path: Path) -> None:
    """A bad source stops the run before a chunk of an earlier one is sent again."""
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"user_id\n\xff\xfe\n")
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        if is_open:
            env.sandbox.fail_next("lost", operation="update")
            with pytest.raises(SendError):
                await env.sync(ids(range(5)), client=ONCE)
        with pytest.raises(SourceError) as caught:
            await env.sync(bad)
        assert caught.value.report.calls == 0
        assert "Nothing was sent." in str(caught.value)
        assert "Nothing was sent." in caught.value.report.error


async def test_chunk_without_effect_is_planned_again(tmp_path: Path) -> None:
    """A response that refuses at the first try leaves nothing to settle."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.sandbox.fail_next("429", operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(5)), client=ONCE)
        assert (await env.runs())[0].settled is True
        report = await env.sync(ids(range(5)))
        assert (report.settled_run, report.changes) == (None, 6)
        assert await env.has_exactly(ids(range(5)))


async def test_later_refusal_does_not_close_a_chunk_of_unknown_outcome(tmp_path: Path) -> None:
    """Batch may have accepted a chunk before it refuses it. Its IDs must not be forgotten."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(5)))
        env.sandbox.fail_next("lost", operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(6)), client=ONCE)
        env.sandbox.fail_next("429", operation="update")
        with pytest.raises(SendError):
            await env.sync(ids(range(5)), client=ONCE)
        report = await env.sync(ids(range(5)))
        assert (report.removes, report.warnings) == (1, ())
        assert await env.has_exactly(ids(range(5)))


async def test_refused_key_fails_before_anything_is_sent(tmp_path: Path) -> None:
    """The error of the first request is raised as it is."""
    async with sync_env(tmp_path) as env:
        env.target = Project(rest_api_key="wrong", project_key="wrong")
        with pytest.raises(AuthenticationError):
            await env.sync(["a"])
        assert env.writes == 0


async def test_rollback_sends_only_the_difference(tmp_path: Path) -> None:
    """An earlier membership is restored through the guard, with as few calls as possible."""
    async with sync_env(tmp_path) as env:
        await env.sync(ids(range(20)))
        await env.sync(ids(range(10, 40)))
        async with env.client() as client:
            report = await env.call("rollback", client, "vip", 1)
        assert (report.adds, report.removes, report.read) == (10, 20, 20)
        assert report.source == "members after run 1"
        assert await env.has_exactly(ids(range(20)))


async def test_forget_makes_members_unknown(tmp_path: Path) -> None:
    """Forgetting sends nothing, and the members are unknown afterwards."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        async with env.client() as client:
            await env.call("forget", client, "vip")
            found = await env.call("verify", client, "vip")
        assert (found.known, found.members, found.drift) == (False, 0, 1)
        assert await env.runs() == []


async def test_status_can_be_read_during_a_run(tmp_path: Path) -> None:
    """The status of an open state is the one that its run wrote last."""
    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.time.halt()
        syncing = asyncio.create_task(env.sync(["a", *ids(range(30))]))
        await _until_updates(env, 4)
        status = await SyncEngine(state=env.state).status()
        assert status.live
        assert [audience.open_run for audience in status.audiences] == [2]
        env.time.go_on()
        await syncing
        status = await SyncEngine(state=env.state).status()
        assert not status.live
        assert status.audiences[0].last_success is not None


async def test_unwritable_status_does_not_fail_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The status is for other processes, and the run continues without it."""
    async with sync_env(tmp_path) as env:
        (tmp_path / "state.duckdb.status.json.tmp").mkdir()
        assert (await env.sync(["a"])).outcome is RunOutcome.DONE
        assert "could not write the status file" in caplog.text


async def test_run_without_timeout_has_no_limit(tmp_path: Path) -> None:
    """Without a timeout only the ends of the tokens count."""
    async with sync_env(tmp_path) as env:
        assert (await env.sync(["a"], timeout=None)).outcome is RunOutcome.DONE


async def test_unreadable_chunk_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken state is the run's error. The chunk stays open and comes first in the next run."""

    def fail(journal: object, n: int) -> object:
        msg = "it broke"
        raise StateError(msg, path="state", reason="failed")

    async with sync_env(tmp_path) as env:
        with monkeypatch.context() as patched:
            patched.setattr("aiobatch.sync.run._request_builder.RequestBuilder.build", fail)
            with pytest.raises(StateError, match="it broke") as caught:
                await env.sync(["a"])
        assert caught.value.report.run == 1
        report = await env.sync(["a"])
        assert (report.settled_run, report.changes) == (1, 1)
        assert await env.has_exactly(["a"])


async def test_first_error_wins_over_a_failing_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first error is raised, and the next run finds the journal as after a kill."""

    def fail(journal: object, ending: object) -> object:
        msg = "the disk is full"
        raise StateError(msg, path="state", reason="full")

    async with sync_env(tmp_path) as env:
        await env.sync(["a"])
        env.sandbox.fail_next("429", operation="update")
        with monkeypatch.context() as patched:
            patched.setattr(Journal, "close", fail)
            with pytest.raises(SendError):
                await env.sync(["a", "b"], client=ONCE)
        assert "could not close the run" in caplog.text
        assert (await env.runs())[0].outcome is None
        assert (await env.sync(["a", "b"])).settled_run == 2
        assert await env.has_exactly(["a", "b"])
        assert (await env.runs())[1].outcome is RunOutcome.INTERRUPTED
