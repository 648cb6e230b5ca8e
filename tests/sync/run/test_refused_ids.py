from __future__ import annotations

import asyncio
import csv
from pathlib import Path

import pytest

from aiobatch import Member
from aiobatch.sync import Mode, Phase, RunOutcome, SendError, Source, StagingError, TooManyRefusedError

from ..sync_env import IOS, SyncEnv, ids, sync_env, until

BAD = frozenset(ids([7, 33]))


def rejected(env: SyncEnv) -> list[str]:
    """Return the IDs in the reject file that Batch refused."""
    with env.rejects.open(newline="") as file:
        return [row["id"] for row in csv.DictReader(file) if row["reason"] == "refused_by_batch"]


async def test_refused_chunk_is_halved_until_the_id_is_found(tmp_path: Path) -> None:
    """The refused IDs are rejected and reported, and all others are sent."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        report = await env.sync(ids(range(60)), rejects=env.rejects)
        assert (report.outcome, report.refused, report.applied) == (RunOutcome.DONE, 2, 58)
        assert sorted(rejected(env)) == sorted(BAD)
        assert "refused 2 IDs" in report.warnings[0].text
        assert await env.has_exactly(set(ids(range(60))) - BAD)
        assert env.rejects.stat().st_mode & 0o777 == 0o600


async def test_refused_ids_are_not_sent_again(tmp_path: Path) -> None:
    """IDs that Batch refused cost the next runs no calls, and each of them warns."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync(ids(range(60)))
        writes = env.writes
        for source, adds in ((ids(range(60)), 0), (ids(range(61)), 1)):
            report = await env.sync(source, strict=True, rejects=env.rejects)
            assert sorted(rejected(env)) == sorted(BAD)
            assert (report.adds, report.refused_before, report.refused) == (adds, 2, 0)
            assert report.unchanged == 58
            assert "2 IDs that Batch refused in the last 7 days" in report.warnings[0].text
        assert env.writes == writes + 1
        assert await env.has_exactly(set(ids(range(61))) - BAD)


async def test_refused_ids_of_a_delta_suggest_no_resync(tmp_path: Path) -> None:
    """A resync with a list of additions would remove all other members."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        for _ in range(2):
            report = await env.sync(ids(range(60)), mode=Mode.ADD)
        (warning,) = (one for one in report.warnings if "in the last 7 days" in one.text)
        assert warning.remedy is None


async def test_empty_audience_keeps_its_refused_ids(tmp_path: Path) -> None:
    """If every ID was refused, the next run sends none of them."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync(sorted(BAD))
        assert (await env.sync([*sorted(BAD), "a"])).calls == 1
        assert await env.has_exactly(["a"])


async def test_resync_retries_refused_ids(tmp_path: Path) -> None:
    """A resync sends refused IDs again, and records those that Batch refuses again."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync(ids(range(60)))
        report = await env.sync(ids(range(60)), mode=Mode.RESYNC)
        assert (report.adds, report.resends, report.refused) == (2, 58, 2)
        assert (await env.sync(ids(range(60)))).refused_before == 2


async def test_refused_id_with_new_attributes_is_resent(tmp_path: Path) -> None:
    """An attribute may have been the reason."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync([Member("user-7", attributes={"n": 1})])
        assert (await env.sync([Member("user-7", attributes={"n": 1})])).calls == 0
        report = await env.sync([Member("user-7", attributes={"n": 2})])
        assert (report.refused_before, report.refused) == (0, 1)


async def test_few_refused_ids_cost_few_calls(tmp_path: Path) -> None:
    """Finding one ID among a thousand takes about two calls for each halving."""
    async with sync_env(tmp_path, refused_ids=ids([500])) as env:
        report = await env.sync(ids(range(1000)), chunk_size=1000)
        assert report.applied == 999
        assert report.calls <= 1 + 2 * 10


async def test_too_many_refused_ids_stop_the_run(tmp_path: Path) -> None:
    """If Batch refuses one ID after the other, the reason is in none of them."""
    async with sync_env(tmp_path, refused_ids=ids(range(200))) as env:
        with pytest.raises(TooManyRefusedError, match="type of the IDs") as caught:
            await env.sync(ids(range(200)), max_refused=5, rejects=env.rejects)
        assert len(rejected(env)) < 30
        with pytest.raises(TooManyRefusedError):  # the fault is in none of them, so that none is remembered
            await env.sync(ids(range(200)), max_refused=5)
        assert caught.value.report.refused > 5
        assert (await env.runs())[0].outcome is RunOutcome.FAILED
        assert await env.has_exactly([])


async def test_refused_replace_fails(tmp_path: Path) -> None:
    """Halves of a replace would replace each other, so it is not halved."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync(["a"])
        with pytest.raises(SendError):
            await env.sync(ids([7, 8]), mode=Mode.REPLACE)
        assert await env.has_exactly(["a"])


async def test_refused_removal_stays_a_member(tmp_path: Path) -> None:
    """An ID whose removal Batch refuses is still recorded as a member."""
    async with sync_env(tmp_path, refused_ids=ids([3])) as env:
        env.target = IOS
        await env.sync(["a"])
        env.sandbox.write_behind_back("vip", add=ids([3]))
        env.state.unlink()
        report = await env.sync(["a"], mode=Mode.REPLACE)
        assert report.outcome is RunOutcome.DONE
        await env.sync(["a", "b", *ids([3])])
        assert await env.has_exactly(["a", "b"])


async def test_unfit_member_is_rejected_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that passed staging but not the client's check costs its ID alone."""
    monkeypatch.setattr("aiobatch.sync.sources._attributes._URL", ".*")
    source = tmp_path / "source.csv"
    source.write_text("id,url(home)\na,https://x.example\nb,https://x y.example\nc,\n")
    async with sync_env(tmp_path) as env:
        report = await env.sync(Source.parse(source, attributes=["url(home)"]), rejects=env.rejects)
        assert report.kept - report.refused == report.applied == 2
        assert await env.has_exactly(["a", "c"])


async def test_unwritable_reject_file_fails_the_run(tmp_path: Path) -> None:
    """No ID is recorded as refused before the reject file lists it."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        await env.sync(["a"])
        env.sandbox.fail_next("503", 10_000, "update")
        syncing = asyncio.create_task(env.sync(["a", *ids(range(60))], rejects=env.rejects))
        await until(lambda: env.progress[-1].phase is Phase.SENDING)
        env.rejects.unlink()
        env.rejects.mkdir()
        env.sandbox.clear_faults()
        with pytest.raises(StagingError, match="cannot be written"):
            await syncing
        env.rejects.rmdir()
        await env.sync(["a", *ids(range(60))], rejects=env.rejects)
        assert sorted(rejected(env)) == sorted(BAD)
        assert await env.has_exactly({"a", *ids(range(60))} - BAD)


async def test_halving_keeps_attributes(tmp_path: Path) -> None:
    """Halving a chunk keeps the attributes of its IDs."""
    async with sync_env(tmp_path, refused_ids=BAD) as env:
        people = [Member(name, attributes={"n": name}) for name in ids(range(40))]
        report = await env.sync(people)
        assert report.refused == 2
        assert env.sandbox.members("vip")["user-8"].attributes == {"n": "user-8"}
