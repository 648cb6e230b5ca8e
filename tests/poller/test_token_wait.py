from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from aiobatch._poller._token_wait import AudienceTokens, BeingCreated, TokenWait, Waiter
from aiobatch.errors import TransportError
from aiobatch.models import Audience, IdType, IndexingToken, Operation

AUDIENCE = Audience(name="vip", id_type=IdType.CUSTOM_IDS)


def _new_wait(number: int) -> TokenWait:
    return TokenWait(
        token=IndexingToken("vip", f"t{number}"),
        number=number,
        issued_at=0.0,
        is_age_known=True,
        jitter_factor=1.0,
    )


class Model:
    """A model of an audience's tokens: a list, of which the first ones are active."""

    def __init__(self) -> None:
        self.waits: list[TokenWait] = []
        self.width = 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "widen", "narrow"]), st.integers(0, 99)), max_size=60
    )
)
def test_tokens_behave_as_their_model(steps: list[tuple[str, int]]) -> None:
    """After any sequence of steps the oldest tokens are active, as many as the width allows."""
    tokens, model = AudienceTokens(), Model()
    numbers = itertools.count()
    actions: dict[str, Callable[[int], None]] = {
        "add": lambda _: _add(tokens, model, next(numbers)),
        "remove": lambda index: _remove(tokens, model, index),
        "widen": lambda _: _widen(tokens, model),
        "narrow": lambda _: _narrow(tokens, model),
    }
    for action, index in steps:
        if action == "add" or model.waits:
            actions[action](index)
            tokens.activate()
            active = model.waits[: model.width]
            assert sorted(tokens.active) == [wait.number for wait in active]
            assert list(tokens.waits.values()) == model.waits
            assert not active or tokens.pilot in active


def _add(tokens: AudienceTokens, model: Model, number: int) -> None:
    wait = _new_wait(number)
    tokens.add(wait)
    model.waits.append(wait)


def _remove(tokens: AudienceTokens, model: Model, index: int) -> None:
    tokens.remove(model.waits.pop(index % len(model.waits)))


def _widen(tokens: AudienceTokens, model: Model) -> None:
    tokens.widen()
    model.width = min(2 * model.width, len(model.waits))


def _narrow(tokens: AudienceTokens, model: Model) -> None:
    tokens.narrow()
    model.width = 1


def test_activate_returns_new_active_tokens() -> None:
    """Each token is returned once, and again after it was deactivated."""
    tokens = AudienceTokens()
    members = [_new_wait(number) for number in range(4)]
    for wait in members:
        tokens.add(wait)

    assert tokens.activate() == members[:1]
    assert tokens.activate() == []
    tokens.widen()
    tokens.widen()
    assert tokens.activate() == members[1:]
    tokens.narrow()
    tokens.remove(members[0])
    assert tokens.activate() == [members[1]]


async def _add_waiter(wait: TokenWait) -> asyncio.Future[Audience]:
    future: asyncio.Future[Audience] = asyncio.get_running_loop().create_future()
    wait.waiters[future] = Waiter(future, 0.0, None, 0)
    return future


async def test_result_reaches_every_waiter() -> None:
    """Waiters that were cancelled or have a result keep it."""
    wait = _new_wait(0)
    gone, waiting = await _add_waiter(wait), await _add_waiter(wait)
    gone.cancel()

    assert wait.is_awaited
    assert wait.resolve(AUDIENCE)
    assert waiting.result() is AUDIENCE
    assert gone.cancelled()
    assert not wait.is_awaited
    assert not wait.resolve(AUDIENCE)


async def test_error_is_copied_for_each_waiter() -> None:
    """Each waiter raises its own error, with its own traceback."""
    wait = _new_wait(0)
    futures = [await _add_waiter(wait) for _ in range(2)]
    error = TransportError("reset", attempts=3)

    wait.resolve(error)

    found = [future.exception() for future in futures]
    assert [type(one) for one in found] == [TransportError] * 2
    assert len({id(one) for one in (*found, error)}) == 3
    assert isinstance(found[0], TransportError)
    assert found[0].attempts == 3


async def test_foreign_error_need_not_be_copied() -> None:
    """An error that cannot be copied reaches all waiters, too."""

    class AwkwardError(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(first + second)

    wait = _new_wait(0)
    futures = [await _add_waiter(wait) for _ in range(2)]
    error = AwkwardError(1, 2)

    wait.resolve(error)

    assert [future.exception() for future in futures] == [error, error]


def test_audiences_being_created_are_bounded() -> None:
    """Creations that are never awaited use bounded memory. The oldest is dropped."""
    names = BeingCreated()
    for number in range(10_001):
        names.record(IndexingToken(f"a{number}", "t", Operation.CREATE))
    assert "a0" not in names
    assert "a1" in names
    assert "a10000" in names
