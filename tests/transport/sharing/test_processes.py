"""Real processes that share a limit, some of which are killed."""

from __future__ import annotations

import asyncio
import itertools
import sys
import textwrap
from pathlib import Path

from aiobatch._clock import SystemClock
from aiobatch.transport._sharing._file import FileStore
from aiobatch.transport._sharing._state import SharedState

RATE = 50.0
PROGRAM = textwrap.dedent("""
    import asyncio, sys, time
    from pathlib import Path
    from aiobatch import AudienceClient, Limits, Project
    from aiobatch.testing import FakeTransport, json_response

    async def main():
        directory, rate, count = sys.argv[1:]

        def answer(request):
            print(time.monotonic(), flush=True)
            return json_response(200, {"indexing_state": "APPLIED", "name": "vip"})

        limits = Limits(rate=float(rate), shared=directory)
        target = Project(rest_api_key="rest", project_key="project")
        async with AudienceClient(target, transport=FakeTransport(answer), limits=limits) as client:
            for _ in range(int(count)):
                await client.view("vip")

    asyncio.run(main())
""")


async def start(directory: Path, count: int) -> asyncio.subprocess.Process:
    """Start a process that sends so many requests one after the other."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(directory), str(RATE), str(count), stdout=asyncio.subprocess.PIPE
    )


async def test_processes_keep_their_distance_while_others_are_killed(tmp_path: Path) -> None:
    """No two requests of any two processes come closer than half a slot, and a kill blocks no one."""
    victims = [await start(tmp_path, 100_000) for _ in range(2)]
    survivors = [await start(tmp_path, 30) for _ in range(3)]
    lines: list[bytes] = []
    for victim in victims:
        assert victim.stdout is not None
        lines += [await victim.stdout.readline() for _ in range(10)]
        victim.kill()
    for output, _ in await asyncio.gather(*(one.communicate() for one in (*victims, *survivors))):
        lines += output.split(b"\n")
    times = sorted(float(line) for line in lines if line.strip())

    assert [one.returncode for one in survivors] == [0, 0, 0]
    assert len(times) >= 3 * 30 + 20
    # A process may be late between its permission and its request, so the average is what is certain.
    assert (len(times) - 1) / (times[-1] - times[0]) <= RATE


async def test_slots_of_processes_are_never_given_twice(tmp_path: Path) -> None:
    """Whatever the processes did, the slots in the file follow each other."""
    store = FileStore(tmp_path, "slots", SystemClock(), RATE)
    await store.open()
    others = [FileStore(tmp_path, "slots", SystemClock(), RATE) for _ in range(8)]
    for other in others:
        await other.open()

    def reserve(state: SharedState, _now: float) -> float | None:
        return state.ask(0.0, 1.0, "user", None)[0]

    async def many(one: FileStore) -> list[float]:
        return [(await one.transact(reserve)).result for _ in range(20)]

    def in_thread(one: FileStore) -> list[float]:
        return asyncio.run(many(one))

    groups = await asyncio.gather(many(store), *(asyncio.to_thread(in_thread, one) for one in others))
    slots = sorted(slot for group in groups for slot in group if slot is not None)
    assert len(slots) == len(set(slots)) >= 179
    assert all(late - early > 1 for early, late in itertools.pairwise(slots))
