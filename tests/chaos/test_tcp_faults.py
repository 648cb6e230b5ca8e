from __future__ import annotations

from collections.abc import Mapping

import attrs
import pytest

from aiobatch import AudienceClient

from .chaos_env import TARGETS, Ground, ids, quick_sandbox
from .servers.tcp_proxy import Harm, Wire

PART = "A wire that cuts, delays and splits"
HOLDS = "upload, settle and sync end with exactly the source's members; the next sync finds nothing to do"
HARMS: Mapping[str, tuple[str, Harm]] = {
    "reset-request": (
        "every connection is reset, sooner or later, at a random byte of the request",
        Harm(span=300_000),
    ),
    "close-request": (
        "every connection ends, sooner or later, at a random byte of the request",
        Harm(span=300_000, reset=False),
    ),
    "reset-answer": (
        "every connection is reset, sooner or later, at a random byte of the answer",
        Harm(span=1500, request=False),
    ),
    "close-answer": (
        "every connection ends, sooner or later, at a random byte of the answer",
        Harm(span=1500, request=False, reset=False),
    ),
    "half-request": (
        "every connection is half-closed, sooner or later, at a random byte of the request",
        Harm(span=300_000, half=True),
    ),
    "half-answer": (
        "every connection is half-closed, sooner or later, at a random byte of the answer",
        Harm(span=1500, request=False, half=True),
    ),
    "split": ("every message comes a few bytes at a time", Harm(split=True)),
    "delay": ("every fifth segment is up to 0.1 s late", Harm(delay=0.1)),
    "all": (
        "messages come late and in pieces, and every connection is reset, sooner or later, in an answer",
        Harm(span=1500, request=False, delay=0.003, split=True),
    ),
}
SHORT = ("reset-request", "half-answer", "all")


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(
            harm, marks=pytest.mark.fire(part=PART, done=done, holds=HOLDS, short=name in SHORT), id=name
        )
        for name, (done, harm) in HARMS.items()
    ],
)
async def test_a_harmed_wire(harm: Harm, ground: Ground) -> None:
    """Whatever happens to connections, nothing is lost and nothing is there that should not be."""
    case = ground.case
    members = ids(case.size(5_000, 100_000))
    cuts = connections = 0
    clients: list[AudienceClient] = []
    target = TARGETS["1.x" if harm.request else "2.x"]  # in 1.x, a key is part of what is cut
    if harm.span and harm.request:
        harm = attrs.evolve(harm, span=case.size(harm.span, 4 * harm.span))
    async with quick_sandbox() as sandbox:
        for seed in range(case.size(1, 3)):
            upload, sync = f"upload-{seed}", f"sync-{seed}"
            async with (
                Wire(sandbox.port, harm, seed=seed) as wire,
                ground.client(wire.url, target) as client,
            ):
                await ground.upload(client, members, upload)
                report = await ground.sync(client, members, sync, chunk_size=case.size(1000, 10_000))
                assert report.adds == len(members)
                again = await ground.sync(client, members, sync)
                assert not again.changes
                clients.append(client)
            for name in (upload, sync):
                assert set(sandbox.members(name)) == set(members)
            cuts, connections = cuts + wire.cuts, connections + wire.connections
    case.count(*clients)
    case.tell(f"{connections} connections, {cuts} cut, 0 of {2 * len(clients) * len(members):,} ids lost")
