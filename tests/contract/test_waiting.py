from __future__ import annotations

import asyncio
import collections
import logging

import pytest

from aiobatch import (
    AudienceClient,
    AudienceNotFoundError,
    IndexingState,
    IndexingTimeoutError,
    IndexingToken,
    Operation,
    Outcome,
    RequestFinished,
    RequestSent,
    Settled,
    TokenPolled,
    TokenReplacedError,
)

from .stage import LATENCY, ReplacingTransport, Stage, create_applied, populate

FAULTS = ("500", "502", "503", "504", "429", "429-bare", "html", "reset", "html200", "truncated", "lost")


@pytest.mark.parametrize("label", ["2.x"])
async def test_every_token_is_settled_once(stage: Stage, client: AudienceClient) -> None:
    """Applied, replaced, timed-out and failed tokens are yielded in the order in which they end."""
    await populate(stage, client, 20)
    stage.time.halt()
    replaced = [await client.update(f"a{number}", add=["u1"]) for number in range(5)]
    for number in range(5):
        stage.sandbox.replace_behind_back(f"a{number}", ["x1"])
    tokens = replaced + [await client.replace(f"a{number}", ["u2"]) for number in range(10)]
    ghosts = [IndexingToken(f"ghost{number}", "never", Operation.CREATE) for number in range(3)]
    strangers = [IndexingToken(f"stranger{number}", "nothing") for number in range(3)]
    foreign = [IndexingToken("a19", "unknown")]
    wanted = [*tokens, *ghosts, *strangers, *foreign]
    stage.time.go_on()
    timeout = 600 if stage.is_fake else 100
    settled = [one async for one in client.settle([*wanted, tokens[0]], timeout=timeout)]
    assert collections.Counter(one.token for one in settled) == collections.Counter(wanted)
    outcomes = {one.token: one for one in settled}
    for token, outcome, error in (
        *((token, Outcome.APPLIED, None) for token in tokens[5:]),
        *((token, Outcome.REPLACED, TokenReplacedError) for token in replaced),
        *((token, Outcome.TIMED_OUT, IndexingTimeoutError) for token in ghosts),
        *((token, Outcome.FAILED, AudienceNotFoundError) for token in strangers),
    ):
        assert outcomes[token].outcome is outcome
        assert isinstance(outcomes[token].error, error or type(None))
        assert (outcomes[token].audience is not None) == (outcome is Outcome.APPLIED)
    assert outcomes[foreign[0]].outcome is Outcome.FAILED
    assert {one.outcome for one in settled[-3:]} == {Outcome.TIMED_OUT}


@pytest.mark.parametrize("label", ["2.x"])
async def test_replaced_token_ends_the_wait(stage: Stage, client: AudienceClient) -> None:
    """After another client's replace the IDs may not be in the audience, so the wait ends with an error."""
    await create_applied(client)
    token = await client.update("vip", add=["u1"])
    wait = asyncio.create_task(client.await_applied(token))
    await asyncio.sleep(0)
    stage.sandbox.replace_behind_back("vip", ["x1"])
    with pytest.raises(TokenReplacedError, match=r"Audience 'vip'.*REPLACED") as caught:
        await wait
    assert IndexingToken.parse(caught.value.token) == token


async def test_wait_resumes_from_a_string_in_a_new_client(stage: Stage, client: AudienceClient) -> None:
    """A process that was restarted waits for the text of a token."""
    await create_applied(client)
    text = str(await client.update("vip", add=["u1"]))
    async with stage.client() as other:
        audience = await other.await_applied(text)
    assert audience.indexing_state is IndexingState.APPLIED
    async with stage.client() as third:
        assert (await third.await_applied(text)).nb_ids == 1
        assert (await third.await_applied(IndexingToken.parse(text).value, audience="vip")).nb_ids == 1


async def test_200_waiters_of_one_token_cost_the_polls_of_one(stage: Stage, client: AudienceClient) -> None:
    """All waiters end with the token's state."""
    await create_applied(client)
    token = await client.update("vip", add=["u1"])
    before, tokens = stage.sandbox.operation_counts["view"], client.stats.tokens
    audiences = await asyncio.gather(*(client.await_applied(token) for _ in range(200)))
    assert {audience.indexing_state for audience in audiences} == {IndexingState.APPLIED}
    assert stage.sandbox.operation_counts["view"] - before <= 30
    assert client.stats.tokens == tokens + 1
    polls = stage.times(TokenPolled)
    assert len(polls) == len(set(polls)) or not stage.is_fake


@pytest.mark.parametrize("delay", [30])
async def test_cancelled_waiter_leaves_the_others_waiting(stage: Stage, client: AudienceClient) -> None:
    """Cancelled before, between or during polls, a waiter changes nothing for the others."""
    await create_applied(client)
    stage.time.halt()
    token = await client.update("vip", add=["u1"])
    waits = [asyncio.create_task(client.await_applied(token)) for _ in range(20)]
    for number, wait in enumerate(waits[::2]):
        wait.cancel()
        await stage.clock.sleep((number * 0.1 + LATENCY / 2) if stage.is_fake else 0.05)
    stage.time.go_on()
    ends = await asyncio.gather(*waits, return_exceptions=True)
    assert {type(end) for end in ends[::2]} == {asyncio.CancelledError}
    assert [end.indexing_state for end in ends[1::2] if not isinstance(end, BaseException)] == [
        "APPLIED"
    ] * 10


async def test_polling_ends_with_the_last_waiter(stage: Stage, client: AudienceClient) -> None:
    """Without waiters no request is sent."""
    await create_applied(client)
    token = await client.update("vip", add=["u1"])
    waits = [asyncio.create_task(client.await_applied(token)) for _ in range(3)]
    await stage.clock.sleep(2 if stage.is_fake else 0.5)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    before = stage.sandbox.request_count
    await stage.clock.sleep(30 if stage.is_fake else 10)
    assert stage.sandbox.request_count == before
    assert (await client.await_applied(token)).nb_ids == 1


@pytest.mark.parametrize("kind", FAULTS)
async def test_minute_of_faults_ends_no_wait(stage: Stage, client: AudienceClient, kind: str) -> None:
    """All tokens are APPLIED after the faults end."""
    await populate(stage, client, 5)
    tokens = [await client.update(f"a{number}", add=["u1"]) for number in range(5)]
    stage.sandbox.fail_for(kind, 60 if stage.is_fake else 5)
    ends = [settled async for settled in client.settle(tokens)]
    assert [settled.outcome for settled in ends] == [Outcome.APPLIED] * 5


@pytest.mark.parametrize("delay", [30])
async def test_timeout_ends_the_wait_with_a_last_poll(stage: Stage, client: AudienceClient) -> None:
    """The last poll is made at the deadline. The error has the last state, and the token to resume with."""
    await populate_now(stage, client)
    stage.time.halt()
    token = await client.update("vip", add=["u1"])
    started = stage.clock.monotonic()
    with pytest.raises(
        IndexingTimeoutError, match=r"Audience 'vip': .* not APPLIED after \d+\.\d s"
    ) as caught:
        await client.await_applied(token, timeout=20)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert IndexingToken.parse(error.token) == token
    assert (error.audience, error.last_state) == ("vip", "IN_PROGRESS")
    # The response to the last one may come too late.
    assert error.polls - len(stage.times(TokenPolled)) in {0, 1}
    assert error.waited >= 20 - 1e-6
    if stage.is_fake:
        assert "after 20.0 s" in str(error)
        assert stage.clock.monotonic() - started == pytest.approx(20, abs=0.05)
        last_sent, last_answer = stage.times(RequestSent)[-1], stage.times(RequestFinished)[-1]
        assert last_sent - started == pytest.approx(20, abs=LATENCY + 1e-6)
        assert last_answer - started == pytest.approx(20, abs=LATENCY + 1e-6)


async def populate_now(stage: Stage, client: AudienceClient) -> None:
    """Create an audience and let a very long delay pass."""
    await client.create("vip")
    if stage.label == "2.x":
        await stage.clock.sleep(30)


@pytest.mark.parametrize("is_fake", [True])
@pytest.mark.parametrize("delay", [30])
async def test_token_applied_just_before_the_deadline_is_found(stage: Stage, client: AudienceClient) -> None:
    """The last poll finds it, although no earlier poll did."""
    await populate_now(stage, client)
    token = await client.update("vip", add=["u1"])
    audience = await client.await_applied(token, timeout=30)
    assert audience.indexing_state is IndexingState.APPLIED


@pytest.mark.parametrize("delay", [30])
async def test_waiters_of_one_token_have_deadlines_of_their_own(stage: Stage, client: AudienceClient) -> None:
    """A waiter that times out changes nothing for another one."""
    await populate_now(stage, client)
    stage.time.halt()
    token = await client.update("vip", add=["u1"])
    patient = asyncio.create_task(client.await_applied(token, timeout=None))
    with pytest.raises(IndexingTimeoutError):
        await client.await_applied(token, timeout=5)
    stage.time.go_on()
    assert (await patient).indexing_state is IndexingState.APPLIED


@pytest.mark.parametrize("delay", [30])
async def test_unknown_states_keep_polling(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Each state is logged once, and the timeout names the last one."""
    replacing = ReplacingTransport(stage.transport(), b"IN_PROGRESS", b"SHUFFLING")
    async with stage.client(transport=replacing) as client:
        await populate_now(stage, client)
        stage.time.halt()
        tokens = [await client.update("vip", add=[f"u{number}"]) for number in range(2)]
        ends: list[Settled] = [one async for one in client.settle(tokens, timeout=20)]
    assert {one.outcome for one in ends} == {Outcome.TIMED_OUT}
    assert all(
        isinstance(one.error, IndexingTimeoutError) and "SHUFFLING" in str(one.error)
        for one in ends
        if one.token == tokens[0]
    )
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.name for record in warnings] == ["aiobatch.poller"]
    assert "SHUFFLING" in warnings[0].getMessage()


async def test_wait_continues_through_an_unknown_state(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A wait continues through an unknown state and ends APPLIED."""
    replacing = ReplacingTransport(stage.transport(), b"IN_PROGRESS", b"SHUFFLING")
    async with stage.client(transport=replacing) as client:
        await create_applied(client)
        token = await client.update("vip", add=["u1"])
        assert (await client.await_applied(token)).indexing_state is IndexingState.APPLIED


@pytest.mark.parametrize("label", ["2.x"])
async def test_missing_audience_ends_waits(stage: Stage, client: AudienceClient) -> None:
    """A 404 ends the wait for a delete as APPLIED, and the wait for an update as FAILED."""
    await create_applied(client)
    update = await client.update("vip", add=["u1"])
    delete = await client.delete("vip")
    assert delete is not None
    outcomes = {one.token: one async for one in client.settle([delete, update])}
    assert outcomes[delete].outcome is Outcome.APPLIED
    assert (outcomes[delete].audience or pytest.fail("no audience")).name == "vip"
    assert outcomes[update].outcome in {Outcome.APPLIED, Outcome.FAILED}
