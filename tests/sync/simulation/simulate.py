"""The simulation: processes start, freeze and are killed, then faults stop, and the members are exact.

python -m tests.sync.simulation 10000       # as `make simulate`
python -m tests.sync.simulation --seed 17   # replays one, and prints what happened
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import attrs

from .engine import Engine, Process, Protocol
from .virtual_loop import run_virtually
from .world import IDS, TTL, BrokenError, World

_SLOTS, _LAUNCHES = 4, 3
# Two clocks differ by at most 1.2, the patience of a taker.
_SLOWEST, _FASTEST = 0.93, 1.08
_RESIDUAL_SHARE = 0.1


@attrs.frozen
class Result:
    """What a simulation did.

    Attributes:
        error: The invariant that does not hold. None if all do.
        outcomes: How the engines ended, in the order of their ends.
        sent: Number of requests.
        stale: Number of requests in the residual window.
        trace: What happened: virtual seconds and a text.
    """

    error: str | None
    outcomes: tuple[str, ...]
    sent: int
    stale: int
    trace: tuple[tuple[float, str], ...]


def simulate(seed: int, protocol: Protocol | None = None) -> Result:
    """Return the result of one seed. Equal seeds have equal results.

    Args:
        seed: The seed of all random choices.
        protocol: What the engines do. None: the right protocol.
    """
    simulation = _Simulation(random.Random(seed), protocol or Protocol())
    error: str | None = None
    try:
        run_virtually(simulation.run())
    except BrokenError as broken:
        error = str(broken)
    world = simulation.world
    return Result(error, tuple(simulation.outcomes), world.sent, world.stale, tuple(world.trace))


@attrs.define(eq=False)
class _Simulation:
    rng: random.Random
    protocol: Protocol
    world: World = attrs.field(init=False)
    outcomes: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.world = World(
            self.rng, self.rng.choice([0.0, 0.02, 0.1]), self.rng.choice([10.0, 100.0, 1000.0])
        )

    async def run(self) -> None:
        """Run processes with faults, then one without."""
        try:
            await self._run()
        finally:
            self.world.over.set()

    async def _run(self) -> None:
        residual = self.rng.choice([0.0, 0.0, 0.0, _RESIDUAL_SHARE])
        async with asyncio.TaskGroup() as group:
            for _ in range(_SLOTS):
                group.create_task(self._launch_many(residual))
        self.world.share = 0.0
        # What is late has arrived by then, and each lease has ended.
        await asyncio.sleep(10 * TTL + self.world.slowness)
        self._check()
        if not self.world.stale:
            await self._finish()
        self._check()

    def _check(self) -> None:
        if self.world.broken is not None:
            raise self.world.broken

    async def _launch_many(self, residual: float) -> None:
        """Start one process after the other, as a scheduler does."""
        for _ in range(_LAUNCHES):
            await asyncio.sleep(self.rng.expovariate(1 / 60))
            await self._launch(residual)

    async def _launch(self, residual: float) -> None:
        """Start a process, freeze it a few times, and perhaps kill it."""
        rng = self.rng
        process = Process(
            self.world,
            rate=rng.uniform(_SLOWEST, _FASTEST),
            counts_sleep=not self.protocol.sleeps_uncounted,
            residual=residual,
        )
        source = frozenset(rng.sample(IDS, rng.randrange(len(IDS))))
        engine = asyncio.create_task(Engine(process, source, self.protocol).sync())
        for _ in range(rng.randrange(4)):
            await asyncio.wait([engine], timeout=rng.expovariate(1 / 30))
            process.freeze(rng.uniform(0, 3 * TTL))
        patience = rng.expovariate(1 / 60) if rng.random() < 0.5 else 2000.0
        await asyncio.wait([engine], timeout=patience)
        process.is_dead = True
        if engine.done():
            with contextlib.suppress(BaseException):
                self.outcomes.append(engine.result())
        else:
            self.outcomes.append("killed")

    async def _finish(self) -> None:
        """Run one process without faults: the audience is exact, and the next run sends nothing."""
        source = frozenset(self.rng.sample(IDS, len(IDS) // 2))
        outcome = await Engine(Process(self.world), source, self.protocol).sync()
        self._check()
        self.outcomes.append(outcome)
        if not self.world.members == self.world.recorded() == source:
            self.world.fail(f"after a run without faults ({outcome}) the members are not exact")
        sent = self.world.sent
        again = await Engine(Process(self.world), source, self.protocol).sync()
        if again != "unchanged" or self.world.sent != sent:
            self.world.fail(f"the next run sends again ({again})")
