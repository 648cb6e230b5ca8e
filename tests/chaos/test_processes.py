from __future__ import annotations

import contextlib
import itertools
import random
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from aiobatch.cli._exit_codes import ExitCode

from .chaos_env import Ground, Output, ids, quick_sandbox, served

PART = "Processes"
EXACT = "in the end there are exactly the source's members"


def _sync(ground: Ground, source: Path, *more: str) -> list[str]:
    """Return the arguments of a sync."""
    return ["sync", "vip", str(source), "--create", "--state", str(ground.state), *more]


@pytest.mark.fire(
    part=PART,
    done="`aiobatch sync` is killed (-9) again and again; of requests, 10 % each meet 503, a reset, are lost",
    holds=f"{EXACT}; what is remembered is what is there",
)
def test_killed_again_and_again(ground: Ground) -> None:
    """Whenever it is killed, the next run settles what is open, with a source that has changed meanwhile."""
    kills, draw = ground.case.size(3, 100), random.Random(1)
    members = ids(ground.case.size(60_000, 120_000))
    halves = members[: len(members) // 2], members[len(members) // 2 :]
    sources = [ground.write(half, f"half-{n}.csv") for n, half in enumerate(halves)]
    faults = {"503": 0.1, "reset": 0.1, "lost": 0.1}
    killed = 0
    with served(quick_sandbox(indexing_delay=(0.05, 0.5), faults=faults)) as sandbox:
        for run in itertools.count():
            argv = _sync(ground, sources[run % 2], "--allow-removals", str(len(members)))
            process = ground.start(sandbox.url, *argv)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0.3, 3))
            process.kill()
            killed += ground.finish(process).code == -signal.SIGKILL
            if killed == kills:
                break
        sandbox.clear_faults()
        for source, half in zip(sources, halves, strict=True):
            argv = _sync(ground, source, "--allow-removals", str(len(members)))
            assert ground.run(sandbox.url, *argv).code == ExitCode.DONE
            assert set(sandbox.members("vip")) == set(half)
        calls = sandbox.operation_counts["update"]
        assert ground.run(sandbox.url, *argv).code == ExitCode.DONE
        assert sandbox.operation_counts["update"] == calls
        assert ground.run(sandbox.url, "verify", "vip", "--state", str(ground.state)).code == ExitCode.DONE
    ground.case.tell(
        f"{killed} runs killed, {run + 1 - killed} came through between them; {calls:,} write calls; "
        "0 ids lost, 0 strays"
    )


@pytest.mark.fire(
    part=PART,
    done="processes race for one audience, each with another source",
    holds="one goes on, the others are refused at once with exit code 12, and told by whom; exact",
)
def test_a_race(ground: Ground) -> None:
    """Whoever comes second is refused, and what is remembered is what is there."""
    rounds, racers = ground.case.size(1, 25), 4
    members = ids(12_000)
    sources = [ground.write(members[n * 500 :], f"racer-{n}.csv") for n in range(racers)]
    codes = []
    with served(quick_sandbox(indexing_delay=(0.1, 0.3))) as sandbox:
        for _ in range(rounds):
            racing = [ground.start(sandbox.url, *_sync(ground, source)) for source in sources]
            outputs = [ground.finish(process) for process in racing]
            codes += [output.code for output in outputs]
            assert {output.code for output in outputs} <= {ExitCode.DONE, ExitCode.LOCKED}
            assert ExitCode.DONE in {output.code for output in outputs}
            for output in outputs:
                if output.code == ExitCode.LOCKED:
                    assert re.search(r"locked by process \d+ of .*\(sync vip\)", output.err)
        assert ground.run(sandbox.url, *_sync(ground, sources[0])).code == ExitCode.DONE
        assert set(sandbox.members("vip")) == set(members)
    assert ExitCode.LOCKED in codes
    ground.case.tell(
        f"{codes.count(ExitCode.DONE)} came through, {codes.count(ExitCode.LOCKED)} were refused"
    )


@attrs.frozen
class Cap:
    """A way to give a process little memory.

    Attributes:
        what: Of what it may have little.
        sizes: Megabytes, ever more.
        under: Megabytes -> what a command runs under to have no more.
    """

    what: str
    sizes: tuple[int, ...]
    under: Callable[[int], Sequence[str]]


@pytest.fixture
def cap(ground: Ground) -> Iterator[Cap]:
    """Give the way: in the whole campaign a control group if one can be made, else what takes no rights."""
    with contextlib.ExitStack() as stack:

        def under(megabytes: int) -> Sequence[str]:
            group = stack.enter_context(_control_group(megabytes))
            return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]

        if ground.case.full and _has_control_groups():
            yield Cap("memory", tuple(range(64, 1024, 32)), under)
        else:
            yield Cap("addresses", tuple(256 << n for n in range(10)), _limit_addresses)


def _limit_addresses(megabytes: int) -> Sequence[str]:
    """Return what a command runs under to have so much address space (RLIMIT_AS)."""
    return ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(megabytes << 10)]


def _has_control_groups() -> bool:
    try:
        with _control_group(64):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _control_group(megabytes: int) -> Iterator[Path]:
    """Make a control group; of the first version, or of the second where memory is delegated."""
    old, new = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (old, "memory.limit_in_bytes") if old.is_dir() else (new, "memory.max")
    group = Path(tempfile.mkdtemp(prefix="aiobatch-", dir=root))
    try:
        with (group / limit).open("r+", encoding="ascii") as file:  # which nobody can make
            file.write(str(megabytes << 20))
        yield group
    finally:
        group.rmdir()


# Exit codes of who is killed: by the kernel, or by a library that can do nothing without memory.
_KILLED = {-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, 127}


@pytest.mark.fire(
    part=PART,
    done="the process may have little memory, as in a small pod, then a little more, until it comes through",
    holds=f"it comes through, says what it lacks, or is killed by the kernel; the next run goes on; {EXACT}",
)
def test_little_memory(ground: Ground, cap: Cap) -> None:
    """A pod that is too small is killed; what it had journaled is gone on with in a larger one."""
    members = ids(ground.case.size(30_000, 3_000_000))
    first, second = (
        ground.write(members[len(members) // 20 :], "first.csv"),
        ground.write(members, "second.csv"),
    )
    told: list[str] = []
    with served(quick_sandbox()) as sandbox:
        for source in (first, second) if ground.case.full else (second,):
            for megabytes in cap.sizes:
                argv = _sync(ground, source, "--memory-limit", "128MB")
                output = ground.run(sandbox.url, *argv, under=cap.under(megabytes))
                told.append(f"{megabytes:,} MB: {output.code}")
                if output.code == ExitCode.DONE:
                    break
                _check_lack(output)
        assert set(sandbox.members("vip")) == set(members)
    ground.case.tell(f"{len(members):,} ids; exit codes by size of {cap.what}: {', '.join(told)}")


def _check_lack(output: Output) -> None:
    """Check that a process was killed, or says what it lacks."""
    assert output.code in {ExitCode.FAILED, *_KILLED}, output.err
    assert "a defect of aiobatch" not in output.err
    if output.code == ExitCode.FAILED:
        assert re.search(r"^aiobatch: .*(memory|thread)", output.err, re.MULTILINE), output.err
