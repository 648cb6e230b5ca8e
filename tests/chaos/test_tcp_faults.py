from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from aiobatch import AudienceClient

from .chaos_env import TARGETS, ChaosEnv, ids, quick_sandbox
from .servers.tcp_proxy import TcpFault, TcpProxy

PART = "TCP faults: cuts, delays, split segments"
HOLDS = "after upload and sync, exactly the source's members. The next sync has nothing to do"
TCP_FAULTS: Mapping[str, tuple[str, TcpFault]] = {
    "reset-request": (
        "every connection is reset at a random byte of the requests",
        TcpFault(span=300_000),
    ),
    "close-request": (
        "every connection is closed at a random byte of the requests",
        TcpFault(span=300_000, reset=False),
    ),
    "reset-answer": (
        "every connection is reset at a random byte of the responses",
        TcpFault(span=1500, request=False),
    ),
    "close-answer": (
        "every connection is closed at a random byte of the responses",
        TcpFault(span=1500, request=False, reset=False),
    ),
    "half-request": (
        "every connection is half-closed at a random byte of the requests",
        TcpFault(span=300_000, half=True),
    ),
    "half-answer": (
        "every connection is half-closed at a random byte of the responses",
        TcpFault(span=1500, request=False, half=True),
    ),
    "split": ("every message arrives a few bytes at a time", TcpFault(split=True)),
    "delay": ("every fifth segment is delayed by up to 0.1 s", TcpFault(delay=0.1)),
    "all": (
        "messages are delayed and split, and every connection is reset in a response",
        TcpFault(span=1500, request=False, delay=0.003, split=True),
    ),
}
SHORT = ("reset-request", "half-answer", "all")


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault, marks=pytest.mark.chaos(part=PART, done=done, holds=HOLDS, short=name in SHORT), id=name
        )
        for name, (done, fault) in TCP_FAULTS.items()
    ],
)
async def test_tcp_faults_lose_nothing(fault: TcpFault, chaos_env: ChaosEnv) -> None:
    """Whatever happens to connections, the members are exactly those of the source."""
    case = chaos_env.case
    members = ids(case.size(5_000, 100_000))
    cuts = connections = 0
    clients: list[AudienceClient] = []
    target = TARGETS["1.x" if fault.request else "2.x"]  # in 1.x, the request contains a key
    if fault.span and fault.request:
        fault = attrs.evolve(fault, span=case.size(fault.span, 4 * fault.span))
    async with quick_sandbox() as sandbox:
        for seed in range(case.size(1, 3)):
            upload, sync = f"upload-{seed}", f"sync-{seed}"
            async with (
                TcpProxy(sandbox.port, fault, seed=seed) as proxy,
                chaos_env.client(proxy.url, target) as client,
            ):
                await chaos_env.upload(client, members, upload)
                report = await chaos_env.sync(client, members, sync, chunk_size=case.size(1000, 10_000))
                assert report.adds == len(members)
                again = await chaos_env.sync(client, members, sync)
                assert not again.changes
                clients.append(client)
            for name in (upload, sync):
                assert set(sandbox.members(name)) == set(members)
            cuts, connections = cuts + proxy.cuts, connections + proxy.connections
    case.add_requests(*clients)
    case.add_fact(f"{connections} connections, {cuts} cut, 0 of {2 * len(clients) * len(members):,} IDs lost")
