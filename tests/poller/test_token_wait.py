from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from aiobatch._poller._token_wait import AudienceTokens, TokenWait, Waiter
from aiobatch.errors import TransportError
from aiobatch.models import Audience, IdType, IndexingToken

AUDIENCE = Audience(name="vip", id_type=IdType.CUSTOM_IDS)


def _pending(number: int) -> TokenWait:
    return TokenWait(
        token=IndexingToken("vip", f"t{number}"),
        number=number,
        issued_at=0.0,
        is_age_known=True,
        jitter_factor=1.0,
    )


class Model:
    """What a group should be: a list, of which the first so many are active."""

    def __init__(self) -> None:
        self.waits: list[TokenWait] = []
        self.width = 1


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "widen", "narrow"]), st.integers(0, 99)), max_size=60
    )
)
def test_group_is_its_model(steps: list[tuple[str, int]]) -> None:
    """Whatever comes, leaves, is applied or pending: the oldest are active, as many as the width says."""
    group, model = AudienceTokens(), Model()
    numbers = itertools.count()
    actions: dict[str, Callable[[int], None]] = {
        "add": lambda _: _add(group, model, next(numbers)),
        "remove": lambda index: _remove(group, model, index),
        "widen": lambda _: _widen(group, model),
        "narrow": lambda _: _narrow(group, model),
    }
    for action, index in steps:
        if action == "add" or model.waits:
            actions[action](index)
            group.activate()
            active = model.waits[: model.width]
            assert sorted(group.active) == [pending.number for pending in active]
            assert list(group.waits.values()) == model.waits
            assert not active or group.pilot in active


def _add(group: AudienceTokens, model: Model, number: int) -> None:
    pending = _pending(number)
    group.add(pending)
    model.waits.append(pending)


def _remove(group: AudienceTokens, model: Model, index: int) -> None:
    group.remove(model.waits.pop(index % len(model.waits)))


def _widen(group: AudienceTokens, model: Model) -> None:
    group.widen()
    model.width = min(2 * model.width, len(model.waits))


def _narrow(group: AudienceTokens, model: Model) -> None:
    group.narrow()
    model.width = 1


def test_advance_tells_who_became_active() -> None:
    """Each member is told once that its turn has come, and again after it was sent back."""
    group = AudienceTokens()
    members = [_pending(number) for number in range(4)]
    for pending in members:
        group.add(pending)

    assert group.activate() == members[:1]
    assert group.activate() == []
    group.widen()
    group.widen()
    assert group.activate() == members[1:]
    group.narrow()
    group.remove(members[0])
    assert group.activate() == [members[1]]


async def _wait(pending: TokenWait) -> asyncio.Future[Audience]:
    future: asyncio.Future[Audience] = asyncio.get_running_loop().create_future()
    pending.waiters[future] = Waiter(future, 0.0, None, 0)
    return future


async def test_end_reaches_every_waiter_that_is_left() -> None:
    """Who has gone or has an answer keeps what he has."""
    pending = _pending(0)
    gone, waiting = await _wait(pending), await _wait(pending)
    gone.cancel()

    assert pending.is_awaited
    assert pending.resolve(AUDIENCE)
    assert waiting.result() is AUDIENCE
    assert gone.cancelled()
    assert not pending.is_awaited
    assert not pending.resolve(AUDIENCE)


async def test_error_is_copied_for_each_waiter() -> None:
    """Each waiter raises an error of its own, which gathers nobody else's traceback."""
    pending = _pending(0)
    futures = [await _wait(pending) for _ in range(2)]
    error = TransportError("reset", attempts=3)

    pending.resolve(error)

    found = [future.exception() for future in futures]
    assert [type(one) for one in found] == [TransportError] * 2
    assert len({id(one) for one in (*found, error)}) == 3
    assert isinstance(found[0], TransportError)
    assert found[0].attempts == 3


async def test_foreign_error_need_not_be_copied() -> None:
    """A defect's error, which may refuse to be copied, reaches all waiters all the same."""

    class AwkwardError(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(first + second)

    pending = _pending(0)
    futures = [await _wait(pending) for _ in range(2)]
    error = AwkwardError(1, 2)

    pending.resolve(error)

    assert [future.exception() for future in futures] == [error, error]
