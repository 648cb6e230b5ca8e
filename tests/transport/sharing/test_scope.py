"""Which clients share a limit, and what the state of a shared one is called."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
from pathlib import Path
from typing import Any

import attrs
import pytest

from aiobatch import App, AudienceClient, InvalidInputError, Limits, Project, RateLimitedError, RetryPolicy
from aiobatch.testing import FakeClock, FakeTransport, json_response
from aiobatch.transport._sharing._scope import SharingScope

from ...conftest import leaked_tasks

REST, KEY = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
PROJECT = Project(rest_api_key=REST, project_key=KEY)
VIEW = {"name": "vip", "type": "CUSTOM_ID", "nb_ids": 3, "indexing_state": "APPLIED"}


class Sent:
    """A transport that records when requests arrive."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.times: list[float] = []
        self.transport = FakeTransport(self.answer)

    def answer(self, _: object) -> Any:
        """Record the time."""
        self.times.append(self.clock.monotonic())
        return json_response(200, VIEW)

    def client(self, target: App | Project = PROJECT, **limits: Any) -> AudienceClient:
        """Return a client."""
        return AudienceClient(
            target, transport=self.transport, clock=self.clock, limits=Limits(**limits), rng=random.Random(1)
        )


async def send(client: AudienceClient, count: int) -> None:
    """View so often at once."""
    await asyncio.gather(*(client.view("vip") for _ in range(count)))


OTHERS: list[tuple[App | Project, bool]] = [
    (PROJECT, True),
    (attrs.evolve(PROJECT, version="2.9"), True),
    (Project(rest_api_key=REST, project_key="another"), False),
    (Project(rest_api_key="another", project_key=KEY), False),
    (App(rest_api_key=REST, api_key=KEY), False),
]


@pytest.mark.parametrize(("other", "is_shared"), OTHERS)
@pytest.mark.parametrize("company_wide", [False, True])
async def test_clients_with_the_same_keys_share(
    other: App | Project, company_wide: bool, is_shared: bool
) -> None:
    """By default the keys decide, and with company_wide the REST API key alone."""
    sent = Sent(FakeClock())
    async with (
        sent.client(rate=1.0, company_wide=company_wide) as first,
        sent.client(other, rate=1.0, company_wide=company_wide) as second,
    ):
        await asyncio.gather(send(first, 4), send(second, 4))
    shares = other.rest_api_key == PROJECT.rest_api_key if company_wide else is_shared
    assert sent.clock.monotonic() == pytest.approx(7.14 if shares else 3.06, abs=0.1)
    assert not await leaked_tasks()


async def test_client_that_was_closed_shares_no_more() -> None:
    """A new client does not wait for slots of one that was closed, and starts without its pause."""
    sent = Sent(FakeClock())
    async with sent.client(rate=0.01) as first:
        await send(first, 1)
    async with sent.client(rate=0.01) as second:
        await send(second, 1)
    assert sent.clock.monotonic() == 0


async def test_clients_with_different_rates_share_pauses(caplog: pytest.LogCaptureFixture) -> None:
    """A client without a rate is not slowed by the other's rate, but both learn from a 429."""
    sent = Sent(FakeClock())
    async with sent.client(rate=0.1) as slow, sent.client() as fast:
        await send(slow, 1)
        await send(fast, 20)
        assert sent.clock.monotonic() == 0
        refuse = json_response(429, {}, {"retry-after": "30"})
        fast._paced._inner = FakeTransport(lambda _: refuse)
        caplog.set_level(logging.CRITICAL)
        policy = RetryPolicy(attempts=1)
        fast._transport._policy = policy
        with pytest.raises(RateLimitedError):
            await fast.view("vip")
        assert slow._paced.admission.is_paused
        await send(slow, 1)
        assert sent.clock.monotonic() >= 30


def scope(**fields: Any) -> SharingScope:
    """Return a scope of Batch's own host."""
    values: dict[str, Any] = {
        "target": PROJECT,
        "origin": "https://api.batch.com",
        "transport": None,
        "limits": Limits(rate=1, shared=True),
        "clock": FakeClock(),
    }
    return SharingScope(**values | fields)


def test_name_reveals_nothing_and_differs() -> None:
    """The name is a digest that depends on host, keys and kind, and is the same in every process."""
    company = Limits(rate=1, shared=True, company_wide=True)
    names = [
        scope().name,
        scope(origin="https://other.example").name,
        scope(target=App(rest_api_key=REST, api_key=KEY)).name,
        scope(target=Project(rest_api_key=REST, project_key="k")).name,
        scope(limits=company).name,
    ]
    assert len(set(names)) == len(names)
    assert all(len(name) == 32 and set(name) <= set("0123456789abcdef") for name in names)
    assert scope().name == scope(target=attrs.evolve(PROJECT, version="2.1")).name
    assert (
        scope(limits=company).name == scope(limits=company, target=App(rest_api_key=REST, api_key="x")).name
    )
    assert names[0] == "7c4215d031de78193edc5d0d0770020d"  # the same for processes of other versions


async def test_files_contain_no_key_and_no_name(tmp_path: Path) -> None:
    """Neither the file's name nor its content has a key, the host or an audience."""
    sent = Sent(FakeClock(50.0))
    async with sent.client(rate=5.0, shared=tmp_path) as client:
        await send(client, 3)
    (file,) = tmp_path.iterdir()  # noqa: ASYNC240  # a test's own file
    text = file.name + file.read_text()  # the same
    for secret in (REST, KEY, "batch.com", "vip"):
        assert secret not in text
    assert len(sent.times) == 3


async def test_two_event_loops_share_through_the_file(tmp_path: Path) -> None:
    """Clients of two threads, each with its own loop, take different slots."""
    limits = Limits(rate=20.0, shared=tmp_path)
    transport = FakeTransport(lambda _: json_response(200, VIEW))

    async def work() -> None:
        async with AudienceClient(PROJECT, transport=transport, limits=limits) as client:
            await send(client, 5)

    await asyncio.gather(work(), asyncio.to_thread(asyncio.run, work()))
    state = (next(tmp_path.iterdir())).read_text()  # noqa: ASYNC240  # a test's own file
    assert '"users":{' in state
    assert len(transport.requests) == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shared": True}, "Limits.shared needs Limits.rate"),
        ({"shared": "redis://localhost"}, "Limits.shared needs Limits.rate"),
        ({"rate": 1, "shared": "http://user:secret@localhost"}, "must be a URL of the form redis://"),
        ({"rate": 1, "shared": 3}, "must be True, False, a Redis URL or a directory, not int"),
        ({"rate": 1, "shared": None}, "must be True, False, a Redis URL or a directory, not NoneType"),
        ({"rate": 1, "company_wide": 1}, "Limits.company_wide must be of type bool"),
    ],
)
def test_invalid_limits_are_refused(options: dict[str, Any], text: str) -> None:
    """Each invalid value has its own error, without a password."""
    with pytest.raises(InvalidInputError, match=text) as caught:
        Limits(**options)
    assert "secret" not in str(caught.value)


def test_url_is_not_shown() -> None:
    """A Redis URL may contain a password: no repr, and no pickle."""
    limits = Limits(rate=1, shared="redis://:secret@localhost/0")
    assert "secret" not in repr(limits)
    assert limits == Limits(rate=1, shared="redis://:secret@localhost/0")
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(limits)
    assert Limits(rate=1, shared="some/directory").shared == Path("some/directory")
