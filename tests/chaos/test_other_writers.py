from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from aiobatch import IndexingTimeoutError, IndexingToken, Operation, ResponseError, RetryPolicy
from aiobatch.sync import AudienceGoneError, GuardError, GuardPolicy, Mode, SendError, StateError

from .chaos_env import ChaosEnv, ids, quick_sandbox
from .servers.faulty_server import FaultyServer, whole

PART = "Other writers, and responses that prove nothing"
_PAGE = b"<html><body>No such site</body></html>"
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(_PAGE)
_FOREIGN = json.dumps({"name": "other", "type": "CUSTOM_ID", "indexing_state": "APPLIED"}).encode()
_APPLIED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_FOREIGN)


@pytest.mark.chaos(
    part=PART,
    done="another writer swaps 40 members within seconds after a run, again and again",
    holds="each run warns until one sends something, although the counts are equal",
    short=False,
)
async def test_swaps_soon_after_a_run_are_noticed(chaos_env: ChaosEnv) -> None:
    """A run without changes never accepts a foreign change as its own."""
    members, rounds = ids(500), chaos_env.case.size(2, 6)
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, members)
        for number in range(rounds):
            await asyncio.sleep(1.1)  # Batch's times have whole seconds
            swapped = members[number * 40 : number * 40 + 40]
            sandbox.write_behind_back("vip", add=ids(40, 1000 + number * 40), remove=swapped)
            report = await chaos_env.sync(client, members)
            assert any("after the last run" in warning.text for warning in report.warnings)
        await chaos_env.sync(client, [*members, *ids(1, 5000)])
    chaos_env.case.add_fact(f"{rounds} of {rounds} swaps noticed")


@pytest.mark.chaos(
    part=PART,
    done="two copies of one state take turns, each with another source",
    holds="the copy that lacks the last run of the other one is refused, and nothing is sent",
    short=False,
)
async def test_older_copy_is_refused(chaos_env: ChaosEnv) -> None:
    """The error names the copy to use, and the copy in use goes on."""
    members, copy = ids(1000), chaos_env.directory / "copy.duckdb"
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, members)
        shutil.copy(chaos_env.state, copy)
        await chaos_env.sync(client, members[10:], state=copy)
        calls = sandbox.operation_counts["update"]
        with pytest.raises(StateError, match="older copy or a restored backup") as caught:
            await chaos_env.sync(client, members)
        chaos_env.leak_search.errors.append(caught.value)
        assert sandbox.operation_counts["update"] == calls
        await chaos_env.sync(client, members, state=copy)
        assert set(sandbox.members("vip")) == set(members)
    chaos_env.case.add_fact("StateError, and 0 write calls")


@pytest.mark.chaos(
    part=PART,
    done="a run that adds a list ends without knowing whether Batch has it. The next run adds another list",
    holds="the guard of the next run counts both lists. Nothing is sent before it has accepted them",
)
async def test_unknown_additions_are_part_of_the_next_plan(chaos_env: ChaosEnv) -> None:
    """Neither list is lost, and none of the first passes the guard unseen."""
    members, first, second = ids(1000), ids(300, 2000), ids(5, 3000)
    once = RetryPolicy(attempts=1, request_timeout=5)
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, members)
        sandbox.fail_next("reset", operation="update")
        async with chaos_env.client(sandbox.url, retry=once) as hasty:
            with pytest.raises(SendError) as failed:
                await chaos_env.sync(hasty, first, mode=Mode.ADD)
        calls = sandbox.operation_counts["update"]
        with pytest.raises(GuardError) as refused:
            await chaos_env.sync(client, second, mode=Mode.ADD, guard=GuardPolicy(max_additions_percent=20.0))
        chaos_env.leak_search.errors += [failed.value, refused.value]
        assert sandbox.operation_counts["update"] == calls
        report = await chaos_env.sync(client, second, mode=Mode.ADD)
        assert report.carried == len(first)
        assert set(sandbox.members("vip")) == {*members, *first, *second}
    chaos_env.case.add_fact(f"GuardError with 0 calls. Then {len(first)} and {len(second)} IDs were added")


@pytest.mark.chaos(
    part=PART,
    done="the audience is deleted and created again between two runs",
    holds="nothing is sent to the new one",
    short=False,
)
async def test_recreated_audience_is_refused(chaos_env: ChaosEnv) -> None:
    """A difference would be its only content."""
    async with quick_sandbox() as sandbox, chaos_env.client(sandbox.url) as client:
        await chaos_env.sync(client, ids(1000))
        await asyncio.sleep(2.1)  # Batch's times have whole seconds
        token = await client.delete("vip")
        if token is not None:
            await client.await_applied(token)
        await chaos_env.upload(client, ids(1000))
        calls = sandbox.operation_counts["update"]
        with chaos_env.expect(AudienceGoneError, "created again"):
            await chaos_env.sync(client, ids(1001))
        assert sandbox.operation_counts["update"] == calls


@pytest.mark.chaos(
    part=PART,
    done="a proxy responds to everything with a page and status 404",
    holds="no call takes the page as Batch's 404, and no error advises to forget the audience",
    short=False,
)
async def test_page_is_not_the_response_of_batch(chaos_env: ChaosEnv) -> None:
    """Neither a delete nor a sync relies on it."""
    async with quick_sandbox() as sandbox:
        async with chaos_env.client(sandbox.url) as client:
            await chaos_env.sync(client, ids(100))
        async with (
            FaultyServer(sandbox.port, whole(_NOT_FOUND + _PAGE), lambda _: True) as server,
            chaos_env.client(server.url) as client,
        ):
            with chaos_env.expect(ResponseError, "the response is not Batch's"):
                await client.delete("vip")
            with pytest.raises(ResponseError) as caught:
                await chaos_env.sync(client, ids(101))
            assert "forget" not in str(caught.value)


@pytest.mark.chaos(
    part=PART,
    done="every poll returns another audience, which is APPLIED",
    holds="the wait goes on to its timeout",
    short=False,
)
async def test_response_about_another_audience_is_not_believed(chaos_env: ChaosEnv) -> None:
    """APPLIED counts only for the audience that was asked about."""
    token = IndexingToken("vip", "7f3c2a10-0000-4000-8000-000000000000", Operation.UPDATE)
    async with (
        quick_sandbox() as sandbox,
        FaultyServer(sandbox.port, whole(_APPLIED + _FOREIGN), lambda _: True) as server,
        chaos_env.client(server.url) as client,
    ):
        with chaos_env.expect(IndexingTimeoutError, "not APPLIED"):
            await client.await_applied(token, timeout=1)
        chaos_env.case.add_requests(client)
